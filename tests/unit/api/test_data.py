"""Data assets on the wire: addresses that are kept and not read, and the collections of deployments that name them."""

from __future__ import annotations

from typing import Any

import httpx

from .conftest import WS, Served

FOLDER = "azureml://datastores/workspaceblobstore/paths/modelDataCollector/shop/blue/model_inputs"


def code_of(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}"


def data(**more: Any) -> dict[str, Any]:
    return {"properties": {"dataType": "uri_folder", "dataUri": FOLDER, "isAnonymous": False, **more}}


async def put(api: Served, body: Any, *, name: str = "inputs", version: str = "1") -> httpx.Response:
    answer = await api.ask("PUT", f"/data/{name}/versions/{version}", body)
    api.clock.advance(1)
    return answer


async def test_an_address_is_kept_as_it_is_and_found_again(api: Served) -> None:
    made = await put(api, data(description="d", tags={"a": "b"}, properties={"p": "q"}, isArchived=False))
    assert made.status_code == 201, made.text
    document = made.json()
    assert document["id"] == f"{WS}/data/inputs/versions/1"
    properties = document["properties"]
    assert (properties["dataType"], properties["dataUri"]) == ("uri_folder", FOLDER)
    assert (properties["description"], properties["tags"]) == ("d", {"a": "b"})
    assert properties["isArchived"] is False
    assert (await api.ask("GET", "/data/inputs/versions/1")).json() == document
    assert (await api.ask("GET", "/data/inputs/versions")).json() == {"value": [document]}
    assert code_of(await api.ask("GET", "/data/inputs/versions/2")) == "404 AssetNotFound"
    assert code_of(await api.ask("GET", "/data/inputs/versions/1/files")) == "400 AssetWithoutFiles"


async def test_names_tell_their_type_and_versions(api: Served) -> None:
    assert code_of(await api.ask("GET", "/data/table")) == "404 AssetNotFound"
    for version in ("1", "4"):
        uri = f"https://example.org/{version}?id=5"
        await put(api, data(dataType="mltable", dataUri=uri), name="table", version=version)
    found = (await api.ask("GET", "/data/table")).json()
    properties = found["properties"]
    assert (properties["latestVersion"], properties["nextVersion"]) == ("4", "5")
    assert properties["dataType"] == "mltable"
    changed = await api.ask("PUT", "/data/table", {"properties": {"description": "both"}})
    assert changed.json()["properties"]["dataType"] == "mltable"
    assert [each["name"] for each in (await api.ask("GET", "/data")).json()["value"]] == ["table"]
    newest = (await api.ask("GET", "/data/table/versions/4")).json()["properties"]
    assert newest["dataUri"] == "https://example.org/4?id=5"


async def test_a_version_never_changes_its_address_and_may_change_its_words(api: Served) -> None:
    await put(api, data(tags={"a": "b"}))
    again = await put(api, data(dataType="UriFolder", tags={"c": "d"}))
    assert again.status_code == 200, "the type in another spelling is the same type"
    assert again.json()["properties"]["tags"] == {"c": "d"}
    assert again.json()["properties"]["dataType"] == "uri_folder"
    for other in (data(dataUri=f"{FOLDER}/2"), data(dataType="uri_file")):
        refused = await put(api, other)
        assert code_of(refused) == "409 AssetVersionImmutable"
        # The ecosystem's client then takes the one that is there.
        assert "already exists" in refused.json()["error"]["message"]
        assert FOLDER in refused.text
    assert (await api.ask("GET", "/data/inputs/versions/1")).json() == again.json()
    numbered = await api.ask("POST", "/data/inputs/versions", data(dataUri=f"{FOLDER}/2"))
    assert (numbered.status_code, numbered.json()["name"]) == (201, "2")


async def test_archived_versions_are_hidden(api: Served) -> None:
    await put(api, data())
    assert (await put(api, data(isArchived=True))).status_code == 200
    assert (await api.ask("GET", "/data/inputs/versions")).json() == {"value": []}
    assert (await api.ask("GET", "/data/inputs/versions/1")).json()["properties"]["isArchived"] is True


