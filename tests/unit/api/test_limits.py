"""What the control API refuses before it looks for a route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from moorings.api.limits import MAX_BODY_BYTES, Limits

WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/P/workspaces/local"


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await JSONResponse({"bytes": len(body)})(scope, receive, send)


@pytest.fixture
async def ask() -> AsyncIterator[Any]:
    transport = httpx.ASGITransport(app=Limits(_echo, "local"))
    async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
        yield client.put


async def test_a_body_may_be_as_large_as_the_limit_and_no_larger(ask: Any) -> None:
    allowed = await ask(WORKSPACE, content=b"x" * MAX_BODY_BYTES)
    assert (allowed.status_code, allowed.json()) == (200, {"bytes": MAX_BODY_BYTES})
    refused = await ask(WORKSPACE, content=b"x" * (MAX_BODY_BYTES + 1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "RequestInvalid")


async def test_a_body_of_unknown_length_is_counted(ask: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * (1 << 20)

    refused = await ask(WORKSPACE, content=pieces())
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "RequestInvalid")


@pytest.mark.parametrize("tail", ["/onlineEndpoints/a%2fb", "/onlineEndpoints/a%2Fdeployments%2Fb"])
async def test_a_hidden_slash_leads_nowhere(ask: Any, tail: str) -> None:
    answer = await ask(WORKSPACE + tail, content=b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "RequestInvalid")


@pytest.mark.parametrize("name, status", [("local", 200), ("LOCAL", 200), ("other", 404), ("", 404)])
async def test_only_this_workspace_is_served(ask: Any, name: str, status: int) -> None:
    answer = await ask(WORKSPACE.replace("local", name) + "/onlineEndpoints/a", content=b"{}")
    assert answer.status_code == status
    if status == 404:
        assert json.loads(answer.content)["error"]["code"] == "ResourceNotFound"
