"""The door of the TCP listener, the identity route, the datastore, pending uploads and the way in."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from moorings.api.guard import CALLED, in_our_name
from moorings.client import clients
from moorings.errors.exceptions import MooringsError
from moorings.security.access import READ, WRITE, issue, refusal

from .conftest import WS

Api = Any
TOKEN = "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fmanagement.azure.com"
THEIRS = (
    "/subscriptions/3f4a/resourceGroups/mine/providers/Microsoft.MachineLearningServices/workspaces/my-own"
)


async def token(api: Api) -> str:
    headers = {"X-IDENTITY-HEADER": api.listener.keys().identity}
    return str((await api.outside.get(TOKEN, headers=headers)).json()["access_token"])


async def ask(api: Api, verb: str, path: str, **more: Any) -> httpx.Response:
    """As a client does that calls the workspace by a name of its own."""
    headers = {"authorization": f"Bearer {await token(api)}"}
    answer: httpx.Response = await api.outside.request(verb, THEIRS + path, headers=headers, **more)
    return answer


# --- tokens --------------------------------------------------------------------------------------------------


async def test_the_secret_earns_a_token_in_the_form_clients_know(api: Api) -> None:
    answer = await api.outside.get(TOKEN, headers={"X-IDENTITY-HEADER": api.listener.keys().identity})
    body = answer.json()
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    assert body["token_type"] == "Bearer" and body["resource"] == "https://management.azure.com"
    assert isinstance(body["expires_on"], str) and int(body["expires_on"]) > api.clock.now()


@pytest.mark.parametrize("shown", [None, "", "x", "ü"])
async def test_nothing_else_earns_one(api: Api, shown: str | None) -> None:
    headers = {} if shown is None else {"X-IDENTITY-HEADER": shown.encode()}
    answer = await api.outside.get(TOKEN, headers=headers)
    assert (
        answer.status_code == 401
        and "access_token" not in answer.text
        and "moor workspace env" in answer.text
    )


async def test_a_token_is_asked_for_with_get(api: Api) -> None:
    headers = {"X-IDENTITY-HEADER": api.listener.keys().identity}
    assert (await api.outside.post(TOKEN, headers=headers)).status_code == 405


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer x", "Basic eDp4", "bearer a.b.c"])
@pytest.mark.parametrize("path", ["", "/onlineEndpoints", "/clientAccess", "/nothing"])
async def test_nobody_unknown_gets_past_the_door(api: Api, header: str | None, path: str) -> None:
    headers = {} if header is None else {"authorization": header}
    answer = await api.outside.get(THEIRS + path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AccessDenied")
    assert "retry-after" not in answer.headers and "www-authenticate" not in answer.headers


async def test_a_token_that_has_ended_does_not_open(api: Api) -> None:
    old = await token(api)
    headers = {"authorization": f"Bearer {old}"}
    assert (await api.outside.get(THEIRS, headers=headers)).status_code == 200
    api.clock.advance(3601)
    assert (await api.outside.get(THEIRS, headers=headers)).status_code == 401


async def test_a_key_of_an_endpoint_does_not_open_the_workspace(shop: Api) -> None:
    key = (await shop.ask("POST", "/onlineEndpoints/shop/listKeys")).json()["primaryKey"]
    answer = await shop.outside.get(THEIRS, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 401


async def test_the_socket_needs_no_token(api: Api) -> None:
    assert (await api.ask("GET", "")).status_code == 200


# --- one workspace, whatever it is called ----------------------------------------------------------------------


async def test_the_workspace_answers_to_the_name_a_script_has_for_it(shop: Api) -> None:
    assert (await ask(shop, "GET", "")).json()["properties"]["mlFlowTrackingUri"].startswith("azureml://")
    assert [e["name"] for e in (await ask(shop, "GET", "/onlineEndpoints")).json()["value"]] == ["shop"]
    assert (await shop.ask("GET", f"/{THEIRS}")).status_code == 404, "the socket is as it was"


async def test_ids_in_a_deployment_are_taken_in_that_name_too(shop: Api) -> None:
    body = {
        "sku": {"capacity": 1},
        "properties": {
            "endpointComputeType": "Managed",
            "environmentId": f"{THEIRS}/environments/env/versions/1",
            "codeConfiguration": {"codeId": f"{THEIRS}/codes/code/versions/1", "scoringScript": "score.py"},
        },
    }
    made = await ask(shop, "PUT", "/onlineEndpoints/shop/deployments/green", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["properties"]["environmentId"] == f"{WS}/environments/env/versions/1"
    elsewhere = THEIRS.replace("my-own", "elsewhere")
    body["properties"]["environmentId"] = f"{elsewhere}/environments/env/versions/1"
    other = await ask(shop, "PUT", "/onlineEndpoints/shop/deployments/red", json=body)
    assert other.status_code == 404, "another workspace is another workspace"


@pytest.mark.parametrize("id_", [None, 3, "azureml:a:1", f"{THEIRS}-2/models/m/versions/1", THEIRS])
def test_ids_of_others_stay_as_they_are(id_: object) -> None:
    assert in_our_name({CALLED: THEIRS}, id_, WS) == id_
    assert in_our_name({}, id_, WS) == id_


async def test_a_path_cannot_be_hidden_behind_the_name(shop: Api) -> None:
    headers = {"authorization": f"Bearer {await token(shop)}"}
    for path in (f"{THEIRS}%2FonlineEndpoints", f"{THEIRS}/onlineEndpoints/%2e%2e%2fx", "/x" + THEIRS):
        url = httpx.URL("https://localhost:8443").copy_with(raw_path=path.encode())
        assert (await shop.outside.get(url, headers=headers)).status_code in (400, 404)


# --- the way in ------------------------------------------------------------------------------------------------


async def test_the_way_in_is_told_on_the_socket_alone(api: Api) -> None:
    told = await api.ask("POST", "/clientAccess", {"on": True})
    assert told.json() == {
        "on": True,
        "baseUrl": "https://localhost:8443",
        "caBundle": "/home/access/ca-bundle.pem",
        "identityEndpoint": "https://localhost:8443/msi/token",
        "identityHeader": api.listener.keys().identity,
    }
    for path in ("/clientAccess", "/clientAccess/", "/CLIENTACCESS"):
        refused = await ask(api, "POST", path, json={"on": True})
        assert refused.status_code == 404 and api.listener.keys().identity not in refused.text


@pytest.mark.parametrize("body", [{}, {"on": "yes"}, {"on": 1}, {"on": None}])
async def test_the_way_in_is_opened_or_closed_and_nothing_else(api: Api, body: Any) -> None:
    assert (await api.ask("POST", "/clientAccess", body)).status_code == 400


async def test_with_the_listener_off_there_is_no_datastore_to_upload_to(api: Api) -> None:
    assert (await api.ask("POST", "/clientAccess", {"on": False})).json() == {"on": False}
    for verb, path in (
        ("GET", "/datastores"),
        ("GET", "/datastores/workspaceblobstore"),
        ("POST", "/datastores/workspaceblobstore/listSecrets"),
        ("POST", "/codes/a/versions/1/startPendingUpload"),
    ):
        answer = await api.ask(verb, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "ListenerOff")


def test_the_variables_of_the_recipe() -> None:
    access = {
        "baseUrl": "https://localhost:1",
        "caBundle": "/ca",
        "identityEndpoint": "https://localhost:1/t",
        "identityHeader": "s",
    }
    plain = clients.variables(access, {})
    assert list(plain) == [
        "AZUREML_DEV_URL_MFE",
        "REQUESTS_CA_BUNDLE",
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
    ]
    proxied = clients.variables(access, {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "localhost,.corp"})
    assert proxied["NO_PROXY"] == "localhost,.corp,127.0.0.1"


def test_a_listener_that_does_not_answer_is_a_coded_failure(tmp_path: Any) -> None:
    access = {
        "caBundle": str(tmp_path / "none"),
        "identityEndpoint": "https://localhost:1/t",
        "identityHeader": "s",
        "baseUrl": "b",
    }
    with pytest.raises(MooringsError, match="no token") as problem:
        clients.wait_until_answered(access, patience_s=0)
    assert problem.value.failure.code == "ListenerUnreachable"


# --- the datastore ---------------------------------------------------------------------------------------------


async def test_the_datastore_leads_uploads_to_the_listener(api: Api) -> None:
    found = (await ask(api, "GET", "/datastores/workspaceblobstore")).json()
    properties = found["properties"]
    assert properties["datastoreType"] == "AzureBlob" and properties["isDefault"] is True
    address = (
        f"https://{properties['accountName']}.blob.{properties['endpoint']}/{properties['containerName']}/a"
    )
    assert urlsplit(address).netloc == "localhost:8443"
    answer = await api.outside.get(address)
    assert answer.headers["x-ms-error-code"] == "AuthenticationFailed", "it is a path of ours"
    assert (await ask(api, "GET", "/datastores?isDefault=true&count=30&orderByAsc=false")).json()[
        "value"
    ] == [found]
    assert (await ask(api, "GET", "/datastores/other")).status_code == 404
    assert (await ask(api, "POST", "/datastores/other/listSecrets", json={})).status_code == 404


@pytest.mark.parametrize(
    "body, hours",
    [
        ({"expirableSecret": True, "expireAfterHours": 2}, 2),
        ({"expirableSecret": True, "expireAfterHours": 10_000}, 1),
        ({"expireAfterHours": "x"}, 1),
        ({}, 1),
        (None, 1),
    ],
)
async def test_the_secret_of_the_datastore_ends_and_covers_its_container_alone(
    api: Api, body: Any, hours: int
) -> None:
    answer = (await ask(api, "POST", "/datastores/workspaceblobstore/listSecrets", json=body)).json()
    assert answer["secretsType"] == "Sas"
    query = dict(parse_qsl(answer["sasToken"]))
    keys, now = api.listener.keys(), api.clock.now()
    box = "azureml-blobstore"
    assert refusal(keys, query, box, right=WRITE, now=now + hours * 3600 - 1) is None
    assert refusal(keys, query, box, right=WRITE, now=now + hours * 3600)
    assert refusal(keys, query, "other", right=READ, now=now)


async def test_each_pending_upload_has_a_container_of_its_own(api: Api) -> None:
    found = []
    for _ in range(2):
        body = {"pendingUploadType": "TemporaryBlobReference"}
        answer = (await ask(api, "POST", "/codes/abc/versions/1/startPendingUpload", json=body)).json()
        assert answer["pendingUploadType"] == "TemporaryBlobReference"
        found.append(answer["blobReferenceForConsumption"])
    first, second = found
    assert first["blobUri"] != second["blobUri"]
    assert first["credential"]["credentialType"] == "SAS"
    assert first["credential"]["sasUri"].startswith(first["blobUri"] + "?")
    signed = first["credential"]["sasUri"].partition("?")[2]
    headers = {"x-ms-blob-type": "BlockBlob"}
    mine = await api.outside.put(f"{first['blobUri']}/code/score.py?{signed}", content=b"x", headers=headers)
    theirs = await api.outside.put(
        f"{second['blobUri']}/code/score.py?{signed}", content=b"x", headers=headers
    )
    assert (mine.status_code, theirs.status_code) == (201, 403)


# --- what clients crash without --------------------------------------------------------------------------------


async def test_documents_have_the_fields_clients_need(shop: Api) -> None:
    """Without any of these a client ends in an AttributeError or a TypeError of its own."""
    folder = shop.code()
    await shop.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": f"file://{folder}"}})
    endpoint = (await ask(shop, "GET", "/onlineEndpoints/shop")).json()
    assert endpoint["properties"]["properties"] is not None
    assert endpoint["systemData"]["createdAt"] and endpoint["systemData"]["lastModifiedAt"]
    assert not endpoint["properties"]["compute"], "with it, this would be taken for a cluster's"
    deployment = (await ask(shop, "GET", "/onlineEndpoints/shop/deployments/blue")).json()
    assert "/onlineEndpoints/shop/deployments/blue" in deployment["id"] and deployment["sku"]["capacity"] == 1
    assert deployment["properties"]["endpointComputeType"] == "Managed"
    assert deployment["properties"]["scaleSettings"]["scaleType"] == "Default"
    model = (await ask(shop, "GET", "/models/m/versions/1")).json()
    assert model["properties"]["flavors"] == {}
    container = (await ask(shop, "GET", "/models/m")).json()
    assert container["name"] == "m" and container["properties"]["nextVersion"] == "2"
    assert (await ask(shop, "GET", "")).json()["location"]
    for id_ in (model["id"], deployment["properties"]["environmentId"]):
        assert re.fullmatch(
            r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices"
            r"/workspaces/[^/]+/\w+/[^/]+/versions/[^/]+",
            id_,
        )


async def test_every_answer_that_is_not_final_says_when_to_look_again(shop: Api) -> None:
    """Without it clients wait 5 or 30 s. `Retry-After` counts in whole seconds: never a part of one."""
    statuses = []
    for verb, path, body in (
        ("PUT", "/onlineEndpoints/shop", {"properties": {"authMode": "Key"}, "tags": {"a": "b"}}),
        ("POST", "/onlineEndpoints/shop/regenerateKeys", {"keyType": "Primary"}),
        ("DELETE", "/onlineEndpoints/shop/deployments/blue", None),
        ("DELETE", "/onlineEndpoints/shop", None),
    ):
        answer = await ask(shop, verb, path, json=body)
        statuses.append(answer.status_code)
        url = answer.headers["azure-asyncoperation"]
        assert url.startswith("https://localhost:8443/"), "absolute, and as the client reached us"
        poll = await shop.outside.get(url, headers={"authorization": f"Bearer {await token(shop)}"})
        for each in (answer, poll):
            assert int(each.headers["x-ms-retry-after-ms"]) > 0 and "retry-after" not in each.headers
        assert poll.json()["status"] == "InProgress"
        assert (answer.headers.get("location") == url) == (answer.status_code == 202)
    assert statuses == [200, 202, 202, 202], "204 would fail for new keys"


async def test_errors_are_final_and_in_the_form_clients_read(api: Api) -> None:
    """Any error with `Retry-After` is asked again, even a 404; one code makes clients register a provider first."""
    for verb, path, body in (
        ("GET", "/onlineEndpoints/none", None),
        ("PUT", "/onlineEndpoints/shop", {"properties": {"authMode": "x"}}),
        ("POST", "/onlineEndpoints/none/listKeys", None),
        ("GET", "/models/none/versions/1", None),
        ("GET", "/nothing", None),
    ):
        answer = await ask(api, verb, path, json=body)
        error = answer.json()["error"]
        assert 400 <= answer.status_code < 500 and "retry-after" not in answer.headers
        assert {"code", "message", "details", "additionalInfo"} <= set(error)
        assert error["code"] != "MissingSubscriptionRegistration"


@pytest.mark.parametrize("version", ["2022-02-01-preview", "2024-10-01-preview", "2099-01-01", "x"])
async def test_any_version_of_the_interface_is_accepted(api: Api, version: str) -> None:
    assert (await ask(api, "GET", f"?api-version={version}")).status_code == 200


async def test_pages_follow_one_another_over_the_listener(api: Api) -> None:
    for n in range(205):
        with api.database.write() as tx:
            tx.add_asset("environments", f"e{n:03}", "1", digest="0" * 64, body={"image": "x"})
    names: list[str] = []
    answer = (await ask(api, "GET", "/environments?api-version=2023-04-01-preview")).json()
    names += [e["name"] for e in answer["value"]]
    assert answer["nextLink"].startswith("https://localhost:8443/")
    following = await api.outside.get(
        answer["nextLink"], headers={"authorization": f"Bearer {await token(api)}"}
    )
    names += [e["name"] for e in following.json()["value"]]
    assert names == [f"e{n:03}" for n in range(205)] and not following.json().get("nextLink")


async def test_secrets_are_in_no_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    text = await token(api)
    sas = (await ask(api, "POST", "/datastores/workspaceblobstore/listSecrets", json={})).json()["sasToken"]
    logged = caplog.text
    assert text not in logged and sas not in logged and api.listener.keys().identity not in logged
    assert issue(api.listener.keys(), "x", api.clock.now()).text not in logged
