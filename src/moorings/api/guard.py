"""The door of the TCP listener: tokens for whoever knows the secret, the API for tokens, uploads for signed addresses.

The unix socket has no door: the rights of its file are its guard. Knows no resource.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from moorings.api import error_pages
from moorings.api.caller_routes import is_open, sign_in
from moorings.api.callers import Callers
from moorings.api.errors import response_of
from moorings.api.language import listen
from moorings.errors.exceptions import failure
from moorings.lib.timing import Clock
from moorings.security.access import AccessKeys, issue, knows_identity, token_holds
from moorings.security.callers import CALLER, OWNER_CALLER, Caller
from moorings.spec.blob_places import BLOB_PATH

logger = logging.getLogger(__name__)

IDENTITY_PATH = "/msi/token"
IDENTITY_HEADER = "x-identity-header"
CALLED = "moorings.called"
"""Key in the scope: the ARM path by which the request names our workspace."""
ACCESS_PATH = "/clientAccess"
"""Below the workspace; hands out the secret, so it is served on the unix socket alone."""
_WORKSPACE = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices/workspaces/[^/]+",
    re.IGNORECASE,
)


class Guard:
    """ASGI in front of the control API and the blobs, for connections that anybody on this machine can make."""

    def __init__(
        self,
        api: ASGIApp,
        blobs: ASGIApp,
        keys: Callable[[], AccessKeys],
        clock: Clock,
        workspace: str,
        callers: Callers,
    ) -> None:
        """`workspace`: the ARM path of ours; `callers`: who else than its owner may come in."""
        self._callers = callers
        self._api = api
        self._blobs = blobs
        self._keys = keys
        self._clock = clock
        self._workspace = workspace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = str(scope["path"])
        listen(scope)
        if error_pages.PATH.fullmatch(path):
            await self._api(scope, receive, send)
        elif path.startswith(BLOB_PATH):
            await self._blobs(scope, receive, send)
        elif path == IDENTITY_PATH:
            await self._token(scope)(scope, receive, send)
        elif is_open(path):
            await (await sign_in(Request(scope, receive), self._callers))(scope, receive, send)
        elif (caller := await asyncio.to_thread(self._caller, scope)) is None:
            failed = failure(
                "AccessDenied", "the request carries no bearer token of this workspace", target=path
            )
            await response_of(failed)(scope, receive, send)
        elif path.rstrip("/").lower().endswith(ACCESS_PATH.lower()):
            failed = failure(
                "ResourceNotFound", f"{path} is served on the workspace's own socket alone", target=path
            )
            await response_of(failed)(scope, receive, send)
        else:
            scope[CALLER] = caller
            renamed = _renamed(scope, self._workspace)
            refused = await asyncio.to_thread(
                self._callers.refusal, caller, str(scope["method"]), str(renamed["path"])
            )
            if refused is not None:
                await response_of(refused)(scope, receive, send)
            else:
                await self._api(renamed, receive, send)

    def _caller(self, scope: Scope) -> Caller | None:
        """The owner, by a token for the workspace's secret; or somebody who was given roles."""
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        if token_holds(self._keys(), token.strip(), self._clock.now()):
            return OWNER_CALLER
        return self._callers.caller(token.strip())

    def _token(self, scope: Scope) -> JSONResponse:
        """What a managed identity's endpoint answers."""
        if scope["method"] != "GET":
            return _identity_error(405, "a token is asked for with GET")
        if not knows_identity(self._keys(), Headers(scope=scope).get(IDENTITY_HEADER)):
            return _identity_error(
                401, "the identity header is not that of this workspace: moor workspace env"
            )
        query = dict(parse_qsl(scope["query_string"].decode("ascii", "replace")))
        resource = query.get("resource", "https://management.azure.com")
        token = issue(self._keys(), resource, self._clock.now())
        body = {
            "access_token": token.text,
            "expires_on": str(token.expires_at),
            "resource": resource,
            "token_type": "Bearer",
        }
        return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _renamed(scope: Scope, workspace: str) -> Scope:
    """The request as one to our workspace: there is one on this machine, whatever a script calls it."""
    path = str(scope["path"])
    raw = (scope.get("raw_path") or path.encode()).decode("latin-1")
    called, called_raw = _WORKSPACE.match(path), _WORKSPACE.match(raw)
    if called is None or called_raw is None or "%2f" in called_raw[0].lower():
        return scope
    renamed = (workspace + raw[called_raw.end() :]).encode("latin-1")
    return {**scope, "path": workspace + path[called.end() :], "raw_path": renamed, CALLED: called[0]}


def in_our_name(scope: Scope, id_: object, workspace: str) -> object:
    """An id in a body, in the name of our workspace, where it has the one that the request calls it by."""
    called = scope.get(CALLED)
    if not isinstance(id_, str) or called is None or not id_.lower().startswith(f"{called.lower()}/"):
        return id_
    return workspace + id_[len(called) :]


def _identity_error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": "AccessDenied", "message": message}}, status_code=status)
