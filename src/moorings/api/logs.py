"""Logs of deployments over HTTP: the last lines, or a stream of them. What there is to see is in `observe/stream.py`."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from moorings.api.bodies import Json, JsonBody
from moorings.api.resources import Resources
from moorings.errors.exceptions import Failure, MooringsError, error
from moorings.errors.sentence import sentence
from moorings.observe.following import follow
from moorings.observe.query import ALL, LogQuery, parse
from moorings.observe.stream import LogEntry, LogStream
from moorings.spec.base import NAME_PATTERN

TRY_LATER = (
    "The {container} container of deployment {deployment} has not been up yet. "
    "Try again in a moment; what it waits for: moor online-deployment show -e {endpoint} -n {deployment}\n"
)
NEVER_UP = (
    "The {container} container of deployment {deployment} was never up: the deployment failed before, with ({code}) "
    "{message}\nAll that is known: moor online-deployment get-logs -e {endpoint} -n {deployment}\n"
    "To see it start by itself, deploy it locally: moor online-deployment create --local -f <deployment.yml>\n"
)
ALIVE_PERIOD_S = 10.0
"""How often who follows is sent an empty line, when there is nothing else."""
END = "end"
"""The only key of the last line of a stream: one that ends without it has broken."""
_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True)
class Place:
    """Whose logs are meant."""

    owner: str
    failed: Failure | None
    """What the deployment has failed with, if it has."""
    uid: str = ""


@dataclass(frozen=True)
class DeploymentLogs:
    """`Resources` say whether a deployment is there; the stream has what was written of it."""

    resources: Resources
    stream: LogStream

    def place(self, endpoint: str, deployment: str, query: LogQuery) -> Place:
        """Raises `EndpointNotFound` and `DeploymentNotFound`, the second with how to read what is kept."""
        if query.deleted:
            if not (_NAME.fullmatch(endpoint) and _NAME.fullmatch(deployment)):
                raise _missing(endpoint, deployment)
            return Place(f"{endpoint}/{deployment}", None)
        try:
            row, _ = self.resources.deployment(endpoint, deployment)
        except MooringsError as problem:
            owner = f"{endpoint}/{deployment}"
            names = _NAME.fullmatch(endpoint) and _NAME.fullmatch(deployment)
            if names and self.stream.journal.graves(owner):
                command = f"moor online-deployment get-logs -e {endpoint} -n {deployment} --deleted"
                fix = sentence("It was deleted; its logs are kept: {command}", command=command)
                failed = problem.failure
                raise error(failed.code, failed.message, target=failed.target, fix=fix) from None
            raise
        found = row.status.get("gave_up")
        return Place(row.name, Failure.from_json(found["failure"]) if found else None, row.uid)

    async def last(self, endpoint: str, deployment: str, query: LogQuery) -> list[LogEntry] | str:
        """Lines, or what to tell in their place."""
        place = await asyncio.to_thread(self.place, endpoint, deployment, query)
        found = await self.stream.last(place.owner, query)
        if found is not None:
            return found
        if query.deleted:
            raise _missing(endpoint, deployment)
        fields = {"container": query.container, "endpoint": endpoint, "deployment": deployment}
        if place.failed is not None:
            return NEVER_UP.format(**fields, code=place.failed.code, message=place.failed.message)
        return TRY_LATER.format(**fields)

    def exists(self, place: Place) -> Callable[[], bool]:
        """Whether the deployment is still there, and not another one of its name; to be asked on a thread."""
        endpoint, _, deployment = place.owner.partition("/")

        def look() -> bool:
            try:
                row, _ = self.resources.deployment(endpoint, deployment)
            except MooringsError as problem:
                if problem.failure.code in ("EndpointNotFound", "DeploymentNotFound"):
                    return False
                raise
            return row.uid == place.uid

        return look


def routes(logs: DeploymentLogs) -> APIRouter:
    """`getLogs` as other clients know it, with more that may be asked for; `followLogs`: one JSON object a line."""
    router = APIRouter(prefix="/onlineEndpoints/{endpoint}/deployments/{deployment}")

    @router.post("/getLogs")
    async def get_logs(endpoint: str, deployment: str, body: JsonBody | None = None) -> Json:
        asked = body or {}
        query = parse(asked, time.time())
        found = await logs.last(endpoint, deployment, query)
        if isinstance(found, str):
            return {"content": found, **({"lines": []} if asked.get("structured") else {})}
        if asked.get("structured"):
            return {"content": "", "lines": [entry.to_json() for entry in found]}
        return {"content": as_text(found, query)}

    @router.post("/followLogs")
    async def follow_logs(endpoint: str, deployment: str, body: JsonBody | None = None) -> StreamingResponse:
        query = parse({**(body or {}), "deleted": False}, time.time())
        place = await asyncio.to_thread(logs.place, endpoint, deployment, query)
        entries = follow(logs.stream, place.owner, query, logs.exists(place))
        return StreamingResponse(_lines(entries), media_type="application/x-ndjson")

    return router


def as_text(entries: Iterable[LogEntry], query: LogQuery) -> str:
    """One container: what it wrote, as it is. Everything: each line begins with its time, its phase and its instance."""
    if query.container == ALL:
        return "".join(f"{e.at} {e.phase} {e.instance or '-'} {e.text}\n" for e in entries)
    return "".join(f"{entry.text}\n" for entry in entries)


async def _lines(entries: AsyncIterator[LogEntry | None]) -> AsyncIterator[bytes]:
    yield b"\n"  # the answer begins now, not with the first line
    quiet_since = time.monotonic()
    async for entry in entries:
        if entry is not None:
            yield json.dumps(entry.to_json(), ensure_ascii=False).encode() + b"\n"
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since >= ALIVE_PERIOD_S:
            yield b"\n"
            quiet_since = time.monotonic()
    yield json.dumps({END: "deleted"}).encode() + b"\n"


def _missing(endpoint: str, deployment: str) -> MooringsError:
    message = f"no logs are kept of a deleted deployment {deployment} of endpoint {endpoint}"
    fields = {"endpoint": endpoint, "deployment": deployment}
    return error("DeploymentNotFound", message, target=f"{endpoint}/{deployment}", fields=fields)
