"""Saved objects that cannot be loaded, told from their bytes; whatever the bytes are, nothing breaks and nothing is run."""

from __future__ import annotations

import collections
import fractions
import gzip
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.preflight.boot import Boot
from moorings.preflight.findings import Severity
from moorings.preflight.model_content import Content, content_findings, needed_modules, pickled
from moorings.preflight.model_paths import ModelTree
from moorings.preflight.source import Source, parse

ROOT = "/models"
GOOD = pickle.dumps({"a": [1, 2.0, "x" * 300]})
LOAD = "with open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'm.pkl'), 'rb') as f:\n        pickle.load(f)"


def followed(body: str, data: bytes) -> tuple[Source, Boot, ModelTree, Any]:
    text = (
        f"import os, pickle, joblib\nfrom pathlib import Path\ndef init():\n    {body}\ndef run(data): pass\n"
    )
    source = parse(text.encode(), "score.py", again="again")
    assert isinstance(source, Source)
    tree = ModelTree(ROOT, ("m.pkl",))
    boot = Boot(source.tree, {"AZUREML_MODEL_DIR": ROOT}, files=tree)
    boot.follow()
    return source, boot, tree, lambda inside: Content(len(data), data[:65536])


def told(data: bytes, body: str = LOAD) -> list[tuple[Severity, str]]:
    source, boot, tree, read = followed(body, data)
    found = content_findings(source, boot, tree, read, again="again")
    return [(one.severity, one.failure.code) for one in found]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "ModelFileInvalid"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "ModelFileInvalid"),
        (b"\n<!DOCTYPE html><html>", "ModelFileInvalid"),
        (gzip.compress(GOOD, mtime=0), "ModelFileInvalid"),
        (GOOD[:-3], "ModelFileInvalid"),
        (b"\x80\x09N.", "PickleVersionMismatch"),
        (b"c__main__\nModel\n.", "PickleClassMissing"),
    ],
)
def test_what_cannot_be_loaded(data: bytes, code: str) -> None:
    assert told(data) == [(Severity.ERROR, code)]


@pytest.mark.parametrize(
    "body",
    [
        LOAD,
        "pickle.load(open(os.environ['AZUREML_MODEL_DIR'] + '/m.pkl', 'rb'))",
        "pickle.load(Path(os.environ['AZUREML_MODEL_DIR'], 'm.pkl').open('rb'))",
        "joblib.load(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'm.pkl'))",
    ],
)
def test_every_way_to_load_is_known_and_a_good_model_is_fine(body: str) -> None:
    assert told(b"", body) == [(Severity.ERROR, "ModelFileInvalid")]
    assert told(GOOD, body) == []


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"", "os.path.getsize(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'm.pkl'))"),
        (b"", "open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'm.pkl')).read()"),
        (
            b"",
            f"try:\n      {LOAD}\n    except Exception:\n      pass".replace(
                "        pickle", "          pickle"
            ),
        ),
        (gzip.compress(GOOD, mtime=0), "joblib.load(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'm.pkl'))"),
        (GOOD + GOOD, LOAD),
        (GOOD[:-1] + b"x" * 100_000, LOAD),
        (b"c__main__\nModel\n.", f"import __main__\n    __main__.Model = str\n    {LOAD}"),
    ],
)
def test_what_may_well_work_is_left_alone(data: bytes, body: str) -> None:
    assert told(data, body) == []


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_modules_of_saved_objects(protocol: int) -> None:
    saved = pickle.dumps(
        [fractions.Fraction(1, 2), collections.OrderedDict(a=fractions.Fraction(1, 3)), pytest.Mark], protocol
    )
    assert {"fractions", "collections"} <= set(pickled(saved).modules)
    assert any(each.startswith("_pytest") for each in pickled(saved).modules)
    _, boot, tree, read = followed(LOAD, saved)
    assert "fractions" in [module for _, _, module in needed_modules(boot, tree, read)]


@given(st.binary(max_size=300), st.integers(0, 5))
def test_any_bytes_are_read(data: bytes, protocol: int) -> None:
    pickled(data)
    pickled(pickle.dumps(data, protocol)[: len(data)])
    told(data)


@given(
    st.recursive(st.none() | st.integers() | st.text() | st.floats(), lambda v: st.lists(v) | st.tuples(v, v))
)
def test_whatever_was_saved_is_whole(value: Any) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickled(pickle.dumps(value, protocol)).ends
