"""Autoscale settings over the API: in the ecosystem's shape, with quota held for the most they allow."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from moorings.spec.status import READY
from moorings.state.transaction import DEPLOYMENT, OperationStatus, Resource

from .conftest import WS, Served

GROUP = WS.partition("/providers/")[0]
AT = f"{GROUP}/providers/Microsoft.Insights/autoscaleSettings"
BLUE = "/onlineEndpoints/shop/deployments/blue"
ELASTIC = {"scaleType": "TargetUtilization", "minInstances": 1, "maxInstances": 4, "pollingInterval": "PT1S"}


def rule(**changes: Any) -> dict[str, Any]:
    return {
        "metricTrigger": {
            "metricName": "CpuUtilizationPercentage",
            "metricResourceUri": f"{WS}{BLUE}",
            "timeGrain": "PT1M",
            "statistic": "Average",
            "timeWindow": "PT5M",
            "timeAggregation": "Average",
            "operator": "GreaterThan",
            "threshold": 70,
            **changes,
        },
        "scaleAction": {"direction": "Increase", "type": "ChangeCount", "value": "2", "cooldown": "PT1H"},
    }


def setting(most: int = 5, *, enabled: bool = True, target: str = BLUE, **changes: Any) -> dict[str, Any]:
    profile = {
        "name": "default",
        "capacity": {"minimum": "2", "maximum": str(most), "default": "2"},
        "rules": [rule()],
        **changes,
    }
    return {
        "location": "local",
        "tags": {},
        "properties": {"enabled": enabled, "targetResourceUri": f"{WS}{target}", "profiles": [profile]},
    }


async def put(shop: Served, name: str = "s", **changes: Any) -> httpx.Response:
    return await shop.ask("PUT", f"/{AT}/{name}", setting(**changes))


def row_of(shop: Served) -> Resource:
    with shop.database.read() as tx:
        row = tx.resource(DEPLOYMENT, "shop/blue")
        assert row is not None
        return row


def code_of(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}"


async def test_a_setting_comes_back_as_it_was_sent_and_goes(shop: Served) -> None:
    made = await put(shop)
    assert made.status_code == 201, made.text
    body = made.json()
    assert body["id"].endswith("/providers/Microsoft.Insights/autoscaleSettings/s")
    (profile,) = body["properties"]["profiles"]
    assert profile["capacity"] == {"minimum": "2", "maximum": "5", "default": "2"}
    assert profile["rules"] == [rule()]
    assert (await shop.ask("GET", f"/{AT}/S")).json() == body
    assert (await shop.ask("GET", f"/{AT}")).json()["value"] == [body]
    again = await shop.ask("PUT", f"/{AT}/s", body)
    assert (again.status_code, again.json()) == (200, body)
    changed = await shop.ask("PATCH", f"/{AT}/s", {"properties": {"enabled": False}})
    assert changed.json()["properties"]["enabled"] is False
    assert (await shop.ask("DELETE", f"/{AT}/s")).status_code == 200
    assert (await shop.ask("DELETE", f"/{AT}/s")).status_code == 204
    assert code_of(await shop.ask("GET", f"/{AT}/s")) == "404 AutoscaleNotFound"


async def test_quota_is_held_for_the_most_it_allows(shop: Served) -> None:
    shop.capacity = type(shop.capacity)(40, 1000 << 30, 0, 1, 1)
    assert code_of(await put(shop, most=10)) == "503 OutOfCapacity"
    assert row_of(shop).autoscale is None, "a refused setting leaves nothing behind"
    assert (await put(shop, most=5)).status_code == 201
    assert code_of(await shop.deployment("green", capacity=4)) == "503 OutOfCapacity", "6 x 4 of 40 are held"
    assert (await shop.ask("DELETE", f"/{AT}/s")).status_code == 200
    shop.say(DEPLOYMENT, "shop/blue", {"held": {"generation": 99, "counted": {}, "rolling": False}})
    assert (await shop.deployment("green", capacity=4)).status_code == 201


async def test_a_deployment_is_scaled_by_one_thing(shop: Served) -> None:
    assert (await put(shop)).status_code == 201
    assert code_of(await put(shop, "other")) == "409 AutoscaleConflict"
    assert code_of(await shop.deployment(scaleSettings=ELASTIC)) == "409 AutoscaleConflict"
    assert (await shop.deployment("green", scaleSettings=ELASTIC)).status_code == 201
    green = "/onlineEndpoints/shop/deployments/green"
    assert code_of(await put(shop, "g", target=green, rules=[])) == "409 AutoscaleConflict"
    assert code_of(await put(shop, "s", target=green, rules=[])) == "409 AutoscaleConflict", (
        "the name is blue's"
    )


async def test_every_problem_is_told_at_once_with_its_place(shop: Served) -> None:
    broken = setting(most=99, rules=[rule(metricName="Mood", timeWindow="soon", threshold="hot")])
    broken["properties"]["profiles"][0]["recurrence"] = {
        "frequency": "Year",
        "schedule": {"days": ["Caturday"]},
    }
    refused = await shop.ask("PUT", f"/{AT}/s", broken)
    assert code_of(refused) == "400 SpecInvalid"
    at = "properties.profiles[0]"
    assert {one["target"] for one in refused.json()["error"]["details"]} == {
        f"{at}.capacity.maximum",
        f"{at}.rules[0].metricTrigger.metricName",
        f"{at}.rules[0].metricTrigger.timeWindow",
        f"{at}.rules[0].metricTrigger.threshold",
        f"{at}.recurrence.frequency",
        f"{at}.recurrence.schedule.days[0]",
        f"{at}.recurrence.schedule.hours",
    }
    upside_down = setting(capacity={"minimum": "4", "maximum": "2", "default": "9"})
    assert code_of(await shop.ask("PUT", f"/{AT}/s", upside_down)) == "400 SpecInvalid"


@pytest.mark.parametrize(
    "target", ["/onlineEndpoints/shop", "/computes/cluster", "/onlineEndpoints/shop/deployments/red"]
)
async def test_what_is_scaled_is_a_deployment_that_is_there(shop: Served, target: str) -> None:
    assert code_of(await put(shop, target=target)) in ("400 RequestInvalid", "404 DeploymentNotFound")


async def test_rules_look_at_the_deployment_or_its_endpoint(shop: Served) -> None:
    mine = rule(metricName="RequestLatency", metricResourceUri=f"{WS}/onlineEndpoints/shop")
    assert (await put(shop, rules=[mine])).status_code == 201
    foreign = rule(metricResourceUri=f"{WS}/onlineEndpoints/other/deployments/blue")
    assert code_of(await put(shop, rules=[foreign])) == "400 RequestInvalid"


async def test_what_was_decided_is_shown_and_stays_when_it_is_switched_off(shop: Served) -> None:
    assert (await put(shop)).status_code == 201
    with shop.database.write() as tx:
        row = tx.resource(DEPLOYMENT, "shop/blue")
        assert row is not None
        assert tx.set_scale(row, {"count": 4, "at": 1.0, "reason": "Rule", "message": "busy"})
    shown = (await shop.ask("GET", BLUE)).json()
    assert shown["sku"]["capacity"] == 4
    assert shown["properties"]["moorings"]["scaling"]["message"] == "busy"
    assert (await put(shop, enabled=False)).status_code == 200
    assert (row_of(shop).spec["instance_count"], row_of(shop).scale) == (4, None)


async def test_a_count_that_was_decided_ends_with_the_settings_it_was_for(shop: Served) -> None:
    await shop.deployment(scaleSettings=ELASTIC)
    with shop.database.write() as tx:
        row = tx.resource(DEPLOYMENT, "shop/blue")
        assert row is not None
        tx.set_scale(row, {"count": 3, "at": 1.0, "reason": "Load", "message": ""})
        stale = row
    await shop.deployment(scaleSettings=ELASTIC, description="x")
    assert row_of(shop).scale is not None, "a change of something else keeps it"
    await shop.deployment(capacity=2)
    assert (row_of(shop).scale, row_of(shop).spec["instance_count"]) == (None, 2)
    with shop.database.write() as tx:
        assert not tx.set_scale(stale, {"count": 9}), "a decision on what was there before counts no more"


async def test_a_setting_goes_with_its_deployment(shop: Served) -> None:
    assert (await put(shop)).status_code == 201
    assert (await shop.ask("DELETE", BLUE)).status_code == 202
    assert (await shop.ask("GET", f"/{AT}")).json()["value"] == []
    assert (await shop.deployment()).status_code in (200, 201)
    assert row_of(shop).autoscale is None
    shop.finish(DEPLOYMENT, "shop/blue", OperationStatus.SUCCEEDED)
    assert READY not in row_of(shop).status
