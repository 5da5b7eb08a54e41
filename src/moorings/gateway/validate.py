"""Ask Envoy itself about an endpoint before it is published: `envoy --mode validate` on a static candidate.

That mode looks into nothing that is discovered, so the changed endpoints are written out as static clusters
and routes. It must not know what is serving.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moorings.gateway import envoy, envoy_listener, envoy_tokens

_TIMEOUT_S = 60.0
_PREFIX = ".candidate-"
_MAX_MESSAGE = 600


def candidate(bundles: Sequence[envoy.Bundle]) -> dict[str, Any]:
    """A bootstrap that holds the bundles' clusters and routes statically, behind the real filters. Pure."""
    clusters: list[dict[str, Any]] = []
    checks = [resource.body for bundle in bundles for resource in bundle.of_type(envoy.EXTENSION)]
    scopes: list[dict[str, Any]] = []
    for bundle in bundles:
        clusters += [_static_cluster(resource.body) for resource in bundle.of_type(envoy.CLUSTER)]
        tables = {resource.body["name"]: resource.body for resource in bundle.of_type(envoy.ROUTES)}
        for resource in bundle.of_type(envoy.SCOPE):
            scope = {key: value for key, value in resource.body.items() if key != "route_configuration_name"}
            scopes.append({**scope, "route_configuration": tables[resource.body["route_configuration_name"]]})
    if not scopes:
        # Envoy wants one; what all endpoints share is validated without any.
        scopes.append(
            {
                "name": "none",
                "key": {"fragments": [{"string_key": "none"}]},
                "route_configuration": {"name": "none"},
            }
        )
    manager = envoy_listener.connection_manager(
        {
            "name": "candidates",
            "scope_key_builder": envoy_listener.scope_key_builder(),
            "scoped_route_configurations_list": {"scoped_route_configurations": scopes},
        },
        envoy_tokens.static_filter(dict(checks[0]) if checks else None),
        access_log=None,
    )
    return {
        "node": {"id": "candidate", "cluster": "moorings"},
        "static_resources": {
            "listeners": [envoy_listener.listener("127.0.0.1", 0, manager)],
            "clusters": clusters,
        },
    }


class Validator:
    """Verdicts on bundles, remembered by content. `folder` holds candidates (0600: they contain keys)
    meanwhile."""

    def __init__(self, binary: Path, folder: Path, env: Mapping[str, str]) -> None:
        self._binary = binary
        self._folder = folder
        self._env = dict(env)
        self._verdicts: dict[str, str | None] = {}

    def sweep(self) -> None:
        """Remove candidates that a killed process has left."""
        for path in self._folder.glob(f"{_PREFIX}*"):
            path.unlink(missing_ok=True)

    def trust(self, bundles: Sequence[envoy.Bundle]) -> None:
        """Take bundles as valid that an earlier process has validated."""
        for bundle in bundles:
            self._verdicts[bundle.subject] = None

    async def refusals(self, bundles: Sequence[envoy.Bundle]) -> dict[str, str]:
        """Endpoint -> Envoy's message, for each bundle that Envoy would refuse."""
        unknown = [bundle for bundle in bundles if bundle.subject not in self._verdicts]
        if unknown:
            message = await self._ask(unknown)
            if message is None or len(unknown) == 1:
                self._verdicts.update({bundle.subject: message for bundle in unknown})
            else:
                for bundle in unknown:
                    self._verdicts[bundle.subject] = await self._ask([bundle])
        current = {bundle.subject: bundle.endpoint for bundle in bundles}
        # Only what is wanted now is remembered: the map would grow with every key that was ever made.
        self._verdicts = {key: verdict for key, verdict in self._verdicts.items() if key in current}
        return {current[key]: verdict for key, verdict in self._verdicts.items() if verdict is not None}

    async def _ask(self, bundles: Sequence[envoy.Bundle]) -> str | None:
        fd, name = tempfile.mkstemp(dir=self._folder, prefix=_PREFIX, suffix=".json")
        try:
            with os.fdopen(fd, "w") as handle:
                json.dump(candidate(bundles), handle)
            return await self._run(name)
        finally:
            Path(name).unlink(missing_ok=True)

    async def _run(self, path: str) -> str | None:
        process = await asyncio.create_subprocess_exec(
            str(self._binary), "--mode", "validate", "-c", path, "-l", "error",
            "--reject-unknown-dynamic-fields",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._env,
        )  # fmt: skip
        try:
            _, errors = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            errors = b""
        if process.returncode is None or process.returncode <= 0:
            # Valid; or it was killed, which says nothing: then Envoy's own answer to the update decides.
            return None
        return explain(errors.decode(errors="replace"), path)


def explain(output: str, path: str) -> str:
    """The telling line of Envoy's output, without the log prefix, the candidate's path and any key."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "rejected" in line.lower()] or lines
    # Such a message quotes the whole configuration first.
    broken = [line.removeprefix(": ") for line in lines if "validation failed" in line]
    text = (broken or telling or ["refused without a message"])[0]
    text = re.sub(r"^\[[^\]]*\](\[[^\]]*\])*\s*(\[[^\]]*\]\s*)?", "", text).replace(path, "the candidate")
    return re.sub(r"Bearer [^\"'\s]+", "Bearer ***", text)[:_MAX_MESSAGE]


def _static_cluster(body: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in body.items() if key not in ("type", "eds_cluster_config")}
    return {**rest, "type": "STATIC", "load_assignment": {"cluster_name": body["name"], "endpoints": []}}
