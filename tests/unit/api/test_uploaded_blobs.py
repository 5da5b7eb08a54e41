"""What becomes of uploads: registered content, what is swept and what stays, and whether a blob exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from moorings.spec.blob_places import BlobPlace

from .blob_requests import BLOCK, BOX, STORE, Api, ask, code_of, ids, join, left_over, names, put, put_block


async def upload(api: Api, files: dict[str, bytes], folder: str = "LocalUpload/abc/model") -> str:
    for name, content in files.items():
        assert (await put(api, f"{STORE}/{folder}/{name}", content)).status_code == 201
    scope = "subscriptions/s/resourcegroups/g/workspaces/w"
    return f"azureml://{scope}/datastores/workspaceblobstore/paths/{folder}"


async def test_a_registered_folder_is_the_uploaded_one(api: Api) -> None:
    uri = await upload(api, {"MLmodel": b"m", "data/w": b"w", "empty": b""})
    made = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": uri}})
    assert made.status_code == 201, made.text
    facts = made.json()["properties"]["moorings"]
    assert (facts["files"], facts["sizeBytes"], facts["folder"]) == (3, 2, "model")
    tree = api.blobs.store.tree(facts["digest"])
    assert [f.path for f in tree.files] == ["model/MLmodel", "model/data/w", "model/empty"]
    assert not tree.is_file


async def test_a_registered_file_is_the_uploaded_one(api: Api) -> None:
    await put(api, f"{STORE}/LocalUpload/abc/model.pkl", b"pickled")
    uri = "azureml://datastores/workspaceblobstore/paths/LocalUpload/abc/model.pkl"
    made = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": uri}})
    tree = api.blobs.store.tree(made.json()["properties"]["moorings"]["digest"])
    assert ([f.path for f in tree.files], tree.is_file) == (["model.pkl"], True)


async def test_uploaded_code_is_found_by_its_address_and_by_its_hash_under_any_name(api: Api) -> None:
    await put(api, "/blob/moorings/abc-code/src/score.py", b"def run(data): ...")
    properties = {
        "codeUri": "https://localhost:8443/blob/moorings/abc-code/src",
        "isAnonymous": True,
        "properties": {"hash_sha256": "f" * 64, "hash_version": 202208},
    }
    made = await api.ask("PUT", "/codes/first/versions/1", {"properties": properties})
    assert made.status_code == 201, made.text
    tree = api.blobs.store.tree(made.json()["properties"]["moorings"]["digest"])
    assert [f.path for f in tree.files] == ["score.py"]
    found = await api.ask("GET", f"/codes/quite-another/versions?hash={'f' * 64}&hashVersion=202208")
    assert [v["id"] for v in found.json()["value"]] == [made.json()["id"]]
    none = await api.ask("GET", f"/codes/quite-another/versions?hash={'0' * 64}&hashVersion=202208")
    assert (none.status_code, none.json()["value"]) == (200, [])


async def test_registered_content_does_not_change_with_the_upload(api: Api) -> None:
    uri = await upload(api, {"w": b"first"})
    made = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": uri}})
    await upload(api, {"w": b"second"})
    tree = api.blobs.store.tree(made.json()["properties"]["moorings"]["digest"])
    assert api.blobs.store.blob(tree.files[0].sha256).read_bytes() == b"first"


async def test_registered_content_is_readable_at_the_address_that_is_shown_and_not_writable(api: Api) -> None:
    uri = await upload(api, {"a/w": b"first", "b": b""})
    made = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": uri}})
    path = made.json()["properties"]["modelUri"].partition("/paths/")[2]
    assert re.fullmatch("moorings/[0-9a-f]{64}/model", path)
    assert (await ask(api, "GET", f"{STORE}/{path}/a/w")).content == b"first"
    assert (await ask(api, "HEAD", f"{STORE}/{path}")).status_code == 404
    answer = await ask(api, "GET", STORE, f"&restype=container&comp=list&prefix={path}/&delimiter=/")
    assert names(answer)[:2] == ([f"{path}/b"], [f"{path}/a/"])
    for verb_path, extra in (
        (f"{STORE}/{path}/a/w", ""),
        (f"{STORE}/{path}/a/w", "&comp=metadata"),
        (f"{STORE}/moorings/new", ""),
    ):
        answer = await ask(api, "PUT", verb_path, extra, content=b"x", headers=BLOCK)
        assert code_of(answer) == "403 UploadRefused"
    assert code_of(await join(api, f"{STORE}/{path}/a/w", [])) == "403 UploadRefused"


async def test_content_that_is_not_stored_is_not_there(api: Api) -> None:
    for path in (f"moorings/{'0' * 64}/model", "moorings/%2e%2e", "moorings/x/y", f"moorings/{'0' * 64}"):
        assert (await ask(api, "GET", f"{STORE}/{path}")).status_code == 404


async def test_the_same_path_again_is_no_change_and_another_one_is_refused_in_the_words_clients_know(
    api: Api,
) -> None:
    uri = await upload(api, {"w": b"first"})
    other = await upload(api, {"w": b"other"}, folder="LocalUpload/def/model")
    body = {"properties": {"modelUri": uri}}
    assert (await api.ask("PUT", "/models/m/versions/1", body)).status_code == 201
    assert (await api.ask("PUT", "/models/m/versions/1", body)).status_code == 200
    refused = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": other}})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "UserError")
    assert error["message"] == "Asset paths cannot be updated."
    assert error["details"][0]["code"] == "AssetVersionImmutable"


@pytest.mark.parametrize("path", ["LocalUpload/none/model", "LocalUpload/abc/mod", "x", "../etc"])
async def test_an_address_without_an_upload(api: Api, path: str) -> None:
    await upload(api, {"w": b"first"})
    uri = f"azureml://datastores/workspaceblobstore/paths/{path}"
    answer = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": uri}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "UploadMissing")


async def test_a_name_that_is_both_file_and_folder(api: Api) -> None:
    uri = await upload(api, {"a": b"file", "a/b": b"below it"})
    answer = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": uri}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "UploadAmbiguous")
    assert not list((api.folder / "assets").rglob("*.json")), "nothing half-made"


async def test_a_build_context_is_kept_by_its_content(api: Api) -> None:
    await upload(api, {"Dockerfile": b"FROM x", "a/b": b""}, folder="LocalUpload/abc/context")
    lost = "https://localhost:8443/blob/azureml-blobstore/LocalUpload/abc/context/"
    body = {"properties": {"build": {"contextUri": lost}}}
    made = await api.ask("PUT", "/environments/e/versions/1", body)
    assert made.status_code == 201, made.text
    build = made.json()["properties"]["build"]
    digest = build["contextUri"].rpartition("/")[2]
    assert build["dockerfilePath"] == "Dockerfile"
    assert [f.path for f in api.blobs.store.tree(digest).files] == ["Dockerfile", "a/b"]
    assert (await api.ask("PUT", "/environments/e/versions/1", body)).status_code == 200
    await upload(api, {"Dockerfile": b"FROM y"}, folder="LocalUpload/abc/context")
    assert (await api.ask("PUT", "/environments/e/versions/1", body)).status_code == 409


async def test_uploads_go_when_nobody_wrote_to_them_for_a_week_registered_content_stays(api: Api) -> None:
    uri = await upload(api, {"w": b"first"})
    made = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": uri}})
    await put_block(api, f"{BOX}/never-joined", ids(1)[0], b"x")
    api.clock.advance(6 * 86400)
    await put(api, f"{BOX}/young")
    api.clock.advance(2 * 86400)
    api.blobs.sweep(api.clock.now())
    assert code_of(await ask(api, "GET", f"{STORE}/LocalUpload/abc/model/w")) == "404 BlobNotFound"
    assert (await ask(api, "GET", f"{BOX}/young")).status_code == 200
    path = made.json()["properties"]["modelUri"].partition("/paths/")[2]
    assert (await ask(api, "GET", f"{STORE}/{path}/w")).content == b"first"
    again = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": uri}})
    assert again.status_code == 200, "the same words are no new content"


async def test_what_a_killed_daemon_left_is_swept(api: Api) -> None:
    await put(api, f"{BOX}/a", b"kept")
    root: Path = api.folder / "uploads"
    (root / "incoming" / "half").write_bytes(b"x")
    (root / "data" / "ab").mkdir(exist_ok=True)
    (root / "data" / "ab" / "abandoned").write_bytes(b"x")
    assert api.blobs.sweep(api.clock.now()) == 2
    assert left_over(api) == ["data"]
    assert api.blobs.find(BlobPlace("box", "a")).path.read_bytes() == b"kept"


async def test_uploads_of_equal_content_at_once_do_not_disturb_one_another(api: Api) -> None:
    import asyncio

    answers = await asyncio.gather(*(put(api, f"{BOX}/a", bytes([n]) * 100_000) for n in range(12)))
    assert {a.status_code for a in answers} == {201}
    content = (await ask(api, "GET", f"{BOX}/a")).content
    assert len(content) == 100_000 and len(set(content)) == 1
    assert left_over(api) == ["data"]


async def test_whether_a_blob_exists(api: Api) -> None:
    async def exists(name: str, container: str = "azureml-blobstore", account: str = "moorings") -> Any:
        query = {"account": account, "container": container, "name": name}
        return await api.ask("GET", "/blobExists", params=query)

    uri = await upload(api, {"w": b"first"})
    made = await api.ask("PUT", "/models/m/versions/1", {"properties": {"modelUri": uri}})
    path = made.json()["properties"]["modelUri"].partition("/paths/")[2]
    assert (await exists("LocalUpload/abc/model/w")).json() == {"exists": True}
    assert (await exists(f"{path}/w")).json() == {"exists": True}
    assert (await exists(path)).json() == {"exists": False, "below": f"{path}/w"}
    assert (await exists("nowhere")).json() == {"exists": False, "below": None}
    shown = (await api.ask("GET", "/datastores/workspaceblobstore")).json()["properties"]["accountName"]
    assert (await exists("nowhere", account=shown)).status_code == 200
    await put(api, f"{BOX}/a", b"x")
    assert (await exists("a", container="box")).json() == {"exists": True}
    api.blobs.find(BlobPlace("box", "a")).path.unlink()
    assert (await exists("a", container="box")).json() == {"exists": False}, "its content is lost"
    for wrong in (await exists("a b", account="other"), await exists("a b", container="other")):
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (404, "BlobStoreUnknown")
        fix = "--account-name moorings --container-name azureml-blobstore --name 'a b'"
        assert fix in wrong.text
