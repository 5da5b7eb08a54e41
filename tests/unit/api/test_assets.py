"""Registered assets on the wire: containers, lists, numbering, archiving, what may change in a version."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import WS, Served


def code_of(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}"


def model(api: Served, text: str = "weights", name: str = "m.bin", **more: Any) -> dict[str, Any]:
    """The body of a model that is one file."""
    path = api.folder.parent / name
    path.write_text(text)
    return {"properties": {"modelUri": path.as_uri(), "modelType": "custom_model", **more}}


async def put(api: Served, version: str, body: Any, name: str = "m") -> httpx.Response:
    answer = await api.ask("PUT", f"/models/{name}/versions/{version}", body)
    api.clock.advance(1)
    return answer


async def names(api: Served, path: str) -> list[str]:
    answer = await api.ask("GET", path)
    assert answer.status_code == 200, answer.text
    return [each["name"] for each in answer.json()["value"]]


async def test_a_container_tells_the_latest_and_the_next_version(api: Served) -> None:
    assert code_of(await api.ask("GET", "/models/m")) == "404 AssetNotFound"
    for version in ("1", "7", "beta"):
        assert (await put(api, version, model(api, version))).status_code == 201
    found = (await api.ask("GET", "/models/m")).json()
    assert found["id"] == f"{WS}/models/m"
    assert found["name"] == "m"
    properties = found["properties"]
    assert (properties["latestVersion"], properties["nextVersion"]) == ("beta", "8")
    assert properties["isArchived"] is False
    listed = (await api.ask("GET", "/models")).json()
    assert listed == {"value": [found]}


async def test_without_a_version_it_gets_the_next_number(api: Served) -> None:
    async def register(text: str) -> tuple[int, str]:
        answer = await api.ask("POST", "/models/m/versions", model(api, text))
        api.clock.advance(1)
        return answer.status_code, answer.json()["name"]

    assert await register("a") == (201, "1")
    assert await register("a") == (200, "1"), "the same content is no new version"
    assert await register("b") == (201, "2")
    assert await register("a") == (201, "3"), "older content again becomes the latest"
    await put(api, "named", model(api, "c"))
    assert await register("c") == (201, "4")


async def test_versions_registered_at_once_all_get_their_own_number(api: Served) -> None:
    bodies = [model(api, f"content {n}", name=f"m{n}.bin") for n in range(12)]
    answers = await asyncio.gather(*(api.ask("POST", "/models/m/versions", body) for body in bodies))
    assert sorted(int(a.json()["name"]) for a in answers) == list(range(1, 13))
    assert {a.status_code for a in answers} == {201}


async def test_one_version_registered_twice_at_once_is_one_content(api: Served) -> None:
    bodies = [model(api, f"content {n}", name=f"m{n}.bin") for n in range(2)]
    answers = await asyncio.gather(*(api.ask("PUT", "/models/m/versions/1", body) for body in bodies))
    assert sorted(a.status_code for a in answers) == [201, 409]
    refused = next(a for a in answers if a.status_code == 409)
    assert code_of(refused) == "409 AssetVersionImmutable"


async def test_refused_content_does_not_stay_on_the_disk(api: Served) -> None:
    await put(api, "1", model(api, "a"))
    before = sorted(p for p in api.folder.rglob("*") if p.is_file() and "assets" in p.parts)
    assert code_of(await put(api, "1", model(api, "b"))) == "409 AssetVersionImmutable"
    assert sorted(p for p in api.folder.rglob("*") if p.is_file() and "assets" in p.parts) == before


async def test_the_kind_of_a_model_is_part_of_its_content(api: Served) -> None:
    await put(api, "1", model(api))
    answer = await put(api, "1", model(api, modelType="triton_model"))
    assert code_of(answer) == "409 AssetVersionImmutable"
    assert "given as      tritonmodel" in str(answer.json())


async def test_words_change_and_content_does_not(api: Served) -> None:
    await put(api, "1", model(api, description="one", tags={"a": "b"}, properties={"p": "q"}))
    first = (await api.ask("GET", "/models/m/versions/1")).json()
    answer = await put(api, "1", model(api, tags={"c": "d"}))
    assert answer.status_code == 200
    now = answer.json()["properties"]
    assert (now["description"], now["tags"], now["properties"]) == ("one", {"c": "d"}, {"p": "q"})
    assert now["flavors"] == {}, "clients cannot do without"
    assert answer.json()["systemData"]["lastModifiedAt"] > first["systemData"]["lastModifiedAt"]
    assert answer.json()["systemData"]["createdAt"] == first["systemData"]["createdAt"]


async def test_what_get_answers_can_be_put_back_without_the_files(api: Served) -> None:
    """As the ecosystem's client archives and changes a version: GET, change, PUT."""
    await put(api, "1", model(api))
    (api.folder.parent / "m.bin").unlink()
    document = (await api.ask("GET", "/models/m/versions/1")).json()
    uri = document["properties"]["modelUri"]
    assert uri.startswith("azureml://subscriptions/") and "/resourcegroups/local/workspaces/local/" in uri
    assert uri.endswith(f"/datastores/workspaceblobstore/paths/moorings/{digest(document)}/m.bin")
    document["properties"] |= {"isArchived": True, "tags": {"x": "y"}}
    answer = await put(api, "1", document)
    assert answer.status_code == 200, answer.text
    assert answer.json()["properties"]["isArchived"] is True
    assert answer.json()["properties"]["tags"] == {"x": "y"}
    # The same address under another name: the content is there already.
    copied = await put(api, "1", {"properties": {"modelUri": uri}}, name="copy")
    assert copied.status_code == 201
    assert digest(copied.json()) == digest(document)


