from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.assets.sources import fetch
from moorings.errors.exceptions import MooringsError


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/data/model", "/data/model"),
        ("/data/odd:name", "/data/odd:name"),
        ("file:///data/my%20model", "/data/my model"),
        ("file://localhost/data/model", "/data/model"),
        ("FILE:///data/model", "/data/model"),
        ("file:///data/a#b?c", "/data/a#b?c"),
    ],
)
def test_local_addresses(uri: str, path: str) -> None:
    assert fetch(uri) == Path(path)


@given(st.binary(min_size=1, max_size=30).filter(lambda raw: b"\0" not in raw))
def test_any_path_survives_its_file_address(raw: bytes) -> None:
    path = Path("/" + os.fsdecode(raw).lstrip("/"))
    assert fetch(path.as_uri()) == path


@pytest.mark.parametrize(
    "uri",
    ["azureml://datastores/x/m", "s3://bucket/m", "model/m.pkl", "file://other-host/m", "file:m.pkl", ""],
)
def test_other_addresses_are_refused_and_the_supported_ones_named(uri: str) -> None:
    with pytest.raises(MooringsError) as caught:
        fetch(uri)
    assert caught.value.failure.code == "AssetSchemeUnknown"
    assert "file://" in caught.value.failure.fix
