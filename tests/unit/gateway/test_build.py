"""Desired state -> gateway state."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moorings.gateway.build import DeploymentInput, EndpointInput, build
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec


def deployment(name: str, *addresses: str, **more) -> DeploymentInput:
    return DeploymentInput(DeploymentSpec(name=name, endpoint_name="shop", **more), addresses)


def endpoint(*deployments: DeploymentInput, name: str = "shop", keys=("b", "a"), **more) -> EndpointInput:
    return EndpointInput(EndpointSpec(name=name, **more), tuple(keys), deployments)


def test_settings_arrive_where_the_gateway_needs_them():
    state = build(
        [
            endpoint(
                deployment(
                    "blue",
                    "/b.sock",
                    "/a.sock",
                    "/a.sock",
                    instance_count=3,
                    request_settings={"request_timeout_ms": 700, "max_concurrent_requests_per_instance": 4},
                    readiness_probe={"period": 7, "timeout": 3, "failure_threshold": 5},
                    liveness_probe={"period": 99, "timeout": 98, "failure_threshold": 97},
                )
            )
        ]
    )
    (found,) = state.endpoints[0].deployments
    assert found.addresses == ("/a.sock", "/b.sock")
    assert (found.instance_count, found.max_concurrent_requests, found.request_timeout_ms) == (3, 4, 700)
    assert (found.health_period_s, found.health_timeout_s) == (7.0, 3.0)


def test_a_local_endpoint_is_open_to_this_machine_unless_the_workspace_wants_keys_from_all():
    ends = [endpoint(name="away"), endpoint(name="home", properties={"moorings": {"local": True}})]
    assert [e.keyless_on_loopback for e in build(ends).endpoints] == [False, True]
    strict = build(ends, local_requires_key=True)
    assert [e.keyless_on_loopback for e in strict.endpoints] == [False, False]


def test_shares_go_only_to_deployments_that_exist_under_their_own_spelling():
    state = build(
        [
            endpoint(
                deployment("Blue"),
                deployment("green"),
                traffic={"blue": 60, "green": 0, "red": 40},
                mirror_traffic={"green": 10, "red": 5},
            )
        ]
    )
    assert state.endpoints[0].traffic == {"Blue": 60}
    assert state.endpoints[0].mirror == {"green": 10}


@given(st.permutations(range(4)))
def test_order_of_the_input_does_not_matter(order):
    names = ["able", "baker", "charlie", "delta"]
    inputs = [endpoint(*(deployment(n) for n in names), name=name, keys=("k1", "k2")) for name in names]
    shuffled = [
        EndpointInput(inputs[i].spec, ("k2", "k1"), tuple(inputs[i].deployments[j] for j in order))
        for i in order
    ]
    assert build(shuffled) == build(inputs)


def test_limits_of_an_endpoint_win_over_those_of_the_workspace():
    given = {"moorings": {"rate_limit_per_s": 7, "max_request_bytes": 8, "max_response_bytes": 100_000}}
    own, plain = build(
        [endpoint(name="own", properties=given), endpoint(name="plain")], rate_limit_per_s=55
    ).endpoints
    assert (own.rate_limit_per_s, own.max_request_bytes, own.max_response_bytes) == (7, 8, 100_000)
    assert (plain.rate_limit_per_s, plain.max_request_bytes, plain.max_response_bytes) == (
        55,
        1_572_864,
        1_572_864,
    )


def test_token_keys_are_published_where_an_endpoint_takes_tokens():
    with_tokens = EndpointInput(EndpointSpec(name="shop"), (), (), "endpoint:1")
    state = build([with_tokens], token_keys="{}")
    assert (state.token_keys, state.endpoints[0].token_audience) == ("{}", "endpoint:1")
    assert build([endpoint()], token_keys="{}").token_keys == ""