async def test_all_problems_of_a_body_at_once(api: Served) -> None:
    body = data(dataType="folder", dataUri=5, tags=["x"], isArchived="yes")
    refused = await put(api, body)
    assert refused.status_code == 400, refused.text
    for key in ("dataType", "dataUri", "tags", "isArchived"):
        assert f"properties.{key}" in refused.text, key
    missing = await put(api, {"properties": {}})
    assert "properties.dataType" in missing.text and "properties.dataUri" in missing.text
    assert (await api.ask("GET", "/data/inputs/versions")).json() == {"value": []}


async def test_addresses_that_name_nothing_are_refused(api: Served) -> None:
    for uri in ("./here", "/here", "", "azureml://jobs/x/outputs/y", "azureml:model:1", "https://"):
        refused = await put(api, data(dataUri=uri))
        assert refused.status_code == 400 and "properties.dataUri" in refused.text, (uri, refused.text)
    unknown = await put(api, data(dataUri="azureml://datastores/attic/paths/x"))
    details = unknown.json()["error"]["details"]
    assert [each["code"] for each in details] == ["DatastoreUnknown"]
    assert "attic" in details[0]["message"] and "workspaceblobstore" in details[0]["message"]


async def test_addresses_that_carry_secrets_are_not_kept(api: Served) -> None:
    for uri in (
        "https://a.blob.core.windows.net/c/p?sv=1&sig=SECRET",
        "https://me:SECRET@example.org/x",
        "s3://bucket/key?X-Amz-Signature=SECRET",
    ):
        refused = await put(api, data(dataUri=uri))
        assert refused.status_code == 400, uri
        assert "SECRET" not in refused.text


async def test_uploads_that_data_assets_name_stay(api: Served) -> None:
    base = "azureml://datastores/workspaceblobstore/paths"
    listed = await api.ask("POST", "/datastores/workspaceblobstore/listSecrets", {"expireAfterHours": 1})
    query = listed.json()["sasToken"]
    account = (await api.ask("GET", "/datastores/workspaceblobstore")).json()["properties"]["accountName"]
    store = f"https://{account}/azureml-blobstore/LocalUpload"
    for path in ("abc/folder/x.csv", "abc/folder2/x.csv", "def/y.csv"):
        headers = {"x-ms-blob-type": "BlockBlob"}
        done = await api.outside.put(f"{store}/{path}?{query}", content=b"a", headers=headers)
        assert done.status_code == 201, done.text
    await put(api, data(dataUri=f"{base}/LocalUpload/abc/folder/"))
    await put(api, data(dataType="uri_file", dataUri=f"{base}/LocalUpload/def/y.csv"), name="file")
    api.clock.advance(8 * 86400)
    api.blobs.sweep(api.clock.now())
    with api.database.read() as tx:
        kept = [blob.name for blob in tx.blobs("azureml-blobstore", "LocalUpload/")]
    assert kept == ["LocalUpload/abc/folder/x.csv", "LocalUpload/def/y.csv"]


# --- deployments --------------------------------------------------------------------------------------------
def collecting(data_id: Any) -> dict[str, Any]:
    facts = {"dataCollectionMode": "enabled", "samplingRate": 0.5, "dataId": data_id}
    return {"dataCollector": {"collections": {"model_inputs": facts}, "rollingRate": "hour"}}


async def test_a_deployment_answers_with_the_data_it_was_given(shop: Served) -> None:
    await put(shop, data())
    id_ = f"{WS}/data/inputs/versions/1"
    for given in (id_, "azureml:inputs:1", "azureml:inputs@latest"):
        made = await shop.deployment("green", **collecting(given))
        assert made.status_code in (200, 201), made.text
        found = (await shop.ask("GET", "/onlineEndpoints/shop/deployments/green")).json()
        collection = found["properties"]["dataCollector"]["collections"]["model_inputs"]
        assert collection == {"dataCollectionMode": "Enabled", "samplingRate": 0.5, "dataId": id_}


async def test_a_deployment_whose_data_is_not_there_is_refused(shop: Served) -> None:
    answer = await shop.deployment("green", **collecting(f"{WS}/data/inputs/versions/1"))
    assert code_of(answer) == "404 AssetNotFound"
    wrong = await shop.deployment("green", **collecting(5))
    assert wrong.status_code == 400 and "model_inputs.dataId" in wrong.text
    local = await shop.deployment("green", **collecting("./data"))
    assert "ReferenceInvalid" in local.text
    code = await shop.deployment("green", **collecting(f"{WS}/codes/code/versions/1"))
    assert code_of(code) == "404 AssetNotFound"
