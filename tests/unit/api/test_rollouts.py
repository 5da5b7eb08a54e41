"""Rollouts over the API: what is refused, all of it at once, and what a document says."""

from __future__ import annotations

from typing import Any

import pytest

from moorings.state.transaction import DEPLOYMENT, ENDPOINT

from .conftest import Served

ROLLOUTS = "/onlineEndpoints/shop/rollouts"
GOOD: dict[str, Any] = {
    "from": "Blue",
    "to": "green",
    "steps": [10, 100],
    "every": "30s",
    "guard": "p99<1.2x",
}


def ready(
    shop: Served, *, traffic: dict[str, int] | None = None, serving: tuple[str, ...] = ("blue", "green")
) -> None:
    """Endpoint `shop` as the controller would have brought it."""
    with shop.database.write() as tx:
        tx.put(ENDPOINT, "shop", {"name": "shop", "traffic": {"blue": 100} if traffic is None else traffic})
        for name in ("blue", "green"):
            row = tx.put(DEPLOYMENT, f"shop/{name}", {"name": name, "endpoint_name": "shop"})
            tx.set_status(row, {"served": {"revision": "abc"}} if name in serving else {})


async def test_a_rollout_is_made_shown_and_told_what_to_do(shop: Served) -> None:
    ready(shop)
    answer = await shop.ask("POST", ROLLOUTS, GOOD)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made["name"] == "r1"
    shown = made["properties"]
    assert (shown["from"], shown["to"], shown["steps"], shown["phase"]) == (
        "blue",
        "green",
        [10, 100],
        "Pending",
    )
    for verb in ("pause", "resume", "abort"):
        assert (await shop.ask("POST", f"{ROLLOUTS}/latest/{verb}")).status_code == 200
    listed = (await shop.ask("GET", ROLLOUTS)).json()["value"]
    assert [each["name"] for each in listed] == ["r1"]
    assert ("rollout", "shop/r1") in shop.hints


async def test_everything_that_is_wrong_is_said(shop: Served) -> None:
    ready(shop)
    body = {
        **GOOD,
        "to": "pink",
        "steps": "10,5",
        "guard": "p42<1ms",
        "name": "a b",
        "speed": 9,
        "tolerance": 2,
    }
    answer = await shop.ask("POST", ROLLOUTS, body)
    assert answer.status_code == 400
    wrong = answer.json()["error"]
    assert wrong["code"] == "RolloutInvalid"
    assert {each["target"] for each in wrong["details"]} == {
        "to",
        "steps",
        "guard",
        "name",
        "speed",
        "tolerance",
    }


@pytest.mark.parametrize(
    "given, says",
    [
        ({"traffic": {}}, "nothing to shift"),
        ({"traffic": {"blue": 60, "green": 40}}, "takes 40 %"),
        ({"serving": ("blue",)}, "green does not serve yet"),
    ],
)
async def test_an_endpoint_that_is_not_ready_for_it(shop: Served, given: dict[str, Any], says: str) -> None:
    ready(shop, **given)
    answer = await shop.ask("POST", ROLLOUTS, GOOD)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "RolloutConflict")
    assert says in answer.json()["error"]["message"]


async def test_what_is_not_there(shop: Served) -> None:
    answer = await shop.ask("GET", "/onlineEndpoints/none/rollouts")
    assert answer.json()["error"]["code"] == "EndpointNotFound"
    ready(shop)
    for name in ("latest", "r7"):
        answer = await shop.ask("GET", f"{ROLLOUTS}/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "RolloutNotFound")
    assert (await shop.ask("POST", ROLLOUTS, GOOD)).status_code in (200, 201)
    answer = await shop.ask("GET", f"{ROLLOUTS}/latest/report")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "RolloutNotFound")
    assert "--mirror-first" in answer.text
