"""Paths told from the text are the paths that the real thing computes."""

from __future__ import annotations

import ast
import os
import pathlib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.preflight.boot import Boot
from moorings.preflight.entry import entry_findings
from moorings.preflight.evaluate import UNKNOWN, Aliases, Evaluator
from moorings.preflight.findings import Finding, Severity
from moorings.preflight.model_paths import ModelTree, lookup_findings, path_findings
from moorings.preflight.source import Source, parse

ROOT = "/var/azureml-app/azureml-models/m/1"
IMPORTS = (
    "import os, pathlib\nimport os.path as osp\nfrom os import environ, getenv, path\n"
    "from os.path import join\nfrom pathlib import Path\n"
)
VARIABLES = {"AZUREML_MODEL_DIR": ROOT, "NAME": "model.pkl"}

NAMES = st.sampled_from(["model", "m.pkl", "a b", "..", ".", "", "x/y", "/abs", "deep/er/"])
TEXTS = st.one_of(
    NAMES.map(repr),
    st.sampled_from(
        [
            "os.environ['AZUREML_MODEL_DIR']",
            "os.getenv('AZUREML_MODEL_DIR')",
            "environ.get('AZUREML_MODEL_DIR', 'x')",
            "getenv('NAME')",
            "os.sep",
        ]
    ),
)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        pair.map(lambda p: f"os.path.join({p[0]}, {p[1]})"),
        st.tuples(inner, inner, inner).map(lambda p: f"osp.join({p[0]}, *[{p[1]}, {p[2]}])"),
        pair.map(lambda p: f"(Path({p[0]}) / {p[1]})"),
        pair.map(lambda p: f"({p[0]} / pathlib.PurePosixPath({p[1]}))"),
        pair.map(lambda p: f"(str({p[0]}) + str({p[1]}))"),
        pair.map(
            lambda p: (
                "f'{" + p[0] + "}/{" + p[1] + "}'" if "'" not in p[0] + p[1] else f"join({p[0]}, {p[1]})"
            )
        ),
        pair.map(lambda p: "'{}/{}'.format(" + f"{p[0]}, {p[1]})"),
        pair.map(lambda p: "'{0}/{name}'.format(" + f"{p[0]}, name={p[1]})"),
        pair.map(lambda p: f"'%s/%s' % ({p[0]}, {p[1]})"),
        pair.map(lambda p: f"Path({p[0]}).joinpath({p[1]})"),
        pair.map(lambda p: f"'/'.join([str({p[0]}), str({p[1]})])"),
        pair.map(lambda p: f"({p[0]} or {p[1]})"),
        pair.map(lambda p: f"({p[0]} if {p[1]} == '' else {p[1]})"),
        inner.map(lambda p: f"os.path.normpath({p})"),
        inner.map(lambda p: f"path.dirname({p})"),
        inner.map(lambda p: f"os.path.basename({p})"),
        inner.map(lambda p: f"os.path.splitext({p})[0]"),
        inner.map(lambda p: f"os.path.split({p})[-1]"),
        inner.map(lambda p: f"os.fspath({p})"),
        inner.map(lambda p: f"Path({p}).parent"),
        inner.map(lambda p: f"Path({p}).name"),
        inner.map(lambda p: f"Path({p}).with_suffix('.bin')"),
        inner.map(lambda p: f"str({p}).rstrip('/')"),
        inner.map(lambda p: f"str({p}).replace('m', 'n')"),
    )


EXPRESSIONS = st.recursive(TEXTS, _grow, max_leaves=8)


@given(EXPRESSIONS)
def test_a_value_that_is_told_is_the_one_that_python_computes(expression: str) -> None:
    scope: dict[str, Any] = {}
    exec(IMPORTS, scope)
    tree = ast.parse(f"{IMPORTS}\nvalue = {expression}")
    assign = tree.body[-1]
    assert isinstance(assign, ast.Assign)
    told = Evaluator(Aliases.of(tree), VARIABLES).value(assign.value)
    before = dict(os.environ)
    os.environ.update(VARIABLES)
    try:
        real = eval(expression, scope)
    except (TypeError, ValueError, IndexError):
        assert told is UNKNOWN
        return
    finally:
        os.environ.clear()
        os.environ.update(before)
    if isinstance(real, pathlib.PurePath):
        real = PurePosixPath(real)
    assert told is UNKNOWN or (type(told), told) == (type(real), real)


