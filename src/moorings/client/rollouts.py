"""Rollouts, through the control API. Knows no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from moorings.client.client import Client

LATEST = "latest"
POLL_S = 0.5


def start(client: Client, endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Raises RolloutInvalid with every problem of `body`, RolloutConflict when the endpoint is not ready for it."""
    return client.call("POST", _path(client, endpoint), body)[1]


def show(client: Client, endpoint: str, name: str = LATEST) -> dict[str, Any]:
    return client.call("GET", f"{_path(client, endpoint)}/{name}")[1]


def listed(client: Client, endpoint: str) -> list[dict[str, Any]]:
    """The newest first."""
    return list(client.call("GET", _path(client, endpoint))[1].get("value") or ())


def report(client: Client, endpoint: str, name: str = LATEST) -> dict[str, Any]:
    """Answers to copies of requests beside those that callers got."""
    return client.call("GET", f"{_path(client, endpoint)}/{name}/report")[1]


def tell(client: Client, endpoint: str, name: str, verb: str) -> dict[str, Any]:
    """`verb`: pause, resume or abort."""
    return client.call("POST", f"{_path(client, endpoint)}/{name}/{verb}")[1]


def wait(
    client: Client,
    endpoint: str,
    name: str,
    heard: Callable[[dict[str, Any]], None],
    *,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Until it has ended or is paused; `heard` gets each document. With `timeout_s` the document at that time."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        found = show(client, endpoint, name)
        heard(found)
        properties = found.get("properties") or {}
        if properties.get("ended") or properties.get("phase") == "Paused":
            return found
        if deadline is not None and time.monotonic() >= deadline:
            return found
        time.sleep(POLL_S)


def _path(client: Client, endpoint: str) -> str:
    return f"{client.workspace_path}/onlineEndpoints/{endpoint}/rollouts"
