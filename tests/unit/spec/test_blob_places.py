"""Addresses of uploads: which name a place, and which names there may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.spec.blob_places import (
    BlobPlace,
    container_problem,
    name_problem,
    parse_blob_path,
    parse_blob_uri,
)

LONG = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/workspaceblobstore/paths"


@pytest.mark.parametrize(
    "path, place",
    [
        ("/blob/moorings/box-code/src/score.py", ("box-code", "src/score.py")),
        ("/blob/moorings/box-code", ("box-code", "")),
        ("/blob/moorings/box-code/", ("box-code", "")),
        (
            "/blob/moorings.blob.core.windows.net/azureml-blobstore/LocalUpload/a/b",
            ("azureml-blobstore", "LocalUpload/a/b"),
        ),
        ("/blob/moorings/box/sub%20dir/%C3%BC%20%231%20%2541%2B%26.txt", ("box", "sub dir/ü #1 %41+&.txt")),
        # joined to the account's address by a client, whose last part is lost that way
        (
            "/blob/azureml-blobstore/LocalUpload/abc/context/",
            ("azureml-blobstore", "LocalUpload/abc/context/"),
        ),
    ],
)
def test_paths_of_the_listener(path: str, place: tuple[str, str]) -> None:
    assert parse_blob_path(path) == BlobPlace(*place)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/blob/",
        "/blob/moorings",
        "/blob/other/box/a",
        "/blob/azureml-blobstore/moorings/a",
        "/blob/moorings/box/%ff",
    ],
)
def test_paths_that_name_no_place(path: str) -> None:
    assert parse_blob_path(path) is None


@pytest.mark.parametrize(
    "uri, place",
    [
        (f"{LONG}/LocalUpload/abc/model", ("azureml-blobstore", "LocalUpload/abc/model")),
        ("azureml://datastores/workspaceblobstore/paths/a/b%20c", ("azureml-blobstore", "a/b c")),
        ("https://localhost:8443/blob/moorings/box-code/src", ("box-code", "src")),
        ("https://127.0.0.1:1/blob/moorings/box-code/src", ("box-code", "src")),
    ],
)
def test_addresses_in_specs(uri: str, place: tuple[str, str]) -> None:
    assert parse_blob_uri(uri) == BlobPlace(*place)


@pytest.mark.parametrize(
    "uri",
    [
        "azureml://datastores/elsewhere/paths/a",
        "http://localhost:8443/blob/moorings/box/a",
        "https://example.org/blob/moorings/box/a",
        "https://localhost.example.org/blob/moorings/box/a",
        "https://localhost@example.org/blob/moorings/box/a",
        "file:///blob/moorings/box/a",
        "/blob/moorings/box/a",
        "https://[/blob",
        "",
    ],
)
def test_addresses_of_others(uri: str) -> None:
    assert parse_blob_uri(uri) is None


@pytest.mark.parametrize("name", ["a", "a/b", "a b/ü #1 %41+&.txt", "..a/b..", "a" * 255, "-", "a\\b", "~"])
def test_names_that_can_be(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/.",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\ud800",
        "\uffff",
        "a" * 256,
        "a/" * 600 + "a",
    ],
)
def test_names_that_cannot(name: str) -> None:
    assert name_problem(name)


@given(st.text(max_size=40))
def test_a_name_that_can_be_stays_below_the_folder_it_is_laid_out_in(name: str) -> None:
    if name_problem(name) is None:
        parts = name.split("/")
        assert not name.startswith("/") and "\0" not in name and not {"", ".", ".."} & set(parts)


@pytest.mark.parametrize("name", ["ab", "A-b", "a_b", "-ab", "ab-", "a--b", "a" * 64, "..", "a/b", ""])
def test_containers_that_cannot_be(name: str) -> None:
    assert container_problem(name)
