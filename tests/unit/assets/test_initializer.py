from __future__ import annotations

import json
from pathlib import Path

import pytest

from moorings.assets import initializer
from moorings.assets.store import AssetStore


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan of one code folder and one model; returns the file."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "score.py").write_text("def init(): ...\n")
    model = tmp_path / "model"
    model.mkdir()
    (model / "m.pkl").write_bytes(b"x" * 1500)
    store = AssetStore(tmp_path / "store")
    instance = tmp_path / "instance" / "app"
    data = {
        "store": str(store.root),
        "code": {
            "digest": store.ingest(code, keep_name=False, use_ignore=True).digest,
            "target": str(instance / "code"),
        },
        "model": {
            "digest": store.ingest(model, keep_name=True, use_ignore=False).digest,
            "target": str(instance / "azureml-models" / "m" / "1"),
        },
    }
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data))
    return path


def test_it_lays_out_code_and_model_and_says_what_it_did(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert initializer.main([str(plan)]) == 0
    out = capsys.readouterr().out
    app = tmp_path / "instance" / "app"

    assert (app / "code" / "score.py").read_text() == "def init(): ...\n"
    assert (app / "azureml-models" / "m" / "1" / "model" / "m.pkl").stat().st_size == 1500
    assert (app / "azureml-models" / "m" / "1" / "model" / "m.pkl").stat().st_nlink == 2
    assert "model/m.pkl  1.5 kB" in out


def test_what_is_complete_stays_and_what_is_not_is_made_anew(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    initializer.main([str(plan)])
    code = tmp_path / "instance" / "app" / "code"
    before = code.stat().st_ino
    (code / "cache.txt").write_text("written by the script")
    capsys.readouterr()
    assert initializer.main([str(plan)]) == 0
    assert capsys.readouterr().out.count("in place already") == 2
    assert code.stat().st_ino == before
    assert (code / "cache.txt").exists()

    (code / "score.py").unlink()
    assert initializer.main([str(plan)]) == 0
    assert (code / "score.py").exists()


def test_another_digest_replaces_the_target(plan: Path, tmp_path: Path) -> None:
    initializer.main([str(plan)])
    (tmp_path / "code" / "score.py").write_text("def run(): ...\n")
    data = json.loads(plan.read_text())
    data["code"]["digest"] = (
        AssetStore(tmp_path / "store").ingest(tmp_path / "code", keep_name=False, use_ignore=True).digest
    )
    data["model"] = None
    plan.write_text(json.dumps(data))
    assert initializer.main([str(plan)]) == 0
    assert (tmp_path / "instance" / "app" / "code" / "score.py").read_text() == "def run(): ...\n"


def test_missing_content_ends_with_one_coded_line(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads(plan.read_text())
    AssetStore(tmp_path / "store").manifest(data["model"]["digest"]).unlink()
    assert initializer.main([str(plan)]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("ERROR ArtifactsUnavailable: ")
    assert not (tmp_path / "instance" / "app" / "azureml-models" / "m" / "1").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"store": "/x", "code": {"digest": "0"}}'])
def test_a_broken_plan_is_ours(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text(text)
    assert initializer.main([str(tmp_path / "plan.json")]) == 4
    assert capsys.readouterr().out.splitlines()[-1].startswith("ERROR InternalServerError: ")
