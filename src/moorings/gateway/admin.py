"""Envoy's admin interface over its unix socket: is it live, who is healthy, what is in flight. Reads; drains
on request."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from moorings.gateway.envoy_clusters import address_of
from moorings.gateway.envoy_listener import DISCOVERY_CLUSTER, LISTENER, SERVER_NAME

_TIMEOUT_S = 2.0
_TIME = re.compile(
    r'^envoy_cluster_upstream_rq_time_(sum|count)\{envoy_cluster_name="([^"]+)"\} ([0-9.e+-]+)$', re.MULTILINE
)
_LOAD = ("upstream_rq_active", "upstream_rq_total", "upstream_rq_pending_overflow")
_ACTIVE = "http.scoring.downstream_rq_active"


@dataclass(frozen=True)
class Load:
    """Requests of one cluster."""

    active: int
    """In flight now: running and waiting."""
    total: int
    """Passed on since Envoy was started."""
    refused: int
    """Turned away at the cap since then."""
    timed: int = 0
    """Answers whose time is known; Envoy adds them up every five seconds."""
    time_ms: float = 0.0
    """What those have taken together."""


class AdminError(Exception):
    """The admin interface did not give a whole answer: Envoy is starting, stopping or gone."""


@dataclass(frozen=True)
class Admin:
    """Asks one Envoy. Every method raises AdminError when there is no answer within 2 s."""

    socket: Path

    async def live(self) -> bool:
        """Envoy is LIVE and our listener is there: a refused listener alone leaves LIVE with nothing
        listening."""
        if (await self._ask("GET", "/ready")).strip() != b"LIVE":
            return False
        listeners = _json(await self._ask("GET", "/listeners?format=json"))
        return any(item.get("name") == LISTENER for item in listeners.get("listener_statuses", ()))

    async def healthy(self) -> dict[str, tuple[str, ...]]:
        """Cluster -> sorted addresses of hosts that pass their check and aren't ejected. Warming clusters are
        absent."""
        data = _json(await self._ask("GET", "/clusters?format=json"))
        return healthy_hosts(data)

    async def active_requests(self) -> int:
        """Requests in flight on the listener."""
        data = _json(await self._ask("GET", f"/stats?format=json&filter=^{_ACTIVE}$"))
        return sum(int(item.get("value", 0)) for item in data.get("stats", ()))

    async def loads(self) -> dict[str, Load]:
        """Cluster -> what it carries and has carried since Envoy was started."""
        names = "|".join(_LOAD)
        data = _json(await self._ask("GET", f"/stats?format=json&filter=^cluster%5C..*%5C.({names})$"))
        return loads_of(data)

    async def times(self) -> dict[str, tuple[int, float]]:
        """Cluster -> answers and the milliseconds they have taken together."""
        path = "/stats/prometheus?filter=^cluster%5C..*%5C.upstream_rq_time$"
        return times_of((await self._ask("GET", path)).decode())

    async def answered(self, cluster: str) -> dict[int, int]:
        """How often the workers of a cluster answered with which status since Envoy started; copies of mirrored requests
        are in it."""
        prefix = f"cluster.{cluster}.upstream_rq_"
        pattern = quote(f"^{re.escape(prefix)}[0-9]{{3}}$", safe="")
        data = _json(await self._ask("GET", f"/stats?format=json&filter={pattern}"))
        found = {str(item.get("name")): int(item.get("value", 0)) for item in data.get("stats", ())}
        return {int(name[-3:]): count for name, count in found.items() if name.startswith(prefix)}

    async def drain(self) -> None:
        """Close connections as their requests end; requests in flight finish."""
        await self._ask("POST", "/drain_listeners?graceful&skip_exit")

    async def reopen_logs(self) -> None:
        """Write on in new files after the old ones have been renamed."""
        await self._ask("POST", "/reopen_logs")

    async def _ask(self, method: str, path: str) -> bytes:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
                return await _exchange(reader, writer, method, path)
        except (OSError, TimeoutError, ValueError, EOFError) as problem:
            raise AdminError(str(problem)) from problem


async def answers(bind: str, port: int) -> bool:
    """Whether a request to the scoring port is answered by this gateway's listener."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(bind, port)
            writer.write(b"GET / HTTP/1.1\r\nHost: moorings-probe\r\nConnection: close\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
    except (OSError, TimeoutError, EOFError, ValueError):
        return False
    return f"server: {SERVER_NAME}".encode() in head.lower()


def healthy_hosts(data: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The `/clusters` document as cluster -> addresses of healthy hosts. Pure."""
    found: dict[str, tuple[str, ...]] = {}
    for cluster in data.get("cluster_statuses", ()):
        if cluster["name"] == DISCOVERY_CLUSTER:
            continue
        hosts = [
            address_of(host["address"]) for host in cluster.get("host_statuses", ()) if _is_healthy(host)
        ]
        found[cluster["name"]] = tuple(sorted(hosts))
    return found


def loads_of(data: dict[str, Any]) -> dict[str, Load]:
    """The `/stats` document as cluster -> load. Pure."""
    found: dict[str, dict[str, int]] = {}
    for item in data.get("stats", ()):
        parts = str(item.get("name", "")).split(".")
        if len(parts) == 3 and parts[2] in _LOAD and parts[1] != DISCOVERY_CLUSTER:
            found.setdefault(parts[1], {})[parts[2]] = int(item.get("value", 0))
    return {name: Load(*(values.get(key, 0) for key in _LOAD)) for name, values in found.items()}


def times_of(text: str) -> dict[str, tuple[int, float]]:
    """The histogram of answer times as cluster -> how many, and their sum in milliseconds. Pure."""
    found: dict[str, dict[str, float]] = {}
    for part, cluster, value in _TIME.findall(text):
        found.setdefault(cluster, {})[part] = float(value)
    return {name: (int(of["count"]), of["sum"]) for name, of in found.items() if len(of) == 2}


def _is_healthy(host: dict[str, Any]) -> bool:
    status = dict(host.get("health_status", {}))
    return status.pop("eds_health_status", "HEALTHY") == "HEALTHY" and not any(status.values())


def _json(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError as problem:
        raise AdminError(f"not JSON: {body[:100]!r}") from problem
    return data if isinstance(data, dict) else {}


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str
) -> bytes:
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in answer.split(b"\r\n", 1)[0]:
            raise ValueError(answer.split(b"\r\n", 1)[0].decode(errors="replace"))
        if b"transfer-encoding: chunked" not in answer:
            return await reader.read()
        body = bytearray()
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        return bytes(body)
    finally:
        writer.close()