def digest(document: dict[str, Any]) -> str:
    return str(document["properties"]["moorings"]["digest"])


async def archive(api: Served, version: str, archived: bool = True) -> httpx.Response:
    document = (await api.ask("GET", f"/models/m/versions/{version}")).json()
    document["properties"]["isArchived"] = archived
    return await put(api, version, document)


async def test_archived_versions_are_hidden_and_are_not_the_latest(api: Served) -> None:
    for version in ("1", "2", "3"):
        await put(api, version, model(api, version))
    await archive(api, "3")
    assert await names(api, "/models/m/versions") == ["2", "1"]
    assert await names(api, "/models/m/versions?listViewType=ArchivedOnly") == ["3"]
    assert await names(api, "/models/m/versions?listViewType=All") == ["3", "2", "1"]
    container = (await api.ask("GET", "/models/m")).json()["properties"]
    assert (container["latestVersion"], container["nextVersion"]) == ("2", "4")
    assert (await api.ask("GET", "/models/m/versions/3")).status_code == 200, "it can still be referred to"
    await archive(api, "3", archived=False)
    assert await names(api, "/models/m/versions") == ["3", "2", "1"]


async def test_a_name_archived_as_a_whole(api: Served) -> None:
    await put(api, "1", model(api, "1"))
    hide = {"properties": {"isArchived": True}}
    assert (await api.ask("PUT", "/models/m", hide)).status_code == 200
    assert await names(api, "/models") == []
    assert await names(api, "/models?listViewType=ArchivedOnly") == ["m"]
    assert await names(api, "/models/m/versions") == []
    assert code_of(await put(api, "2", model(api, "2"))) == "409 AssetContainerArchived"
    await archive(api, "1")
    assert code_of(await archive(api, "1", archived=False)) == "409 AssetContainerArchived"
    assert (await api.ask("PUT", "/models/m", {"properties": {"isArchived": False}})).status_code == 200
    assert (await archive(api, "1", archived=False)).status_code == 200
    assert await names(api, "/models") == ["m"]


async def test_lists_can_be_ordered_cut_and_filtered(api: Served) -> None:
    for version in ("1", "2", "3", "10"):
        await put(api, version, model(api, version, stage="Production" if version == "2" else "Staging"))
    below = "/models/m/versions"
    assert await names(api, f"{below}?$orderBy=createdtime desc&$top=1") == ["10"]
    assert await names(api, f"{below}?$orderBy=createdtime asc&$top=2&$skip=1") == ["2", "3"]
    assert await names(api, f"{below}?stage=Production") == ["2"]
    for wrong in ("$orderBy=size", "$top=0", "$top=x", "$skip=-1", "listViewType=Some"):
        assert code_of(await api.ask("GET", f"{below}?{wrong}")) == "400 RequestInvalid", wrong


