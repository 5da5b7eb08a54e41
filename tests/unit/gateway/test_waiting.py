"""A deployment with a waiting room as Envoy resources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moorings.contract import HEADER_COMPARE
from moorings.gateway.build import DeploymentInput, EndpointInput, build
from moorings.gateway.envoy import resources
from moorings.gateway.envoy_clusters import assignment
from moorings.gateway.envoy_routes import route_configuration
from moorings.gateway.snapshot import rooms, workers
from moorings.gateway.state import DeploymentRoute
from moorings.gateway.waiting import LIMIT_HEADER, is_room, room_path
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec

ROOM = str(room_path(Path("/run"), "shop~blue"))
SPEC = DeploymentSpec(name="blue", endpoint_name="shop")


def state(addresses: tuple[str, ...], room: str = ROOM):  # type: ignore[no-untyped-def]
    one = DeploymentInput(SPEC.model_copy(update={"instance_count": 0}), addresses, waiting_room=room)
    return build([EndpointInput(EndpointSpec(name="shop", traffic={"blue": 100}), ("k",), (one,))])


def test_the_room_is_behind_all_workers_and_is_no_worker() -> None:
    route = DeploymentRoute("blue", ("/a.sock", "/b.sock"), 1, 1, 5000, waiting_room=ROOM)
    groups = assignment("shop", route)["endpoints"]
    assert [group.get("priority", 0) for group in groups] == [0, 1]
    bundles = resources(state(("/a.sock",))).values()
    assert list(workers(bundles)) == [("shop~blue", "/a.sock")]
    assert list(rooms(bundles)) == [("shop~blue", ROOM)]
    assert is_room(ROOM) and not is_room("/run/a.sock") and not is_room("127.0.0.1:80")


def test_a_request_may_wait_only_while_nobody_is_there() -> None:
    (cold,) = state(()).endpoints
    (warm,) = state(("/a.sock",)).endpoints
    (fixed,) = state((), room="").endpoints
    times = {
        name: route_configuration(endpoint)["virtual_hosts"][0]["routes"][0]
        for name, endpoint in (("cold", cold), ("warm", warm), ("fixed", fixed))
    }
    assert times["cold"]["route"]["timeout"] == "35.000s"
    assert times["warm"]["route"]["timeout"] == times["fixed"]["route"]["timeout"] == "5.000s"
    assert "retriable-headers" in times["warm"]["route"]["retry_policy"]["retry_on"]
    assert "retriable-headers" not in times["fixed"]["route"]["retry_policy"]["retry_on"]
    assert times["fixed"]["response_headers_to_remove"] == ["x-moorings-held"]
    assert cold.deployments[0].instance_count == 1, "as many wait as one instance takes"


def test_a_request_that_is_compared_takes_its_limit_along_all_the_same() -> None:
    (cold,) = state(()).endpoints
    compared = replace(cold, compared=True, mirror={"green": 10})
    found = route_configuration(compared)["virtual_hosts"][0]["routes"]
    (route,) = (each for each in found if "request_mirror_policies" in each.get("route", {}))
    assert {each["header"]["key"] for each in route["request_headers_to_add"]} == {
        HEADER_COMPARE,
        LIMIT_HEADER,
    }
