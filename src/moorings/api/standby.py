"""What a daemon answers that does not lead: it reads, and changes nothing. ASGI in front of the API."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from moorings.api.audited import READS
from moorings.api.errors import response_of
from moorings.errors.exceptions import failure

RETRY_AFTER_S = 1


class Standby:
    def __init__(self, app: ASGIApp, leads: Callable[[], bool], leader: Callable[[], str]) -> None:
        """`leader`: who leads, as far as is known; may be empty."""
        self._app = app
        self._leads = leads
        self._leader = leader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READS or self._leads():
            await self._app(scope, receive, send)
            return
        who = self._leader()
        message = f"{scope['method']} is for the daemon that leads: {who or 'nobody does at the moment'}"
        response = response_of(failure("NotLeader", message))
        response.headers["retry-after"] = str(RETRY_AFTER_S)
        await response(scope, receive, send)