async def test_long_lists_come_in_pages(api: Served) -> None:
    for number in range(205):
        await api.ask("PUT", f"/environments/e{number:03}/versions/1", {"properties": {"image": "x"}})
    first = (await api.ask("GET", "/environments?api-version=x")).json()
    assert len(first["value"]) == 200
    path = first["nextLink"].removeprefix("http://localhost")
    assert path.startswith(WS) and "api-version=x" in path
    rest = (await api.ask("GET", f"/{path}")).json()
    assert [each["name"] for each in rest["value"]] == [f"e{number:03}" for number in range(200, 205)]
    assert "nextLink" not in rest


async def test_versions_made_in_one_tick_are_ordered_by_number(api: Served) -> None:
    for number in range(1, 12):
        body = {"properties": {"image": f"i{number}"}}
        assert (await api.ask("POST", "/environments/e/versions", body)).json()["name"] == str(number)
    assert (await names(api, "/environments/e/versions"))[:3] == ["11", "10", "9"]


async def test_implicit_assets_are_in_no_list(api: Served) -> None:
    await put(api, "1", model(api, isAnonymous=True), name="a1b2")
    await api.ask(
        "PUT",
        "/codes/c0ffee/versions/1",
        {"properties": {"codeUri": f"file://{api.code()}", "isAnonymous": True}},
    )
    assert await names(api, "/models") == []
    assert await names(api, "/codes") == []
    await put(api, "2", model(api, "named"), name="a1b2")
    assert await names(api, "/models") == ["a1b2"]


async def test_labels_and_ids_in_deployments(shop: Served) -> None:
    for version in ("1", "2", "3"):
        await put(shop, version, model(shop, version))
    await archive(shop, "3")
    made = await shop.deployment(model="azureml:m@latest")
    assert made.json()["properties"]["model"] == f"{WS}/models/m/versions/2"
    exact = await shop.deployment(model="azureml:m:3")
    assert exact.json()["properties"]["model"] == f"{WS}/models/m/versions/3"
    label = await shop.deployment(model=f"{WS.lower()}/models/m/labels/latest")
    assert label.json()["properties"]["model"] == f"{WS}/models/m/versions/2"
    wrong = {
        "azureml:m:9": "versions of m, newest first: 3 (archived), 2, 1",
        "azureml:m@stable": "the only label is @latest",
        "azureml:other@latest": "not registered in this workspace",
        f"{WS}/environments/env/versions/1": "where one of the models is expected",
        f"{WS.removesuffix('local')}prod/models/m/versions/1": "is in workspace prod",
        "azureml://registries/public/models/m/versions/1": "no registry is attached",
    }
    for reference, words in wrong.items():
        answer = await shop.deployment(model=reference)
        assert code_of(answer) == "404 AssetNotFound", reference
        assert words in answer.text
    for version in ("1", "2"):
        await archive(shop, version)
    assert "every version of m is archived" in (await shop.deployment(model="azureml:m@latest")).text


@pytest.mark.parametrize("body", [{}, {"properties": []}, {"properties": {"isArchived": "yes"}}])
async def test_containers_refuse_what_they_do_not_understand(api: Served, body: Any) -> None:
    assert code_of(await api.ask("PUT", "/models/m", body)) == "400 RequestInvalid"
    assert code_of(await api.ask("PUT", "/models/a b", {"properties": {}})) == "400 RequestInvalid"


async def test_an_intake_tells_how_far_it_is(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from moorings.assets import store

    reached, go_on = threading.Event(), threading.Event()
    real = store.copy_file

    def held(found: Any, copy: Path, tell: Any) -> Any:
        taken = real(found, copy, tell)
        reached.set()
        assert go_on.wait(20)
        return taken

    monkeypatch.setattr(store, "copy_file", held)
    running = asyncio.create_task(api.ask("PUT", "/models/m/versions/1?intake=abc", model(api, "x" * 1000)))
    assert await asyncio.to_thread(reached.wait, 20)
    told = (await api.ask("GET", "/intakes/abc")).json()
    go_on.set()
    assert told["properties"] == {"doneBytes": 1000, "totalBytes": 1000, "file": "m.bin"}
    assert (await running).status_code == 201
    assert code_of(await api.ask("GET", "/intakes/abc")) == "404 OperationNotFound"
