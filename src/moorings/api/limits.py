"""What is refused before a route is looked for: large bodies, slashes hidden in names, other workspaces. Knows no resource."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorings.api.errors import response_of
from moorings.api.language import listen
from moorings.errors.exceptions import Failure, failure

MAX_BODY_BYTES = 4 * 1024 * 1024
"""A body of the control API holds names and settings; models and code are taken in by their address."""
_HIDDEN_SLASH = re.compile(rb"%2f", re.IGNORECASE)
_WORKSPACE = re.compile(r"/workspaces/([^/]*)(?:/|$)")


class _TooLarge(Exception):  # noqa: N818 - never leaves this module
    pass


@dataclass(frozen=True)
class Limits:
    """ASGI middleware in front of all routes."""

    app: ASGIApp
    workspace: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        listen(scope)
        refused = self._refused(scope)
        if refused is not None:
            await response_of(refused)(scope, receive, send)
            return
        taken_bytes, answered = 0, False

        async def bounded() -> Message:
            nonlocal taken_bytes
            message = await receive()
            taken_bytes += len(message.get("body", b""))
            if taken_bytes > MAX_BODY_BYTES:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self.app(scope, bounded, noted)
        except _TooLarge:
            if not answered:
                await response_of(_too_large("more"))(scope, receive, send)

    def _refused(self, scope: Scope) -> Failure | None:
        path = str(scope["path"])
        if _HIDDEN_SLASH.search(scope.get("raw_path") or b""):
            message = "a name in the path holds a slash (%2F); no name of this workspace does"
            return failure("RequestInvalid", message, target=path)
        named = _WORKSPACE.search(path)
        if named and named[1].lower() != self.workspace.lower():
            message = f"this is workspace {self.workspace}, not {named[1]}"
            return failure("ResourceNotFound", message, target=path)
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > MAX_BODY_BYTES:
                return _too_large(value.decode())
        return None


def _too_large(found: str) -> Failure:
    return failure("RequestInvalid", f"the body has {found} bytes; at most {MAX_BODY_BYTES} are taken")
