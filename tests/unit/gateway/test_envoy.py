"""Gateway state -> Envoy resources: what each feature looks like, and what holds for every state."""

from __future__ import annotations

import dataclasses
import json
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorings.contract import HEADER_COLLECT, HEADER_COMPARE
from moorings.errors.catalogue import CATALOGUE
from moorings.gateway import envoy, envoy_clusters, envoy_listener, envoy_replies, envoy_routes
from moorings.gateway.state import DeploymentRoute, EndpointRoute, GatewayState

NAMES = ("able", "Baker", "charlie-1", "baker")


def deployment(name="blue", *addresses, count=1, concurrent=1, timeout_ms=5000, **more) -> DeploymentRoute:
    return DeploymentRoute(name, addresses, count, concurrent, timeout_ms, **more)


def endpoint(name="shop", *deployments, keys=("secret-1", "secret-2"), **more) -> EndpointRoute:
    return EndpointRoute(name, keys, deployments, **more)


def bundle(route: EndpointRoute) -> envoy.Bundle:
    return envoy.resources(GatewayState((route,)))[route.name]


def routes(route: EndpointRoute) -> list[dict]:
    (table,) = bundle(route).of_type(envoy.ROUTES)
    return table.body["virtual_hosts"][0]["routes"]


@st.composite
def states(draw) -> GatewayState:
    found = []
    for name in sorted(draw(st.sets(st.sampled_from(NAMES)))):
        names = sorted(draw(st.sets(st.sampled_from(("blue", "green", "next")))))
        shares = _shares(draw, names)
        found.append(
            EndpointRoute(
                name=name,
                keys=tuple(draw(st.lists(st.text("abcdef0123456789", min_size=24, max_size=24), max_size=2))),
                deployments=tuple(
                    deployment(
                        n,
                        *sorted(draw(st.sets(st.sampled_from(("/r/a", "/r/b", "10.0.0.1:80"))))),
                        count=draw(st.integers(1, 50)),
                        concurrent=draw(st.integers(1, 9)),
                        timeout_ms=draw(st.integers(1, 180_000)),
                    )
                    for n in names
                ),
                traffic=shares,
                mirror={n: draw(st.integers(1, 50)) for n in names if n not in shares},
            )
        )
    return GatewayState(tuple(found))


def _shares(draw, names: list[str]) -> dict[str, int]:
    if not names or draw(st.booleans()):
        return {}
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(names) - 1, max_size=len(names) - 1)))
    parts = [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]
    return {name: part for name, part in zip(names, parts, strict=True) if part}


@given(states())
@settings(max_examples=60)
def test_every_name_that_is_referred_to_exists(state):
    bundles = envoy.resources(state)
    for item in bundles.values():
        clusters = {r.name for r in item.of_type(envoy.CLUSTER)}
        assert {r.name for r in item.of_type(envoy.ASSIGNMENT)} == clusters == set(item.caps)
        assert all(r.body["cluster_name"] == r.name for r in item.of_type(envoy.ASSIGNMENT))
        tables = {r.name for r in item.of_type(envoy.ROUTES)}
        assert {r.body["route_configuration_name"] for r in item.of_type(envoy.SCOPE)} == tables
        for table in item.of_type(envoy.ROUTES):
            for rule in table.body["virtual_hosts"][0]["routes"]:
                action = rule.get("route", {})
                named = {action["cluster"]} if action else set()
                named |= {policy["cluster"] for policy in action.get("request_mirror_policies", ())}
                assert named <= clusters
    keys = [
        r.body["key"]["fragments"][0]["string_key"] for b in bundles.values() for r in b.of_type(envoy.SCOPE)
    ]
    assert len(keys) == len(set(keys))


@given(states())
@settings(max_examples=60)
def test_each_deployment_gets_exactly_its_share(state):
    for route in state.endpoints:
        got: dict[str, Fraction] = {}
        below = Fraction(0)
        for rule in routes(route):
            if "headers" in rule["match"]:
                continue
            fraction = rule["match"].get("runtime_fraction", {"default_value": {"numerator": 100}})
            upto = Fraction(fraction["default_value"]["numerator"], 100)
            name = rule["metadata"]["filter_metadata"]["moorings"].get("deployment", "")
            got[name] = upto - below
            below = upto
        assert below == 1
        assert got == (
            {name: Fraction(share, 100) for name, share in route.traffic.items()} or {"": Fraction(1)}
        )


@given(states())
@settings(max_examples=40)
def test_keys_are_only_where_they_are_compared(state):
    for name, item in envoy.resources(state).items():
        for resource in item.resources:
            text = json.dumps(resource.body)
            for key in next(e for e in state.endpoints if e.name == name).keys:
                assert key not in resource.name
                expected = text.count(f'"exact": "Bearer {key}"') if resource.type == envoy.ROUTES else 0
                assert text.count(key) == expected


