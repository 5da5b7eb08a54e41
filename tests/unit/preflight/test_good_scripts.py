"""Scripts that work, however they are written: a check that cries wolf is worse than one that misses something. Nothing is
found in any of them, neither an error nor a warning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moorings.environments.interpreters import Interpreter, Interpreters
from moorings.preflight.check import Surroundings, check_deployment
from moorings.preflight.index import Answer, Index
from moorings.preflight.machine import MachineFacts
from moorings.spec.loader import examine_deployment

BOTH = "\ndef init():\n    pass\n\ndef run(data):\n    return data\n"
PACKAGES = {
    "httptools": "0.6",
    "uvloop": "0.2",
    "joblib": "1.5.1",
    "numpy": "2.3.1",
    "scikit-learn": "1.7",
    "opencv-python-headless": "4.12",
    "pillow": "11",
    "pyyaml": "6",
    "python-dateutil": "2.9",
    "beautifulsoup4": "4.13",
    "azure-storage-blob": "12",
    "azure-core": "1",
    "google-cloud-storage": "3",
    "google-api-core": "2",
    "google-cloud-core": "2",
    "protobuf": "6",
    "setuptools": "80",
    "our-own-tools": "1.0",
}

HERE = Path(__file__).parent
TEXTS = re.split(r"^=== (.*)\n", (HERE / "good_scripts.txt").read_text(), flags=re.MULTILINE)[1:]
SCRIPTS = dict(zip(TEXTS[::2], TEXTS[1::2], strict=True))
"""Name -> text. In the folder beside them are `helper.py`, `labels.txt`, `pkg/`, `spaced/mod.py` and `lib/deep_lib.py`; the
model is a folder `model` with `m.pkl` and `a.zip`."""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Index, "ask", lambda *_: Answer(PACKAGES, whole=True))
    monkeypatch.setattr(Index, "channels_problem", lambda *_: "no route")
    monkeypatch.setattr(Interpreters, "find", lambda _: [Interpreter(Path("/python"), "3.12.1")])
    plenty = MachineFacts(10**13, "/home")
    monkeypatch.setattr("moorings.preflight.check.facts_of", lambda home: plenty)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "model/m.pkl": "x",
        "model/a.zip": "x",
        "src/helper.py": "thing = 1\ndef init(): pass\ndef run(data): return 1\n",
        "src/labels.txt": "a",
        "src/pkg/__init__.py": "from . import inner\nfrom .inner import deep as shallow\n",
        "src/pkg/inner.py": "from .. import pkg\nfrom . import inner\ndeep = 1\n",
        "src/spaced/mod.py": "import numpy\n",
        "src/lib/deep_lib.py": "x = 1\n",
        "conda.yml": "dependencies: [python=3.12, pip: [joblib, numpy, scikit-learn]]\n",
        "blue.yml": (
            "name: blue\nendpoint_name: shop\nmodel: {path: model}\n"
            "code_configuration: {code: src, scoring_script: score.py}\n"
            "environment: {conda_file: conda.yml}\ninstance_type: Standard_DS3_v2\n"
        ),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def found(folder: Path, script: bytes) -> list[str]:
    (folder / "src" / "score.py").write_bytes(script)
    examined = examine_deployment(folder / "blue.yml")
    assert examined.partial is not None and examined.invalid is None
    around = Surroundings(
        home=folder,
        index=Index({}, folder, until_s=0.0),
        interpreters=Interpreters({}),
        conda_solver="auto",
        download_python=True,
        in_image=False,
    )
    report = check_deployment(examined.partial, examined.locate, around, again="again")
    return [f"{one.severity.value} {one.failure.code} {one.failure.message}" for one in report.findings]


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_said_of_a_good_script(folder: Path, name: str) -> None:
    compile(SCRIPTS[name], "score.py", "exec")
    assert found(folder, SCRIPTS[name].encode()) == []


@pytest.mark.parametrize(
    "script",
    [
        b"\xef\xbb\xbf" + BOTH.encode(),
        f"# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n{BOTH}".encode("latin-1"),
        BOTH.replace("    ", "\t").replace("\n", "\r\n").encode(),
        f"\f{BOTH}".encode(),
    ],
    ids=["byte order mark", "coding cookie", "tabs and CR LF", "form feed"],
)
def test_nothing_is_said_of_how_a_file_is_written(folder: Path, script: bytes) -> None:
    assert found(folder, script) == []
