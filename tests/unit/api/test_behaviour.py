"""What requests mean: keys, traffic, limits, assets, logs."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest

from moorings.errors.exceptions import Confidence, failure
from moorings.lib.logfile import Line, stamp
from moorings.observe.journal import Told
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, OperationStatus

Api = Any
BLUE = "/onlineEndpoints/shop/deployments/blue"
KEYS = "/onlineEndpoints/shop/listKeys"


def code_of(answer: Any) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}"


def info_of(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]["additionalInfo"][0]["info"]
    return found


# --- keys ---------------------------------------------------------------------------------------------------


async def test_an_endpoint_gets_two_different_strong_keys_and_keeps_them(shop: Api) -> None:
    keys = (await shop.ask("POST", KEYS)).json()
    assert list(keys) == ["primaryKey", "secondaryKey"]
    assert len(set(keys.values())) == 2
    assert all(len(k) >= 43 for k in keys.values())
    await shop.endpoint(description="changed")
    assert (await shop.ask("POST", KEYS)).json() == keys


@pytest.mark.parametrize("which, other", [("Primary", "secondaryKey"), ("secondary", "primaryKey")])
async def test_regenerating_replaces_that_key_with_a_fresh_one_whatever_value_is_sent(
    shop: Api, which: str, other: str
) -> None:
    before = (await shop.ask("POST", KEYS)).json()
    changed = f"{which.lower()}Key"
    body = {"keyType": which, "keyValue": before[changed]}
    assert (await shop.ask("POST", "/onlineEndpoints/shop/regenerateKeys", body)).status_code == 202
    after = (await shop.ask("POST", KEYS)).json()
    assert after[changed] != before[changed]
    assert after[other] == before[other]
    mine = {"keyType": which, "keyValue": "chosen-by-the-client"}
    await shop.ask("POST", "/onlineEndpoints/shop/regenerateKeys", mine)
    assert "chosen-by-the-client" not in (await shop.ask("POST", KEYS)).text


@pytest.mark.parametrize("body", [{}, {"keyType": "third"}, {"keyType": None}, {"keyType": 1}])
async def test_a_key_that_is_not_there_cannot_be_regenerated(shop: Api, body: Any) -> None:
    answer = await shop.ask("POST", "/onlineEndpoints/shop/regenerateKeys", body)
    assert code_of(answer) == "400 RequestInvalid"


async def test_an_endpoint_in_token_mode_hands_out_tokens_and_no_keys(api: Api) -> None:
    await api.endpoint(authMode="AMLToken")
    for path, body in (("listKeys", None), ("regenerateKeys", {"keyType": "Primary"})):
        answer = await api.ask("POST", f"/onlineEndpoints/shop/{path}", body)
        assert code_of(answer) == "400 WrongCredentialKind"
    token = (await api.ask("POST", "/onlineEndpoints/shop/token")).json()
    assert token["tokenType"] == "Bearer"
    assert token["accessToken"].count(".") == 2
    assert api.clock.now() < token["refreshAfterTimeUtc"] < token["expiryTimeUtc"]


async def test_an_endpoint_that_goes_by_roles_has_neither_keys_nor_tokens_of_its_own(api: Api) -> None:
    assert (await api.endpoint(authMode="AADToken")).status_code == 201
    for path in ("listKeys", "token"):
        answer = await api.ask("POST", f"/onlineEndpoints/shop/{path}")
        assert code_of(answer) == "400 WrongCredentialKind"
        assert "moor account get-access-token" in info_of(answer)["fix"]


async def test_keys_are_in_no_other_answer_event_log_or_file(
    shop: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keys = list((await shop.ask("POST", KEYS)).json().values())
    await shop.ask("POST", "/onlineEndpoints/shop/regenerateKeys", {"keyType": "Primary"})
    keys += (await shop.ask("POST", KEYS)).json().values()
    texts = [caplog.text]
    for path in ("", "/onlineEndpoints", "/onlineEndpoints/shop", BLUE):
        texts.append((await shop.ask("GET", path)).text)
    texts.append((await shop.endpoint(description="new")).text)
    with shop.database.read() as tx:
        texts.append(repr(tx.events(ENDPOINT, "shop")) + repr(tx.resource(ENDPOINT, "shop")))
    stored = b"".join(p.read_bytes() for p in shop.folder.glob("state.db*"))
    for key in keys:
        assert not any(key in text for text in texts)
        assert key.encode() not in stored


async def test_keys_that_cannot_be_decrypted_name_the_endpoint_in_the_fix(shop: Api) -> None:
    (shop.folder / "secret.key").unlink()
    shop.vault._fernet = None
    answer = await shop.ask("POST", KEYS)
    assert code_of(answer) == "500 VaultKeyMismatch"
    assert "regenerate-keys -n shop" in info_of(answer)["fix"]


# --- endpoints ----------------------------------------------------------------------------------------------


async def test_traffic_to_deployments_that_are_not_there_names_those_that_are(shop: Api) -> None:
    answer = await shop.endpoint(traffic={"green": 100})
    assert code_of(answer) == "400 TrafficInvalid"
    assert "deployments of shop: blue" in info_of(answer)["evidence"]
    assert '--traffic "blue=100"' in info_of(answer)["fix"]
    assert code_of(await shop.endpoint(mirrorTraffic={"green": 10})) == "400 TrafficInvalid"
    assert (await shop.endpoint(traffic={"blue": 100})).json()["properties"]["traffic"] == {"blue": 100}


async def test_a_document_without_traffic_clears_it(shop: Api) -> None:
    """Clients leave zeros out, so that "all off" looks like a file that never spoke of traffic."""
    await shop.endpoint(traffic={"blue": 90}, mirrorTraffic={"blue": 10})
    await shop.endpoint(traffic={"blue": 100})
    cleared = (await shop.endpoint(traffic={}, mirrorTraffic={})).json()["properties"]
    assert (cleared["traffic"], cleared["mirrorTraffic"]) == ({}, {})
    found = (await shop.ask("GET", "/onlineEndpoints/shop")).json()["properties"]
    assert (found["traffic"], found["mirrorTraffic"]) == ({}, {})


async def test_an_environment_of_a_registry_is_refused_by_its_name(shop: Api) -> None:
    """Clients pass it on as it was written; nothing of it is here."""
    id_ = "azureml://registries/azureml/environments/sklearn-1.5/versions/1"
    answer = await shop.deployment("green", environmentId=id_)
    assert code_of(answer) == "404 AssetNotFound"
    assert "registry azureml" in answer.text
    assert id_ in info_of(answer)["fix"]
    assert (await shop.ask("GET", "/onlineEndpoints/shop/deployments/green")).status_code == 404


async def test_traffic_to_a_deployment_that_is_going_is_refused(shop: Api) -> None:
    await shop.ask("DELETE", BLUE)
    assert code_of(await shop.endpoint(traffic={"blue": 100})) == "400 TrafficInvalid"


async def test_the_identity_of_an_endpoint_does_not_change(shop: Api) -> None:
    body = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {"/id/a": {}}}, "properties": {}}
    assert code_of(await shop.ask("PUT", "/onlineEndpoints/shop", body)) == "400 ImmutableProperty"


async def test_the_number_of_endpoints_is_limited_but_not_their_updates(api: Api) -> None:
    with api.database.write() as tx:
        for n in range(99):
            tx.put(ENDPOINT, f"made-{n}", {"name": f"made-{n}"})
    assert (await api.endpoint("last")).status_code == 201
    assert code_of(await api.endpoint("toomany")) == "400 EndpointQuotaReached"
    assert (await api.endpoint("last", description="new")).status_code == 200


async def test_an_endpoint_that_goes_takes_its_deployments_along_and_takes_in_no_new_ones(shop: Api) -> None:
    await shop.ask("DELETE", "/onlineEndpoints/shop")
    assert (await shop.ask("GET", BLUE)).json()["properties"]["provisioningState"] == "Deleting"
    assert code_of(await shop.deployment("green")) == "404 EndpointNotFound"


async def test_the_same_endpoint_again_changes_nothing(shop: Api) -> None:
    before = (await shop.ask("GET", "/onlineEndpoints/shop")).json()
    shop.clock.advance(60)
    assert (await shop.endpoint()).status_code == 200
    after = (await shop.ask("GET", "/onlineEndpoints/shop")).json()
    assert after["systemData"] == before["systemData"]
    assert after["properties"]["moorings"]["generation"] == 1


# --- deployments --------------------------------------------------------------------------------------------


async def test_a_deployment_needs_its_endpoint_and_its_assets(api: Api) -> None:
    await api.assets()
    assert code_of(await api.deployment()) == "404 EndpointNotFound"
    await api.endpoint()
    missing = await api.deployment(environmentId="azureml:none:3")
    assert code_of(missing) == "404 AssetNotFound"
    assert "azureml:none:3" in info_of(missing)["fix"]
    assert (await api.ask("GET", "/onlineEndpoints/shop/deployments")).json() == {"value": []}


async def test_a_deployment_with_traffic_is_not_deleted_unless_its_endpoint_is(shop: Api) -> None:
    await shop.endpoint(traffic={"blue": 100})
    answer = await shop.ask("DELETE", BLUE)
    assert code_of(answer) == "409 DeploymentInUse"
    assert '-n shop --traffic "blue=0"' in info_of(answer)["fix"]
    await shop.endpoint(traffic={}, mirrorTraffic={"blue": 10})
    assert code_of(await shop.ask("DELETE", BLUE)) == "409 DeploymentInUse"
    await shop.endpoint()
    assert (await shop.ask("DELETE", BLUE)).status_code == 202


async def test_the_case_of_a_deployments_name_does_not_hide_its_traffic(shop: Api) -> None:
    assert (await shop.deployment("Green")).status_code == 201
    assert (await shop.endpoint(traffic={"Green": 100})).status_code == 200
    answer = await shop.ask("DELETE", "/onlineEndpoints/shop/deployments/Green")
    assert code_of(answer) == "409 DeploymentInUse"


async def test_the_number_of_deployments_is_limited(shop: Api) -> None:
    with shop.database.write() as tx:
        for n in range(19):
            tx.put(DEPLOYMENT, f"shop/made-{n}", {"instance_type": "Standard_DS1_v2"})
    refused = await shop.deployment("toomany")
    assert code_of(refused) == "400 DeploymentQuotaReached"
    (info,) = refused.json()["error"]["additionalInfo"]
    assert "moor online-deployment delete -e shop" in info["info"]["fix"]
    assert (await shop.deployment(capacity=2)).status_code == 200


async def test_the_number_of_deployments_of_a_workspace_is_limited(shop: Api) -> None:
    with shop.database.write() as tx:
        for n in range(499):
            tx.put(DEPLOYMENT, f"e{n % 30}/made-{n}", {"instance_type": "Standard_DS1_v2"})
    assert code_of(await shop.deployment("toomany")) == "400 DeploymentQuotaReached"
    assert (await shop.deployment(capacity=2)).status_code == 200


async def test_labels_become_the_version_they_mean_now(shop: Api) -> None:
    made = await shop.deployment("green", environmentId="azureml:env@latest")
    assert made.json()["properties"]["environmentId"].endswith("/environments/env/versions/1")
    shop.clock.advance(1)
    body = {"properties": {"image": "local/other"}}
    assert (await shop.ask("PUT", "/environments/env/versions/2", body)).status_code == 201
    green = (await shop.ask("GET", "/onlineEndpoints/shop/deployments/green")).json()
    assert green["properties"]["environmentId"].endswith("/environments/env/versions/1")
    again = await shop.deployment("green", environmentId="azureml:env@latest")
    assert again.json()["properties"]["environmentId"].endswith("/environments/env/versions/2")


async def test_patch_scales_and_tags_and_leaves_the_rest(shop: Api) -> None:
    answer = await shop.ask("PATCH", BLUE, {"sku": {"capacity": 3}, "tags": {"a": "b"}})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["sku"]["capacity"], found["tags"]) == (3, {"a": "b"})
    assert found["properties"]["codeConfiguration"]["scoringScript"] == "score.py"
    assert "Azure-AsyncOperation" in answer.headers


@pytest.mark.parametrize(
    "body, target",
    [
        ({"sku": {"capacity": 0}}, "sku.capacity"),
        ({"sku": {"capacity": "many"}}, "sku.capacity"),
        ({"sku": {"capacity": True}}, "sku.capacity"),
        ({"sku": "Default"}, "sku"),
        ({"tags": ["a"]}, "tags"),
        ({"tags": {"a": []}}, "tags"),
    ],
)
async def test_a_wrong_patch_names_its_place(shop: Api, body: Any, target: str) -> None:
    answer = await shop.ask("PATCH", BLUE, body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert target in [error["target"], *(d["target"] for d in error["details"])]
    assert "pydantic" not in answer.text


async def test_a_failed_deployment_sent_again_is_a_new_try(shop: Api) -> None:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "X",
        "message": "",
        "generation": 1,
        "since": 1.0,
        "failure": None,
    }
    shop.say(DEPLOYMENT, "shop/blue", {"conditions": {"Ready": condition}})
    assert (await shop.ask("GET", BLUE)).json()["properties"]["provisioningState"] == "Failed"
    again = (await shop.deployment()).json()["properties"]
    assert (again["provisioningState"], again["moorings"]["generation"]) == ("Updating", 2)


async def test_what_has_no_effect_yet_is_said(shop: Api) -> None:
    found = (await shop.deployment(appInsightsEnabled=True)).json()["properties"]["moorings"]
    assert "app_insights_enabled" in found["noEffectYet"]


# --- logs ---------------------------------------------------------------------------------------------------


async def test_logs_that_are_not_there_yet_say_to_try_later(shop: Api) -> None:
    for body in ({}, {"containerType": "StorageInitializer", "tail": 5}, None):
        answer = await shop.ask("POST", f"{BLUE}/getLogs", body)
        assert answer.status_code == 200
        assert "Try again" in answer.json()["content"]
        assert "moor online-deployment show -e shop -n blue" in answer.json()["content"]


def written(
    shop: Api, container: str, *texts: str, instance: str = "shop-blue-abc-0", at: float = 0.0
) -> None:
    lines = [Line(stamp(at + number).decode().strip(), text) for number, text in enumerate(texts)]
    shop.engine.leave_log("shop/blue", container, instance, lines)


async def logs(shop: Api, **body: Any) -> Any:
    return (await shop.ask("POST", f"{BLUE}/getLogs", body)).json()


async def test_logs_are_the_last_lines_of_the_container_that_is_asked_for(shop: Api) -> None:
    written(shop, "inference-server", "one", "two", "three")
    written(shop, "storage-initializer", "laid out")
    assert await logs(shop, tail=2) == {"content": "two\nthree\n"}
    assert await logs(shop, containerType="StorageInitializer") == {"content": "laid out\n"}
    for tail in (10**9, -1, True, None, "7"):
        assert await logs(shop, containerType="inference-server", tail=tail) == {
            "content": "one\ntwo\nthree\n"
        }
    assert await logs(shop, tail=0) == {"content": ""}
    answer = await shop.ask("POST", f"{BLUE}/getLogs", {"containerType": "sidecar", "since": "never"})
    assert code_of(answer) == "400 RequestInvalid"
    for word in ("StorageInitializer", "never", "get-logs -h"):
        assert word in answer.text


async def test_everything_comes_in_one_stream_in_order(shop: Api) -> None:
    written(shop, "storage-initializer", "laid out", at=1.0)
    written(shop, "inference-server", "booting", "moorings: worker 0 ended (exit code 1)", "booting", at=2.5)
    shop.journal.note("shop/blue", (Told("plan", "generation 1 accepted"),), 0.5)
    shop.journal.note("shop/blue", (Told("probe", "ready", "shop-blue-abc-0"),), 9.0)
    lines = (await logs(shop, containerType="All", structured=True))["lines"]
    assert [(line["phase"], line["container"], line["text"].split()[0]) for line in lines] == [
        ("plan", "control-plane", "generation"),
        ("initialise", "storage-initializer", "laid"),
        ("serve", "inference-server", "booting"),
        ("serve", "inference-server", "moorings:"),
        ("boot", "inference-server", "booting"),
        ("probe", "control-plane", "ready"),
    ]
    text = (await logs(shop, containerType="All"))["content"]
    assert text.splitlines()[0] == "1970-01-01T00:00:00.500000Z plan - generation 1 accepted"
    late = await logs(shop, containerType="All", since="1970-01-01T00:00:04Z", structured=True)
    assert [line["text"] for line in late["lines"]] == ["booting", "ready"]


async def test_logs_of_one_instance_and_of_one_request(shop: Api) -> None:
    written(shop, "inference-server", "a", "POST /score 200 request_id=r-1", instance="shop-blue-abc-0")
    written(shop, "inference-server", "b", instance="shop-blue-abc-1")
    for instance in ("shop-blue-abc-1", "abc-1", "1"):
        assert await logs(shop, instance=instance) == {"content": "b\n"}
    assert await logs(shop, requestId="r-1") == {"content": "POST /score 200 request_id=r-1\n"}
    entry = {
        "time": "2026-11-25T16:46:52.123456Z",
        "endpoint": "shop",
        "deployment": "blue",
        "method": "POST",
    }
    entry |= {"path": "/score", "code": 424, "total_ms": 3, "request_id": "r-1", "client_request_id": "mine"}
    others = json.dumps({**entry, "endpoint": "other"})
    (shop.folder / "access.log").write_text(f"{json.dumps(entry)}\n{others}\nbroken mine\n")
    lines = (await logs(shop, containerType="All", requestId="mine", structured=True))["lines"]
    assert [line["container"] for line in lines] == ["inference-server", "gateway"]
    assert "POST /score 424 3ms" in lines[1]["text"]


async def test_keys_of_the_endpoint_are_never_in_its_logs(shop: Api) -> None:
    keys = (await shop.ask("POST", "/onlineEndpoints/shop/listKeys")).json()
    written(shop, "inference-server", f"asked with {keys['primaryKey']} and {keys['secondaryKey']}")
    assert await logs(shop) == {"content": "asked with *** and ***\n"}


async def test_a_deployment_that_failed_before_its_container_says_so(shop: Api) -> None:
    failed = failure("PackageNotFound", "there is no package nosuch")
    with shop.database.write() as tx:
        row = tx.resource("deployment", "shop/blue")
        tx.set_status(row, {"gave_up": {"generation": 1, "failure": failed.to_json()}})
    content = (await logs(shop))["content"]
    assert "PackageNotFound" in content and "never up" in content and "--local" in content


async def test_logs_of_a_deleted_deployment_are_kept_and_named(shop: Api) -> None:
    shop.journal.note("shop/green", (Told("plan", "generation 1 accepted"),), 1.0)
    folder = shop.journal.folder("shop/green") / "shop-green-abc-0"
    folder.mkdir()
    (folder / "inference-server.log").write_bytes(stamp(2.0) + b"last words\n")
    shop.journal.end("shop/green", "uid", 3.0)
    path = "/onlineEndpoints/shop/deployments/green/getLogs"
    answer = await shop.ask("POST", path, {})
    assert code_of(answer) == "404 DeploymentNotFound"
    assert "get-logs -e shop -n green --deleted" in answer.text
    kept = (await shop.ask("POST", path, {"deleted": True, "containerType": "All"})).json()["content"]
    assert [line.partition("Z ")[2] for line in kept.splitlines()] == [
        "plan - generation 1 accepted",
        "boot shop-green-abc-0 last words",
    ]
    assert (await shop.ask("POST", path, {"deleted": True})).json() == {"content": "last words\n"}
    for name in ("gone", "*", "..%2e", "green~uid"):
        answer = await shop.ask(
            "POST", f"/onlineEndpoints/shop/deployments/{name}/getLogs", {"deleted": True}
        )
        assert code_of(answer) == "404 DeploymentNotFound"


async def test_a_diagnosis_is_an_error_object_or_null(shop: Api) -> None:
    found = (await shop.ask("POST", f"{BLUE}/diagnose")).json()
    assert (found["endpoint"], found["deployment"], found["verdict"]) == ("shop", "blue", None)
    fields = {"endpoint": "shop", "deployment": "blue"}
    failed = failure("CrashLoop", "it ends", evidence=("one",), fields=fields, confidence=Confidence.LIKELY)
    shop.diagnosis["verdict"] = failed
    verdict = (await shop.ask("POST", f"{BLUE}/diagnose")).json()["verdict"]
    assert verdict["code"] == "CrashLoop"
    info = verdict["additionalInfo"][0]["info"]
    assert (info["evidence"], info["confidence"], info["numericCode"]) == (["one"], "likely", "ERR_2200")
    assert code_of(await shop.ask("POST", f"{BLUE}x/diagnose")) == "404 DeploymentNotFound"


# --- assets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, key", [("codes", "codeUri"), ("models", "modelUri")])
async def test_a_version_is_registered_once_and_never_changes(api: Api, kind: str, key: str) -> None:
    body = {"properties": {key: f"file://{api.code('one')}"}}
    assert (await api.ask("PUT", f"/{kind}/thing/versions/1", body)).status_code == 201
    again = await api.ask("PUT", f"/{kind}/thing/versions/1", body)
    assert again.status_code == 200
    api.code("two")
    other = await api.ask("PUT", f"/{kind}/thing/versions/1", body)
    assert code_of(other) == "409 AssetVersionImmutable"
    assert len(info_of(other)["evidence"]) == 2
    assert (await api.ask("GET", f"/{kind}/thing/versions/1")).json() == again.json()
    assert (await api.ask("PUT", f"/{kind}/thing/versions/2", body)).status_code == 201


async def test_an_environment_version_is_its_recipe(api: Api) -> None:
    body = {"properties": {"image": "a", "description": "x"}}
    assert (await api.ask("PUT", "/environments/e/versions/1", body)).status_code == 201
    body["properties"]["description"] = "y"
    assert (await api.ask("PUT", "/environments/e/versions/1", body)).status_code == 200
    body["properties"]["image"] = "b"
    assert code_of(await api.ask("PUT", "/environments/e/versions/1", body)) == "409 AssetVersionImmutable"


async def test_versions_are_listed_newest_first(api: Api) -> None:
    for version in ("1", "10", "2"):
        await api.ask("PUT", f"/environments/e/versions/{version}", {"properties": {"image": version}})
        api.clock.advance(1)
    found = (await api.ask("GET", "/environments/e/versions")).json()["value"]
    assert [v["name"] for v in found] == ["2", "10", "1"]
    assert (await api.ask("GET", "/environments/none/versions")).json() == {"value": []}


@pytest.mark.parametrize(
    "kind, properties, code",
    [
        ("codes", {}, "400 RequestInvalid"),
        ("models", {"modelUri": 3}, "400 RequestInvalid"),
        ("models", {"modelUri": "ftp://example.invalid/m"}, "400 AssetSchemeUnknown"),
        ("models", {"modelUri": "relative/path"}, "400 AssetSchemeUnknown"),
        ("models", {"modelUri": "file:///no/such/file"}, "400 AssetSourceMissing"),
        ("codes", {"codeUri": "file:///dev/null"}, "400 AssetSourceMissing"),
        ("environments", {"image": 3}, "400 SpecInvalid"),
        ("environments", {"condaFile": "a: [", "image": "x"}, "400 SpecInvalid"),
    ],
)
async def test_what_cannot_be_taken_in_is_a_coded_failure(
    api: Api, kind: str, properties: Any, code: str
) -> None:
    answer = await api.ask("PUT", f"/{kind}/thing/versions/1", {"properties": properties})
    assert code_of(answer) == code
    assert (await api.ask("GET", f"/{kind}/thing/versions")).json() == {"value": []}


async def test_the_workspace_itself_is_no_source(api: Api) -> None:
    body = {"properties": {"codeUri": f"file://{api.folder}"}}
    assert code_of(await api.ask("PUT", "/codes/thing/versions/1", body)) == "400 AssetInsideHome"


@pytest.mark.parametrize("name, version", [("%2e%2e", "1"), ("a b", "1"), ("m", "%2e%2e"), ("m" * 300, "1")])
async def test_asset_names_that_could_leave_their_folder_are_refused(
    api: Api, name: str, version: str
) -> None:
    for kind, properties in (
        ("models", {"modelUri": f"file://{api.code()}"}),
        ("codes", {"codeUri": f"file://{api.code()}"}),
        ("environments", {"image": "x"}),
    ):
        target = f"/{kind}/{name}/versions/{version}"
        answer = await api.client.put(httpx_url(target), json={"properties": properties})
        assert code_of(answer) in ("400 RequestInvalid", "400 SpecInvalid")
        assert ("name" if version == "1" else "version") in str(answer.json()["error"])
        with api.database.read() as tx:
            assert not tx.asset_versions(kind, name.replace("%2e", "."))


def httpx_url(target: str) -> httpx.URL:
    """A URL whose dots are not taken out by the client."""
    workspace = (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/local"
    )
    return httpx.URL("http://localhost").copy_with(
        raw_path=f"{workspace}{target}".replace(" ", "%20").encode()
    )


async def test_build_logs_are_found_by_environment_and_by_key(shop: Api) -> None:
    shop.build_logs.logs["key-of-local/base"] = "resolved 3 packages\n"
    found = (await shop.ask("GET", "/environments/env/versions/1/buildLog")).json()
    assert found == {"key": "key-of-local/base", "content": "resolved 3 packages\n"}
    shop.build_logs.logs["abc"] = "x"
    assert (await shop.ask("GET", "/environmentBuilds/abc/log")).json() == {"key": "abc", "content": "x"}


async def test_an_operation_ends_with_its_resource_but_can_still_be_asked_for(shop: Api) -> None:
    url = (await shop.ask("DELETE", BLUE)).headers["Azure-AsyncOperation"]
    running = (await shop.client.get(url)).json()
    assert running["properties"]["waitingFor"]
    shop.finish(DEPLOYMENT, "shop/blue", OperationStatus.SUCCEEDED)
    assert (await shop.client.get(url)).json()["status"] == "Succeeded"