def test_most_of_what_scripts_write_is_told() -> None:
    for expression in (
        "os.path.join(os.environ['AZUREML_MODEL_DIR'], 'model', 'm.pkl')",
        "os.path.join(os.getenv('AZUREML_MODEL_DIR'), 'model', 'm.pkl')",
        "Path(os.environ['AZUREML_MODEL_DIR']) / 'model' / 'm.pkl'",
        "str(Path(os.getenv('AZUREML_MODEL_DIR')).joinpath('model', 'm.pkl'))",
        "f\"{os.environ['AZUREML_MODEL_DIR']}/model/m.pkl\"",
        "os.environ.get('AZUREML_MODEL_DIR', '.') + '/model/m.pkl'",
        "'{}/model/m.pkl'.format(getenv('AZUREML_MODEL_DIR'))",
        "join(environ['AZUREML_MODEL_DIR'], 'model', 'm.pkl')",
    ):
        tree = ast.parse(f"{IMPORTS}\nvalue = {expression}")
        assign = tree.body[-1]
        assert isinstance(assign, ast.Assign)
        told = Evaluator(Aliases.of(tree), VARIABLES).value(assign.value)
        assert str(told) == f"{ROOT}/model/m.pkl", expression


@pytest.mark.parametrize(
    "expression",
    [
        "os.getenv('OTHER')",
        "os.getenv('OTHER', 'x')",
        "foo('x')",
        "os.listdir('/')[0]",
        "unknown",
        "f'{NAME:>5}'",
    ],
)
def test_what_is_not_known_is_not_guessed(expression: str) -> None:
    tree = ast.parse(f"{IMPORTS}\nvalue = {expression}")
    assign = tree.body[-1]
    assert isinstance(assign, ast.Assign)
    assert Evaluator(Aliases.of(tree), VARIABLES).value(assign.value) is UNKNOWN


# --- what a script opens ---
TREE = ModelTree(ROOT, ("model/m.pkl", "model/sub/a.json"))
HEAD = "import os, joblib\nfrom pathlib import Path\nD = os.environ['AZUREML_MODEL_DIR']\n"


def found(text: str, tree: ModelTree = TREE) -> list[Finding]:
    source = parse((HEAD + text).encode(), "score.py", again="again")
    assert isinstance(source, Source)
    boot = Boot(source.tree, {"AZUREML_MODEL_DIR": tree.root}, files=tree)
    boot.follow()
    return path_findings(source, boot, tree, again="again")


