"""Writes down who asked the control API for a change, and how it ended. ASGI in front of everything else.

Reads are left out, but for those that were refused: they change nothing. A record that cannot be written (disk full) is told in
the daemon's log and does not stop the request: a workspace that can no longer be repaired would be worse.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorings.api.permissions import needed
from moorings.lib.timing import Clock, rfc3339
from moorings.security.audit import AuditLog
from moorings.security.callers import caller_of
from moorings.spec.blob_places import BLOB_PATH

logger = logging.getLogger(__name__)

READS = ("GET", "HEAD", "OPTIONS")
REFUSED = (401, 403)
_LONGEST_BODY = 16 * 1024


class Audited:
    """`via` says how the request came: `socket` or `tls`."""

    def __init__(self, app: ASGIApp, log: AuditLog, clock: Clock, via: str) -> None:
        self._app = app
        self._log = log
        self._clock = clock
        self._via = via

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or str(scope["path"]).startswith(BLOB_PATH):
            await self._app(scope, receive, send)
            return
        seen: dict[str, Any] = {"status": 500, "body": b""}

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            elif message["type"] == "http.response.body" and seen["status"] >= 400:
                seen["body"] = (seen["body"] + message.get("body", b""))[:_LONGEST_BODY]
            await send(message)

        began = self._clock.monotonic()
        try:
            await self._app(scope, receive, watched)
        finally:
            if scope["method"] not in READS or seen["status"] in REFUSED:
                await self._note(scope, seen, self._clock.monotonic() - began)

    async def _note(self, scope: Scope, seen: dict[str, Any], took_s: float) -> None:
        caller, path, method = caller_of(scope), str(scope["path"]), str(scope["method"])
        known = seen["status"] != 401
        record = {
            "at": rfc3339(self._clock.now()),
            "who": caller.name if known else "unknown",
            "principal": caller.principal,
            "kind": caller.kind if known else "unknown",
            "via": self._via,
            "action": needed(method, path).action,
            "method": method,
            "target": path,
            "status": seen["status"],
            "result": "succeeded"
            if seen["status"] < 400
            else "refused"
            if seen["status"] in REFUSED
            else "failed",
            "code": _code(seen["body"]),
            "request_id": Headers(scope=scope).get("x-ms-client-request-id"),
            "ms": round(took_s * 1000, 1),
        }
        try:
            await asyncio.to_thread(self._log.add, record)
        except OSError as problem:
            logger.error("the audit log cannot be written: %s (%s %s)", problem, method, path)


def _code(body: bytes) -> str | None:
    try:
        found = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(found)
