"""Status codes, headers and the shapes of answers: what clients rely on without reading the text."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from moorings.state.transaction import DEPLOYMENT, ENDPOINT

Api = Any
WS = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local"
    "/providers/Microsoft.MachineLearningServices/workspaces/local"
)
BLUE = "/onlineEndpoints/shop/deployments/blue"


def assert_operation_headers(answer: Any, *, location: bool, version: str = "") -> str:
    url: str = answer.headers["Azure-AsyncOperation"]
    assert url.startswith(f"http://localhost{WS}/operations/")
    assert url.endswith(version)
    assert answer.headers["x-ms-retry-after-ms"].isdigit()
    assert "Retry-After" not in answer.headers
    assert answer.headers.get("Location") == (url if location else None)
    return url


def assert_error(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The one shape of every failure."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert "Retry-After" not in answer.headers
    body = answer.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert list(error) == ["code", "message", "target", "details", "additionalInfo"]
    assert error["code"] == code
    assert error["message"]
    assert isinstance(error["details"], list)
    (info,) = error["additionalInfo"]
    assert info["type"] == "moorings"
    assert info["info"]["fix"]
    assert isinstance(info["info"]["evidence"], list)
    assert "Traceback" not in answer.text
    return error


# --- long-running operations --------------------------------------------------------------------------------


async def test_put_answers_201_then_200_with_the_resource_and_where_to_poll(api: Api) -> None:
    made = await api.endpoint()
    assert (made.status_code, made.json()["properties"]["provisioningState"]) == (201, "Creating")
    assert_operation_headers(made, location=False)
    again = await api.endpoint(description="other")
    assert (again.status_code, again.json()["properties"]["provisioningState"]) == (200, "Updating")
    assert_operation_headers(again, location=False)
    await api.assets()
    made, again = await api.deployment(), await api.deployment(capacity=2)
    assert (made.status_code, again.status_code) == (201, 200)
    assert_operation_headers(made, location=False)


async def test_delete_answers_202_and_204_when_there_is_nothing(shop: Api) -> None:
    for path, kind, name in ((BLUE, DEPLOYMENT, "shop/blue"), ("/onlineEndpoints/shop", ENDPOINT, "shop")):
        going = await shop.ask("DELETE", path)
        assert (going.status_code, going.content) == (202, b"")
        assert_operation_headers(going, location=True)
        assert (await shop.ask("GET", path)).json()["properties"]["provisioningState"] == "Deleting"
        shop.finish(kind, name)
        assert (await shop.ask("DELETE", path)).status_code == 204


async def test_regenerate_keys_answers_202_never_204(shop: Api) -> None:
    answer = await shop.ask("POST", "/onlineEndpoints/shop/regenerateKeys", {"keyType": "Primary"})
    assert answer.status_code == 202
    assert_operation_headers(answer, location=True)


@pytest.mark.parametrize("version", ["2022-02-01-preview", "2023-04-01", "no-date-at-all"])
async def test_any_api_version_is_accepted_and_handed_on(api: Api, version: str) -> None:
    made = await api.ask("PUT", f"/onlineEndpoints/shop?api-version={version}", {"properties": {}})
    assert made.status_code == 201
    url = assert_operation_headers(made, location=False, version=f"?api-version={version}")
    polled = await api.client.get(url)
    assert polled.json()["status"] == "InProgress"


async def test_the_operation_is_polled_to_its_end(shop: Api) -> None:
    put = await shop.deployment(capacity=2)
    url = assert_operation_headers(put, location=False)
    running = await shop.client.get(url)
    assert (running.status_code, running.json()["status"]) == (200, "InProgress")
    assert running.headers["x-ms-retry-after-ms"] == "100"
    assert "Retry-After" not in running.headers
    assert "endTime" not in running.json()
    shop.finish(DEPLOYMENT, "shop/blue")
    ended = await shop.client.get(url)
    assert ended.json()["status"] == "Succeeded"
    assert "x-ms-retry-after-ms" not in ended.headers
    assert ended.json()["endTime"].endswith("Z")
    assert ended.json()["id"].startswith(WS)


async def test_a_failed_operation_carries_the_failure_with_evidence_and_fix(shop: Api) -> None:
    from moorings.errors.exceptions import failure
    from moorings.state.transaction import OperationStatus

    url = (await shop.deployment(capacity=2)).headers["Azure-AsyncOperation"]
    failed = failure(
        "UserScriptInitFailed",
        "init() failed: no weights",
        evidence=("score.py:3",),
        fields={"endpoint": "shop", "deployment": "blue"},
    )
    with shop.database.write() as tx:
        row = tx.resource(DEPLOYMENT, "shop/blue")
        tx.finish_operations(row, OperationStatus.FAILED, failed.to_json())
    found = (await shop.client.get(url)).json()
    assert found["status"] == "Failed"
    assert (found["error"]["code"], found["error"]["message"]) == (failed.code, failed.message)
    info = found["error"]["additionalInfo"][0]["info"]
    assert info["evidence"] == ["score.py:3"]
    assert info["fix"] == failed.fix


async def test_a_superseded_operation_is_canceled_and_says_why(shop: Api) -> None:
    first = (await shop.deployment(capacity=2)).headers["Azure-AsyncOperation"]
    await shop.deployment(capacity=3)
    found = (await shop.client.get(first)).json()
    assert (found["status"], found["error"]["code"]) == ("Canceled", "OperationCanceled")


async def test_an_operation_tells_the_phases_of_its_own_generation_only(shop: Api) -> None:
    url = (await shop.deployment(capacity=2)).headers["Azure-AsyncOperation"]
    phases = [{"name": "accept", "status": "done"}, {"name": "environment", "status": "running"}]
    shop.say(DEPLOYMENT, "shop/blue", {"generation": 1, "phases": phases, "waitingFor": "x"})
    assert "phases" not in (await shop.client.get(url)).json()["properties"]
    shop.say(DEPLOYMENT, "shop/blue", {"generation": 2, "phases": phases, "waitingFor": "x"})
    found = (await shop.client.get(url)).json()["properties"]
    assert (found["phase"], found["phases"], found["waitingFor"]) == ("environment", phases, "x")


async def test_hints_are_given_for_what_was_accepted(shop: Api) -> None:
    shop.hints.clear()
    await shop.endpoint(description="new")
    await shop.deployment(capacity=2)
    await shop.ask("DELETE", "/onlineEndpoints/shop")
    assert shop.hints == [
        (ENDPOINT, "shop"),
        (DEPLOYMENT, "shop/blue"),
        (DEPLOYMENT, "shop/blue"),
        (ENDPOINT, "shop"),
    ]


# --- fields that clients need -------------------------------------------------------------------------------


async def test_the_endpoint_has_every_field_clients_need(shop: Api) -> None:
    for found in (
        (await shop.ask("GET", "/onlineEndpoints/shop")).json(),
        (await shop.ask("GET", "/onlineEndpoints")).json()["value"][0],
        (await shop.endpoint(description="new")).json(),
    ):
        assert found["id"] == f"{WS}/onlineEndpoints/shop"
        assert found["name"] == "shop"
        assert found["type"] == "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
        assert found["kind"] == "Managed"
        assert found["location"]
        assert found["tags"] == {"team": "demo"}
        assert found["identity"]["type"] == "SystemAssigned"
        assert {"createdAt", "lastModifiedAt"} <= found["systemData"].keys()
        assert found["properties"]["properties"] is not None
        assert found["properties"]["authMode"] == "Key"
        assert found["properties"]["compute"] is None
        assert found["properties"]["provisioningState"]
        assert found["properties"]["traffic"] == {}
        assert found["properties"]["mirrorTraffic"] == {}
        assert found["properties"]["publicNetworkAccess"] == "Enabled"
        base = "http://127.0.0.1:8650/api/v1/endpoint/shop"
        assert found["properties"]["scoringUri"] == f"{base}/score"
        assert found["properties"]["swaggerUri"] == f"{base}/swagger.json"


async def test_the_deployment_has_every_field_clients_need(shop: Api) -> None:
    for found in (
        (await shop.ask("GET", BLUE)).json(),
        (await shop.ask("GET", "/onlineEndpoints/shop/deployments")).json()["value"][0],
        (await shop.deployment()).json(),
    ):
        assert found["id"] == f"{WS}/onlineEndpoints/shop/deployments/blue"
        assert found["name"] == "blue"
        assert found["type"] == "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments"
        assert found["sku"] == {"name": "Default", "capacity": 1}
        assert found["properties"]["endpointComputeType"] == "Managed"
        assert found["properties"]["scaleSettings"]["scaleType"] == "Default"
        assert found["properties"]["provisioningState"]
        assert found["properties"]["requestSettings"]["requestTimeout"] == "PT5S"
        assert found["properties"]["livenessProbe"]["failureThreshold"] == 30
        assert {"createdAt", "lastModifiedAt"} <= found["systemData"].keys()


async def test_asset_versions_have_every_field_clients_need(shop: Api) -> None:
    body = {"properties": {"modelUri": f"file://{shop.code()}", "flavors": None, "tags": {"a": "b"}}}
    put = await shop.ask("PUT", "/models/m/versions/1", body)
    assert put.status_code == 201
    for found in (
        put.json(),
        (await shop.ask("GET", "/models/m/versions/1")).json(),
        (await shop.ask("GET", "/models/m/versions")).json()["value"][0],
    ):
        assert found["id"] == f"{WS}/models/m/versions/1"
        assert found["properties"]["flavors"] == {}
        assert found["properties"]["tags"] == {"a": "b"}
    for kind, name in (("codes", "code"), ("environments", "env")):
        found = (await shop.ask("GET", f"/{kind}/{name}/versions/1")).json()
        assert found["id"] == f"{WS}/{kind}/{name}/versions/1"
        assert found["properties"]


async def test_the_workspace_has_every_field_clients_need(api: Api) -> None:
    found = (await api.ask("GET", "")).json()
    assert found["id"] == WS
    assert found["location"] == "local"
    assert found["properties"]["mlFlowTrackingUri"].startswith("azureml://")
    assert found["properties"]["workspaceId"] == "the-id"
    moorings = found["properties"]["moorings"]
    assert (moorings["gatewayUrl"], moorings["home"]) == ("http://127.0.0.1:8650", "/home")


async def test_times_are_utc_with_a_zone(shop: Api) -> None:
    found = (await shop.ask("GET", BLUE)).json()["systemData"]
    assert found["createdAt"].endswith("Z")


# --- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb, path, code",
    [
        ("GET", "/onlineEndpoints/none", "EndpointNotFound"),
        ("GET", "/onlineEndpoints/none/deployments", "EndpointNotFound"),
        ("GET", "/onlineEndpoints/shop/deployments/none", "DeploymentNotFound"),
        ("POST", "/onlineEndpoints/none/listKeys", "EndpointNotFound"),
        ("POST", "/onlineEndpoints/none/token", "EndpointNotFound"),
        ("POST", "/onlineEndpoints/shop/deployments/none/getLogs", "DeploymentNotFound"),
        ("GET", "/models/none/versions/1", "AssetNotFound"),
        ("GET", "/codes/none/versions/1", "AssetNotFound"),
        ("GET", "/environments/none/versions/1/buildLog", "AssetNotFound"),
        ("GET", "/environments/env/versions/1/buildLog", "AssetNotFound"),
        ("GET", "/environmentBuilds/none/log", "AssetNotFound"),
        ("GET", "/operations/none", "OperationNotFound"),
        ("GET", "/nothing/here", "ResourceNotFound"),
        ("GET", "//no/such/path", "ResourceNotFound"),
        ("GET", "//", "ResourceNotFound"),
    ],
)
async def test_what_is_not_there_is_404_in_the_one_shape(shop: Api, verb: str, path: str, code: str) -> None:
    error = assert_error(await shop.ask(verb, path), 404, code)
    assert "<" not in error["additionalInfo"][0]["info"]["fix"], "a field of the fix was not filled in"


async def test_a_method_that_is_not_served_is_405_and_says_which_are(api: Api) -> None:
    answer = await api.ask("POST", "/onlineEndpoints/shop", {})
    assert_error(answer, 405, "RequestInvalid")
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b'{"properties": ' + b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_object_is_400(api: Api, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    for verb, path in (
        ("PUT", "/onlineEndpoints/shop"),
        ("PUT", BLUE),
        ("PUT", "/models/m/versions/1"),
        ("PATCH", BLUE),
        ("POST", "/onlineEndpoints/shop/regenerateKeys"),
    ):
        assert_error(await api.ask(verb, path, content=content, headers=headers), 400, "RequestInvalid")


@pytest.mark.parametrize(
    "body, target",
    [
        ({"properties": {"authMode": "Magic"}}, "authMode"),
        ({"properties": {"traffic": {"blue": "x"}}}, "traffic"),
        ({"properties": {"traffic": {"blue": 60}}}, "traffic"),
        ({"properties": []}, "properties"),
        ({"tags": {"a": []}}, "tags"),
    ],
)
async def test_a_wrong_value_of_an_endpoint_names_its_place(api: Api, body: Any, target: str) -> None:
    error = assert_error(await api.ask("PUT", "/onlineEndpoints/shop", body), 400, "SpecInvalid")
    assert any(target in str(d["target"]) + d["message"] for d in error["details"])


async def test_all_wrong_values_of_a_deployment_are_said_at_once(shop: Api) -> None:
    answer = await shop.deployment(
        capacity=0,
        requestSettings={"requestTimeout": "soon"},
        livenessProbe={"failureThreshold": "often"},
    )
    error = assert_error(answer, 400, "SpecInvalid")
    said = " ".join(f"{d['target']} {d['message']}" for d in error["details"])
    assert all(place in said for place in ("capacity", "requestTimeout", "failureThreshold"))


@pytest.mark.parametrize("name", ["x", "1shop", "shop-", "a" * 33, "sh%20op", "sh_op", "sh%00op"])
async def test_names_that_cannot_be_are_refused(api: Api, name: str) -> None:
    assert_error(await api.ask("PUT", f"/onlineEndpoints/{name}", {"properties": {}}), 400, "SpecInvalid")


async def test_text_that_is_no_unicode_is_refused_and_nothing_is_kept(api: Api) -> None:
    answer = await api.ask(
        "PUT",
        "/onlineEndpoints/shop",
        content=b'{"properties": {"description": "\\ud800"}}',
        headers={"content-type": "application/json"},
    )
    assert_error(answer, 400, "RequestInvalid")
    assert_error(await api.ask("GET", "/onlineEndpoints/shop"), 404, "EndpointNotFound")


async def test_a_defect_of_ours_is_500_with_a_request_id_and_no_traceback(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api.engine, "log_sources", lambda *a, **k: 1 / 0)
    await api.assets()
    await api.endpoint()
    await api.deployment()
    headers = {"x-ms-client-request-id": "id-of-mine"}
    with caplog.at_level(logging.ERROR):
        answer = await api.ask("POST", f"{BLUE}/getLogs", {}, headers=headers)
    error = assert_error(answer, 500, "InternalServerError")
    assert "id-of-mine" in error["message"]
    assert "id-of-mine" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# --- the interface itself -----------------------------------------------------------------------------------


async def test_the_openapi_document_has_every_route(api: Api) -> None:
    document = (await api.ask("GET", "//openapi.json")).json()
    prefix = (
        "/subscriptions/{subscription}/resourceGroups/{group}"
        "/providers/Microsoft.MachineLearningServices/workspaces/{workspace}"
    )
    found = {
        f"{verb.upper()} {path.removeprefix(prefix)}"
        for path, verbs in document["paths"].items()
        for verb in verbs
    }
    deployments = "/onlineEndpoints/{endpoint}/deployments"
    wanted = {
        "GET ",
        "GET /operations/{operation}",
        "GET /environmentBuilds/{key}/log",
        "GET /onlineEndpoints",
        *(f"{verb} /onlineEndpoints/{{endpoint}}" for verb in ("GET", "PUT", "DELETE")),
        *(f"POST /onlineEndpoints/{{endpoint}}/{what}" for what in ("listKeys", "regenerateKeys", "token")),
        f"GET {deployments}",
        *(f"{verb} {deployments}/{{deployment}}" for verb in ("GET", "PUT", "PATCH", "DELETE")),
        f"POST {deployments}/{{deployment}}/getLogs",
        f"POST {deployments}/{{deployment}}/followLogs",
        "GET /environments/{name}/versions/{version}/build",
        "GET /environments/{name}/versions/{version}/buildLog",
        "GET /environmentBuilds",
        "GET /environmentBuilds/{key}",
        "POST /environmentBuilds/prune",
    }
    for kind in ("codes", "models", "environments"):
        wanted |= {f"GET /{kind}/{{name}}/versions"}
        wanted |= {f"{verb} /{kind}/{{name}}/versions/{{version}}" for verb in ("GET", "PUT")}
    assert wanted <= found