RIGHT = {
    "the file": "def init():\n    joblib.load(os.path.join(D, 'model', 'm.pkl'))",
    "the folder, for a reader of folders": "def init():\n    mlflow.load_model(os.path.join(D, 'model'))",
    "the root": "def init():\n    os.listdir(D)",
    "in run": "def run(d):\n    joblib.load(D + '/nothing')",
    "tried": "def init():\n    try:\n        joblib.load(D + '/x')\n    except FileNotFoundError:\n        pass",
    "asked for first": "def init():\n    p = D + '/x'\n    if os.path.exists(p):\n        joblib.load(p)",
    "by a path object": "def init():\n    p = Path(D) / 'x'\n    if not p.is_file():\n        return\n    p.open()",
    "the other one": (
        "def init():\n    p = D + '/x.pkl'\n    if not os.path.isfile(p):\n        p = D + '/model/m.pkl'\n"
        "    joblib.load(p)"
    ),
    "printed only": "def init():\n    print(os.path.join(D, 'nothing'))\n    log.info('at %s', D + '/nothing')",
    "written": "def init():\n    open(D + '/out.txt', 'w').write('x')",
    "made first": "def init():\n    os.makedirs(D + '/new')\n    open(D + '/new/x')",
    "elsewhere": "def init():\n    open('/etc/hostname')",
    "not told": "def init():\n    open(os.path.join(D, os.listdir(D)[0]))",
    "in a loop": "def init():\n    for n in names():\n        joblib.load(os.path.join(D, n))",
    "of a function that is not called": "def load():\n    joblib.load(D + '/x')\ndef init(): pass",
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_what_is_right_or_cannot_be_told_has_no_finding(text: str) -> None:
    assert found(text) == []


WRONG = {
    "without the folder": ("def init():\n    joblib.load(os.path.join(D, 'm.pkl'))", "model/m.pkl"),
    "with another name": ("def init():\n    joblib.load(D + '/model/n.pkl')", "model/m.pkl"),
    "with `with`": (
        "def init():\n    with open(Path(D) / 'm.pkl', 'rb') as f:\n        f.read()",
        "model/m.pkl",
    ),
    "by a method": ("def init():\n    (Path(D) / 'm.pkl').read_bytes()", "model/m.pkl"),
    "opened and read": ("def init():\n    open(D + '/m.pkl').read()", "model/m.pkl"),
    "a folder": ("def init():\n    joblib.load(os.path.join(D, 'model'))", "folder"),
    "the root": ("def init():\n    joblib.load(D)", "folder"),
    "through functions": (
        "def where(name='m.pkl'):\n    return os.path.join(D, name)\ndef load():\n    return joblib.load(where())\n"
        "def init():\n    global model\n    model = load()",
        "model/m.pkl",
    ),
    "at the top level": ("model = joblib.load(os.path.join(D, 'm.pkl'))", "model/m.pkl"),
    "told and raised again": (
        "def init():\n    try:\n        joblib.load(D + '/m.pkl')\n    except Exception as e:\n        print(e)\n"
        "        raise",
        "model/m.pkl",
    ),
    "by a keyword": ("def init():\n    xgb.Booster(model_file=D + '/m.pkl')", "model/m.pkl"),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_there_is_an_error(text: str, words: str) -> None:
    (one,) = found(text)
    assert (one.severity, one.failure.code) == (Severity.ERROR, "ModelPathNotFound")
    assert words in one.failure.message
    assert "  model/m.pkl" in one.failure.evidence


DOUBTFUL = {
    "under a condition": "def init():\n    if debug():\n        joblib.load(D + '/m.pkl')",
    "by somebody unknown": "def init():\n    Thing(D + '/m.pkl')",
    "after somebody unknown": "def init():\n    fetch(D + '/m.pkl')\n    joblib.load(D + '/m.pkl')",
    "after a way out": "def init():\n    if debug():\n        return\n    joblib.load(D + '/m.pkl')",
}


@pytest.mark.parametrize("text", DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_may_not_happen_is_a_warning(text: str) -> None:
    assert {one.severity for one in found(text)} == {Severity.WARNING}


def test_a_model_that_is_one_file() -> None:
    tree = ModelTree(ROOT, ("m.pkl",))
    assert found("def init():\n    joblib.load(D + '/m.pkl')", tree) == []
    (one,) = found("def init():\n    joblib.load(D + '/model/m.pkl')", tree)
    assert "did you mean $AZUREML_MODEL_DIR/m.pkl" in one.failure.message


def test_a_script_without_a_model_to_read() -> None:
    text = "import os\ndef init():\n    p = os.environ['AZUREML_MODEL_DIR']\ndef run(data): pass\n"
    source = parse(text.encode(), "score.py", again="again")
    assert isinstance(source, Source)
    assert entry_findings(source, again="again") == []
    boot = Boot(source.tree, {}, frozenset({"AZUREML_MODEL_DIR"}))
    boot.follow()
    (one,) = lookup_findings(source, boot, again="again")
    assert (one.severity, one.failure.code) == (Severity.ERROR, "ModelPathNotFound")
    assert one.place is not None and one.place.line == 3


@given(
    st.lists(st.sampled_from(["a", "b", "c.txt"]), max_size=4), st.lists(st.sampled_from("ab"), max_size=3)
)
def test_the_tree_says_what_the_disk_says(
    tmp_path_factory: pytest.TempPathFactory, file: list[str], asked: list[str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    path = root.joinpath("model", *file, "leaf")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    files = tuple(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())
    tree = ModelTree(str(root), files)
    wanted = Path(root, "model", *asked)
    real = "file" if wanted.is_file() else "folder" if wanted.is_dir() else "missing"
    assert tree.kind(str(wanted)) == real
