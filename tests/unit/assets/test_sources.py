"""What addresses name, without asking anybody; and the file that names stores elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.assets import buckets
from moorings.assets.datastores import Datastore, read_datastores
from moorings.assets.sources import Bucket, Service, WebFile, find, without_secrets
from moorings.errors.exceptions import MooringsError

LONG = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/{}/paths/{}"
STORES = {
    "models": Datastore.model_validate(
        {
            "type": "s3",
            "bucket": "b",
            "endpoint": "https://s3.test",
            "region": "eu",
            "credentials": {"access_key_id": "k"},
        }
    ),
    "blob": Datastore.model_validate(
        {
            "type": "azure_blob",
            "account_name": "acct",
            "container_name": "c",
            "endpoint": "https://blobs.test/acct",
            "credentials": {"account_key": "secret"},
        }
    ),
    "g": Datastore.model_validate({"type": "gcs", "bucket": "gb", "credentials": {"bearer_token": "t"}}),
    "disk": Datastore.model_validate({"type": "local", "path": "/data"}),
}


def code_of(caught: pytest.ExceptionInfo[MooringsError]) -> str:
    return caught.value.failure.code


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/data/model", "/data/model"),
        ("/data/odd:name", "/data/odd:name"),
        ("file:///data/my%20model", "/data/my model"),
        ("file://localhost/data/model", "/data/model"),
        ("FILE:///data/model", "/data/model"),
        ("file:///data/a#b?c", "/data/a#b?c"),
        ("azureml://datastores/disk/paths/a/b", "/data/a/b"),
        (LONG.format("disk", "a%20b/"), "/data/a b"),
    ],
)
def test_local_addresses(uri: str, path: str) -> None:
    assert find(uri, STORES) == Path(path)


@given(st.binary(min_size=1, max_size=30).filter(lambda raw: b"\0" not in raw))
def test_any_path_survives_its_file_address(raw: bytes) -> None:
    path = Path("/" + os.fsdecode(raw).lstrip("/"))
    assert find(path.as_uri(), {}) == path


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://other/a/b/", (Service.S3, "other", "a/b", "", "", {})),
        ("s3://other/a%20b#c?d", (Service.S3, "other", "a b#c?d", "", "", {})),
        ("s3://b/x", (Service.S3, "b", "x", "", "https://s3.test", {"access_key_id": "k"})),
        ("gs://gb/x", (Service.GCS, "gb", "x", "", "", {"bearer_token": "t"})),
        ("gs://other", (Service.GCS, "other", "", "", "", {})),
        ("https://foo1.blob.core.windows.net/box/a/m.pkl", (Service.AZURE, "box", "a/m.pkl", "foo1", "", {})),
        (
            "https://foo1.blob.core.chinacloudapi.cn/box/m",
            (Service.AZURE, "box", "m", "foo1", "https://foo1.blob.core.chinacloudapi.cn", {}),
        ),
        (
            "https://foo1.blob.core.windows.net/box/m?sv=1&sig=abc%3D",
            (Service.AZURE, "box", "m", "foo1", "", {"sas_token": "sv=1&sig=abc%3D"}),
        ),
        (
            "https://acct.blob.core.windows.net/c/m",
            (Service.AZURE, "c", "m", "acct", "https://blobs.test/acct", {"account_key": "secret"}),
        ),
        (
            "https://blobs.test/acct/c/m%20n",
            (Service.AZURE, "c", "m n", "acct", "https://blobs.test/acct", {"account_key": "secret"}),
        ),
        ("abfss://box@foo1.dfs.core.windows.net/a/b", (Service.AZURE, "box", "a/b", "foo1", "", {})),
        ("wasbs://box@foo1.blob.core.windows.net/a", (Service.AZURE, "box", "a", "foo1", "", {})),
        (
            "azureml://datastores/blob/paths/x/y",
            (Service.AZURE, "c", "x/y", "acct", "https://blobs.test/acct", {"account_key": "secret"}),
        ),
        (
            LONG.format("models", "x/y/"),
            (Service.S3, "b", "x/y", "", "https://s3.test", {"access_key_id": "k"}),
        ),
    ],
)
def test_addresses_of_object_stores(uri: str, expected: tuple[Any, ...]) -> None:
    found = find(uri, STORES)
    assert isinstance(found, Bucket)
    assert (
        found.service,
        found.name,
        found.key,
        found.account,
        found.endpoint,
        dict(found.credentials),
    ) == expected
    assert "secret" not in repr(found) and "sig=" not in repr(found) and "sig=" not in found.shown


def test_other_addresses_of_the_web_are_one_file() -> None:
    found = find("https://u:p@host.test/a/m.bin?token=x", STORES)
    assert found == WebFile("https://u:p@host.test/a/m.bin?token=x", "https://host.test/a/m.bin")
    assert "token" not in repr(found)
    assert isinstance(find("http://127.0.0.1:8/m", {}), WebFile)


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("model/m.pkl", "AssetSchemeUnknown"),
        ("file://other-host/m", "AssetSchemeUnknown"),
        ("file:m.pkl", "AssetSchemeUnknown"),
        ("", "AssetSchemeUnknown"),
        ("ftp://host/m", "AssetSchemeUnknown"),
        ("runs:/abc/model", "AssetSchemeUnknown"),
        ("azureml://jobs/j/outputs/o/paths/m", "AssetSchemeUnknown"),
        ("azureml://datastores/none/paths/m", "DatastoreUnknown"),
        ("azureml://datastores/workspaceblobstore/paths/m", "ArtifactsMissing"),
        ("azureml://datastores/disk/paths/a/../../etc/passwd", "AssetSchemeUnknown"),
        ("azureml://datastores/disk/paths/%2e%2e/etc", "AssetSchemeUnknown"),
        ("http://host.test/m", "AssetSchemeUnknown"),
        ("https://host.test/", "AssetSchemeUnknown"),
        ("https:///m", "AssetSchemeUnknown"),
        ("https://host:port/m", "AssetSchemeUnknown"),
        ("https://[::1/m", "AssetSchemeUnknown"),
        ("s3:///key", "AssetSchemeUnknown"),
        ("abfss://foo1.dfs.core.windows.net/a", "AssetSchemeUnknown"),
        ("abfss://box@host.test/a", "AssetSchemeUnknown"),
    ],
)
def test_what_is_no_source_is_refused_with_what_would_be(uri: str, code: str) -> None:
    with pytest.raises(MooringsError) as caught:
        find(uri, STORES)
    assert code_of(caught) == code
    if code == "AssetSchemeUnknown":
        assert "file://" in caught.value.failure.fix and "s3://" in caught.value.failure.fix


@given(st.text(max_size=60))
def test_no_text_is_a_crash(text: str) -> None:
    for uri in (text, f"https://{text}", f"s3://{text}", f"azureml://{text}", f"abfss://{text}"):
        with contextlib.suppress(MooringsError):
            find(uri, STORES)


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("https://u:p@h/m?sig=1", "https://h/m"),
        ("https://h/m?download=true", "https://h/m"),
        ("file:///a?b", "file:///a?b"),
        ("azureml://datastores/d/paths/a?b", "azureml://datastores/d/paths/a?b"),
        ("https://[bad?sig=1", "https://[bad"),
    ],
)
def test_what_is_kept_of_an_address_has_no_secret(uri: str, kept: str) -> None:
    assert without_secrets(uri) == kept


# --- datastores.json ----------------------------------------------------------------------------------------
def stores_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "datastores.json"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_no_file_is_no_datastore(tmp_path: Path) -> None:
    assert read_datastores(tmp_path / "datastores.json") == {}


def test_every_wrong_entry_is_named_and_no_secret_is_shown(tmp_path: Path) -> None:
    entries = {
        "a": {"type": "s3", "credentials": {"secret_access_key": "hush"}},
        "b": {
            "type": "azure_blob",
            "account_name": "x",
            "container_name": "y",
            "credentials": {"acount_key": "hush"},
        },
        "c": {"type": "ftp"},
        "d": {"type": "local", "path": "relative"},
        "e": {"type": "gcs", "bucket": "x", "endpont": "y"},
        "f": "hush",
    }
    with pytest.raises(MooringsError) as caught:
        read_datastores(stores_file(tmp_path, json.dumps(entries)))
    failed = caught.value.failure
    assert failed.code == "DatastoreInvalid"
    for name in "abcdef":
        assert any(line.startswith((f"{name}:", f"{name}.")) for line in failed.evidence), name
    assert "hush" not in str(failed)


@pytest.mark.parametrize(("text", "mode"), [("{", 0o600), ("[]", 0o600), ("{}", 0o644), ("{}", 0o640)])
def test_a_file_that_cannot_be_trusted_is_refused(tmp_path: Path, text: str, mode: int) -> None:
    path = stores_file(tmp_path, text, mode)
    with pytest.raises(MooringsError) as caught:
        read_datastores(path)
    assert code_of(caught) == "DatastoreInvalid"
    if mode != 0o600:
        assert caught.value.failure.fix == f"chmod 600 {path}"


# --- names of objects ---------------------------------------------------------------------------------------
def listed(*found: tuple[str, int]) -> list[str]:
    bucket = Bucket(Service.S3, "b", "m", "s3://b/m")
    metas = [{"path": path, "size": size} for path, size in found]
    return [path for path, _ in buckets._relative(bucket, metas)]


def test_objects_below_a_folder_keep_their_paths() -> None:
    assert listed(("m/b/c", 1), ("m/a", 0), ("m/b", 0)) == ["a", "b/c"], (
        "an empty object that stands for a folder"
    )


@pytest.mark.parametrize(
    "found",
    [
        [("m/../x", 1)],
        [("m/a/../../x", 1)],
        [("m//x", 1)],
        [("m/./x", 1)],
        [("m/a\0b", 1)],
        [("m/a", 1), ("m/a/b", 1)],
    ],
)
def test_names_that_cannot_be_files_are_refused(found: list[tuple[str, int]]) -> None:
    with pytest.raises(MooringsError) as caught:
        listed(*found)
    assert code_of(caught) == "AssetPathUnsafe"