@given(states())
@settings(max_examples=20)
def test_equal_states_have_equal_versions_and_survive_json(state):
    first, second = envoy.resources(state), envoy.resources(dataclasses.replace(state))
    assert {n: b.version for n, b in first.items()} == {n: b.version for n, b in second.items()}
    for item in first.values():
        for resource in item.resources:
            assert envoy.content_hash(json.loads(json.dumps(resource.body))) == resource.version


def test_a_key_changes_the_routes_and_nothing_else():
    before = bundle(endpoint("shop", deployment()))
    after = bundle(endpoint("shop", deployment(), keys=("secret-1", "secret-3")))
    assert _changed(before, after) == {envoy.ROUTES}
    assert before.version != after.version


def test_membership_changes_the_assignment_and_nothing_else():
    before = bundle(endpoint("shop", deployment("blue", "/a")))
    after = bundle(endpoint("shop", deployment("blue", "/a", "/b")))
    assert _changed(before, after) == {envoy.ASSIGNMENT}


def test_a_count_changes_the_cap_and_rebuilds_no_cluster():
    before = bundle(endpoint("shop", deployment(count=1, concurrent=3)))
    after = bundle(endpoint("shop", deployment(count=4, concurrent=3)))
    assert _changed(before, after) == {envoy.ROUTES}
    assert before.version != after.version
    layer = envoy.runtime([after]).body["layer"]
    assert layer == {"circuit_breakers.shop~blue.default.max_requests": 24}


def _changed(before: envoy.Bundle, after: envoy.Bundle) -> set[str]:
    old = {(r.type, r.name): r.version for r in before.resources}
    return {r.type for r in after.resources if old.get((r.type, r.name)) != r.version}


def test_no_keys_means_nobody_and_an_empty_key_is_no_key():
    for keys in ((), ("",)):
        (table,) = bundle(endpoint(keys=keys)).of_type(envoy.ROUTES)
        (filters,) = [host["typed_per_filter_config"] for host in table.body["virtual_hosts"]]
        rules = filters["envoy.filters.http.rbac"]["rbac"]["rules"]
        assert rules == {"action": "ALLOW", "policies": {}}


def test_only_a_local_endpoint_lets_anybody_in_without_a_credential_and_never_by_a_header_alone():
    def principals(route: EndpointRoute) -> list[dict]:
        (table,) = bundle(route).of_type(envoy.ROUTES)
        (filters,) = [host["typed_per_filter_config"] for host in table.body["virtual_hosts"]]
        return filters["envoy.filters.http.rbac"]["rbac"]["rules"]["policies"]["callers"]["principals"]

    usual, local = principals(endpoint()), principals(endpoint(keyless_on_loopback=True))
    assert local[:-1] == usual
    assert all(set(each) == {"header"} for each in usual)
    asked = local[-1]["and_ids"]["ids"]
    assert {"not_id": {"header": {"name": "authorization", "present_match": True}}} in asked
    (peers,) = [each["or_ids"]["ids"] for each in asked if "or_ids" in each]
    assert [each["direct_remote_ip"]["address_prefix"] for each in peers] == ["127.0.0.0", "::1"]


def test_mirroring_is_on_shared_routes_only_and_never_to_itself():
    found = routes(
        endpoint(
            "shop",
            deployment("blue"),
            deployment("next"),
            traffic={"blue": 90, "next": 10},
            mirror={"next": 20},
        )
    )
    mirrored = [
        (rule["name"], "headers" in rule["match"])
        for rule in found
        if rule.get("route", {}).get("request_mirror_policies")
    ]
    assert mirrored == [("shop/blue", False)]


@pytest.mark.parametrize("compared, mirror, kept", [(True, 20, 1), (True, 0, 0), (False, 20, 0)])
def test_answers_are_kept_only_where_copies_are_compared_and_nobody_else_can_ask_for_it(
    compared, mirror, kept
):
    shop = endpoint(
        "shop", deployment("blue"), deployment("next"), traffic={"blue": 100}, mirror={"next": mirror}
    )
    shop = dataclasses.replace(shop, compared=compared)
    rules = [rule for rule in routes(shop) if "route" in rule]
    for rule in rules:
        assert {HEADER_COMPARE, HEADER_COLLECT} <= set(rule["request_headers_to_remove"])
    asked = [each for rule in rules for each in rule.get("request_headers_to_add", ())]
    assert [each["header"] for each in asked] == [{"key": HEADER_COMPARE, "value": "1"}] * kept


def test_every_forwarding_route_drops_the_key_and_names_its_deployment():
    for rule in routes(endpoint("shop", deployment("blue", timeout_ms=1234), traffic={"blue": 100})):
        if "route" in rule:
            assert "authorization" in rule["request_headers_to_remove"]
            assert rule["response_headers_to_add"][0]["header"] == {
                "key": "azureml-model-deployment",
                "value": "blue",
            }
            assert rule["route"]["timeout"] == "1.234s"


