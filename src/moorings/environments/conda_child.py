"""Solving and installing conda packages, as a program of its own: `python -m moorings.environments.conda_child`.

The only module that knows py-rattler. It runs as a process, so that a build that is cancelled ends at once and the
daemon never holds a solver's memory. One JSON document in (a file), one out (standard output); standard error is for
people. It must not know recipes, keys and folders of environments.

    solve <request.json> <lock.yml>     {"channels", "specs", "cache"} -> {"packages": [...]}; the lock is written
    install <lock.yml> <prefix> <cache> -> {"variables": {...}}, those that activating it would set
    probe <channel>...                  -> {}: something answers for each of them

Every failure that has a name is a document as well: {"failed": <one of FAILURES>, "message", "details": [...]}.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moorings.environments.conda_activation import activation_variables

UNREACHABLE = "unreachable"
UNKNOWN_PACKAGE = "unknown_package"
UNKNOWN_VERSION = "unknown_version"
UNSATISFIABLE = "unsatisfiable"
BAD_SPEC = "bad_spec"
NOT_INSTALLED = "not_installed"
FAILURES = (UNREACHABLE, UNKNOWN_PACKAGE, UNKNOWN_VERSION, UNSATISFIABLE, BAD_SPEC, NOT_INSTALLED)

PROBE_TIMEOUT_S = 6.0
"""For the first answer of a channel; whatever it answers, it is there."""
SOLVE_TIMEOUT_S = 300
VERSIONS_NAMED = 8
DEFAULT_ENVIRONMENT = "default"


class NamedError(Exception):
    """A failure with a name: `details` has one line for each thing that is wrong."""

    def __init__(
        self, name: str, message: str, details: Sequence[str] = (), names: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.name = name
        self.details = list(details)
        self.names = list(names)
        """The packages or channels it is about."""


async def solve(request: dict[str, Any], lock: Path) -> dict[str, Any]:
    """Raises NamedError."""
    import rattler
    from rattler.exceptions import GatewayError, InvalidChannelError, SolverError

    try:
        channels = [rattler.Channel(name) for name in request["channels"]]
    except InvalidChannelError as failure:
        raise NamedError(UNREACHABLE, str(failure), names=request["channels"]) from failure
    await asyncio.to_thread(_probe, [(one.name or one.base_url, one.base_url) for one in channels])
    specs = _specs(request["specs"])
    gateway = rattler.Gateway(cache_dir=Path(request["cache"]) / "repodata")
    platforms = [rattler.Platform.current(), rattler.Platform("noarch")]
    try:
        await _each_exists(gateway, channels, platforms, specs)
        records = await rattler.solve(
            channels, specs, gateway=gateway, virtual_packages=rattler.VirtualPackage.detect()
        )
    except GatewayError as failure:
        lines = [line for line in str(failure).splitlines() if line.strip()]
        raise NamedError(UNREACHABLE, lines[0], lines, request["channels"]) from failure
    except SolverError as failure:
        lines = [line for line in str(failure).splitlines() if line.strip()]
        raise NamedError(UNSATISFIABLE, lines[0], lines) from failure
    _write_lock(lock, channels, records)
    return {
        "packages": [
            {
                "name": one.name.normalized,
                "version": str(one.version),
                "build": str(one.build),
                "subdir": one.subdir,
                "digest": (one.sha256 or one.md5 or b"").hex() or one.url,
                "python": one.noarch.python or any(each.split()[0] == "python" for each in one.depends),
            }
            for one in sorted(records, key=lambda one: one.name.normalized)
        ]
    }


def probe(names: Sequence[str]) -> dict[str, Any]:
    """Raises NamedError."""
    import rattler
    from rattler.exceptions import InvalidChannelError

    try:
        channels = [rattler.Channel(name) for name in names]
    except InvalidChannelError as failure:
        raise NamedError(UNREACHABLE, str(failure), names=names) from failure
    _probe([(one.name or one.base_url, one.base_url) for one in channels])
    return {}


def _probe(channels: list[tuple[str, str]]) -> None:
    """Raises NamedError for the first channel that nothing answers for."""
    import urllib.error  # here, as the daemon imports the names above and must stay small
    import urllib.request

    for name, url in channels:
        if url.startswith("file://"):
            continue
        request = urllib.request.Request(f"{url}noarch/repodata.json", method="HEAD")  # noqa: S310 - a channel
        try:
            urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S).close()  # noqa: S310 - a channel of the user
        except urllib.error.HTTPError as failure:
            failure.close()
        except (OSError, ValueError) as failure:
            reason = getattr(failure, "reason", failure)
            raise NamedError(
                UNREACHABLE, f"{name}: {reason}", [f"{name} ({url}): {reason}"], [name]
            ) from failure


def _specs(texts: Sequence[str]) -> list[Any]:
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    found, problems = [], []
    for text in texts:
        try:
            found.append(MatchSpec(text))
        except InvalidMatchSpecError as failure:
            problems.append(f"{text}: {failure}")
    if problems:
        raise NamedError(BAD_SPEC, problems[0], problems)
    return found


async def _each_exists(gateway: Any, channels: list[Any], platforms: list[Any], specs: list[Any]) -> None:
    """Whether there is any candidate for each spec by itself: what is missing can be named, all of it at once."""
    unknown: list[str] = []
    other: list[tuple[str, str]] = []
    for spec in specs:
        name = str(getattr(spec.name, "normalized", None) or "")
        if not name or name.startswith(
            "__"
        ):  # a pattern, or a property of the machine: the solver's to judge
            continue
        answer = await gateway.query(channels, platforms, [name], recursive=False)
        records = [record for source in answer for record in source]
        if not any(record.name.normalized == name for record in records):
            unknown.append(name)
        elif not any(spec.matches(record) for record in records):
            by_version = {str(record.version): record.version for record in records}
            newest = sorted(by_version, key=lambda text: by_version[text], reverse=True)[:VERSIONS_NAMED]
            other.append((name, f"{spec}: there is {', '.join(newest)}"))
    if unknown:
        details = [f"{name}: no channel has a package of this name" for name in unknown]
        details += [line for _, line in other]
        raise NamedError(UNKNOWN_PACKAGE, f"no channel has {', '.join(unknown)}", details, unknown)
    if other:
        details = [line for _, line in other]
        raise NamedError(UNKNOWN_VERSION, "; ".join(details), details, [name for name, _ in other])


def _write_lock(path: Path, channels: Sequence[Any], records: Sequence[Any]) -> None:
    import rattler
    from rattler.lock import LockChannel, LockFile, LockPlatform

    platform = LockPlatform(str(rattler.Platform.current()))
    lock = LockFile([platform])
    lock.set_channels(DEFAULT_ENVIRONMENT, [LockChannel(one.base_url) for one in channels])
    for record in records:
        lock.add_conda_package(DEFAULT_ENVIRONMENT, platform, record)
    lock.to_path(path)


async def install(lock: Path, prefix: Path, cache: Path) -> dict[str, Any]:
    """Raises NamedError."""
    import rattler
    from rattler.lock import LockFile

    environment = LockFile.from_path(lock).environment(DEFAULT_ENVIRONMENT)
    assert environment is not None, "the lock is one of ours"
    (records,) = environment.conda_repodata_records().values()
    for record in records:
        _tell(f"conda: {record.name.normalized} {record.version} {record.build}")
    try:
        await rattler.install(
            records, prefix, cache_dir=cache / "pkgs", show_progress=False, execute_link_scripts=False
        )
    except Exception as failure:
        lines = [line for line in str(failure).splitlines() if line.strip()]
        raise NamedError(NOT_INSTALLED, lines[0] if lines else repr(failure), lines) from failure
    variables = await asyncio.to_thread(activation_variables, prefix, _tell)
    return {"variables": variables}


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    try:
        if arguments[0] == "solve":
            request = json.loads(Path(arguments[1]).read_bytes())
            answer = asyncio.run(asyncio.wait_for(solve(request, Path(arguments[2])), SOLVE_TIMEOUT_S))
        elif arguments[0] == "probe":
            answer = probe(arguments[1:])
        else:
            answer = asyncio.run(install(*(Path(one) for one in arguments[1:4])))
    except NamedError as failure:
        answer = {
            "failed": failure.name,
            "message": str(failure),
            "details": failure.details,
            "names": failure.names,
        }
    except TimeoutError:
        message = f"no solution was found within {SOLVE_TIMEOUT_S} s: pin more versions in the conda file"
        answer = {"failed": UNSATISFIABLE, "message": message, "details": [message], "names": []}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # The library's threads may still be at work and call into an interpreter that is being taken down, which aborts.
    os._exit(code)