@given(st.integers(1, 300), st.integers(1, 60))
def test_a_silent_worker_is_left_out_within_one_period(period_s, timeout_s):
    """At worst it falls silent right after a check; the checks that follow all last as long as they may."""
    (cluster,) = bundle(
        endpoint("shop", deployment(health_period_s=period_s, health_timeout_s=timeout_s))
    ).of_type(envoy.CLUSTER)
    (check,) = cluster.body["health_checks"]
    interval_s, again_s = (float(check[k][:-1]) for k in ("interval", "unhealthy_interval"))
    failures = check["unhealthy_threshold"]
    assert check["timeout"] == f"{timeout_s:.3f}s"
    assert 0 < interval_s <= 2
    assert interval_s + failures * timeout_s + (failures - 1) * again_s <= max(
        period_s, interval_s + timeout_s
    )
    assert failures == 1 or failures * timeout_s >= period_s / 4, "one moment of silence is no reason"
    assert check["reuse_connection"] is False


def test_by_default_three_checks_in_a_row_must_fail():
    assert envoy_clusters.checks(10.0, 2.0) == (2.0, 3)


def test_settings_whose_defaults_lose_requests_are_set():
    (cluster,) = bundle(endpoint("shop", deployment())).of_type(envoy.CLUSTER)
    assert cluster.body["common_lb_config"]["update_merge_window"] == "0s"
    assert cluster.body["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}
    assert cluster.body["ignore_health_on_host_removal"] is True
    ejection = cluster.body["outlier_detection"]
    assert ejection["successful_active_health_check_uneject_host"] is True
    assert {
        ejection[k] for k in ejection if k.startswith("enforcing_") and "local_origin_failure" not in k
    } == {0}


@pytest.mark.parametrize("rate", [0, -1, 1_000_001])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=str(rate)):
        bundle(endpoint(rate_limit_per_s=rate))


@given(st.integers(1, 1_000_000))
def test_every_rate_is_limited_and_never_below_what_was_promised(rate):
    """A request takes a share of one bucket, so that any number of requests a second can be the limit."""
    (rule,) = routes(endpoint(rate_limit_per_s=rate))[-1:]
    cost = rule["metadata"]["filter_metadata"]["moorings"]["cost"]
    passed = Fraction(envoy_routes.RATE_UNITS, cost)
    assert rate <= passed <= rate * Fraction(1002, 1000)
    if rate <= 30_000:
        assert int(passed) == rate


def test_addresses_of_both_kinds():
    (assignment,) = bundle(endpoint("shop", deployment("blue", "/run/a.sock", "10.1.2.3:8080"))).of_type(
        envoy.ASSIGNMENT
    )
    hosts = [h["endpoint"]["address"] for h in assignment.body["endpoints"][0]["lb_endpoints"]]
    assert hosts == [
        {"pipe": {"path": "/run/a.sock"}},
        {"socket_address": {"address": "10.1.2.3", "port_value": 8080}},
    ]


def test_all_but_the_scoring_port_is_private_and_only_the_doorstep_is_told_who_calls():
    document = envoy_listener.bootstrap(
        envoy_listener.ListenerSettings(
            "127.0.0.1", 8080, "/r/ads.sock", "/r/admin.sock", "/d/access.log", "/r/door.sock"
        ),
        "node",
    )
    scoring, doorstep = document["static_resources"]["listeners"]
    assert scoring["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 8080}}
    assert "listener_filters" not in scoring  # anybody could name any address
    assert doorstep["address"]["pipe"] == {"path": "/r/door.sock", "mode": 0o600}
    assert document["admin"]["address"]["pipe"] == {"path": "/r/admin.sock", "mode": 0o600}

    def filters(chain):
        return chain["filters"][0]["typed_config"]["http_filters"]

    assert [filters(chain) for chain in doorstep["filter_chains"]] == [
        filters(scoring["filter_chains"][0])
    ] * 2


def test_every_reply_of_the_gateway_has_the_one_shape_and_a_code_of_the_catalogue():
    replies = envoy_replies.local_replies()
    bodies = [mapper["body_format_override"] for mapper in replies["mappers"]] + [replies["body_format"]]
    for body in bodies:
        error = _error(body)
        assert set(error) - {"limit"} == {"code", "message", "request_id", "explain"}
        assert error["explain"] == f"moor explain {error['code']}"
        if "limit" in error:
            assert error["limit"]["setting"] in error["message"]
        assert error["code"].startswith("%METADATA(ROUTE:moorings:code)") or error["code"] in CATALOGUE
    for rule in routes(endpoint("shop")):
        assert rule["metadata"]["filter_metadata"]["moorings"]["code"] in CATALOGUE


def test_statuses_of_replies_are_those_of_the_catalogue():
    for mapper in envoy_replies.local_replies()["mappers"]:
        code = _error(mapper["body_format_override"])["code"]
        if "status_code" in mapper and code in CATALOGUE:
            assert mapper["status_code"] == CATALOGUE[code].http_status, code


def _error(body: dict) -> dict:
    if "json_format" in body:
        return body["json_format"]["error"]
    assert body["content_type"] == "application/json"
    text = body["text_format_source"]["inline_string"]
    filled = re.sub(r": (%METADATA[^%]*%)", ": 1", text)
    return json.loads(filled)["error"]
