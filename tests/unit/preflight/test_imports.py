"""Which imports run surely, which may, and which do not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from moorings.preflight.code_folder import CodeFolder
from moorings.preflight.findings import Finding, Severity
from moorings.preflight.imports import Runs, imports_of
from moorings.preflight.source import Source, parse
from moorings.preflight.walk import Walk

SURELY, MAYBE, NEVER = Runs.SURELY, Runs.MAYBE, Runs.NEVER

CASES = {
    "top": ("import x", SURELY),
    "from": ("from x import y", SURELY),
    "aliased": ("import x as y", SURELY),
    "in init": ("def init():\n    import x", SURELY),
    "in run": ("def run(data):\n    import x", MAYBE),
    "in init, under a condition": ("def init():\n    if a:\n        import x", MAYBE),
    "in a function of init": ("def init():\n    def f():\n        import x", MAYBE),
    "in a class": ("class A:\n    import x", SURELY),
    "tried": ("try:\n    import x\nexcept ImportError:\n    x = None", NEVER),
    "tried, by a tuple": ("try:\n    import x\nexcept (ModuleNotFoundError, OSError):\n    x = None", NEVER),
    "tried for something else": ("try:\n    import x\nexcept ValueError:\n    x = None", SURELY),
    "tried and raised again": (
        "try:\n    import x\nexcept ImportError as e:\n    raise SystemExit() from e",
        SURELY,
    ),
    "tried bare": ("try:\n    import x\nexcept:\n    pass", NEVER),
    "the other one": ("try:\n    import y\nexcept ImportError:\n    import x", MAYBE),
    "finally": ("try:\n    pass\nfinally:\n    import x", SURELY),
    "suppressed": ("import contextlib\nwith contextlib.suppress(ImportError):\n    import x", NEVER),
    "for types": ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import x", NEVER),
    "for types, dotted": ("import typing as t\nif t.TYPE_CHECKING:\n    import x", NEVER),
    "but not for types": ("if TYPE_CHECKING:\n    pass\nelse:\n    import x", SURELY),
    "as a program": ("if __name__ == '__main__':\n    import x", NEVER),
    "by version": ("import sys\nif sys.version_info >= (3, 11):\n    import x", NEVER),
    "never": ("if False:\n    import x", NEVER),
    "always": ("if True:\n    import x", SURELY),
    "in a loop": ("for a in b:\n    import x", MAYBE),
    "in a with": ("with a:\n    import x", SURELY),
    "in a match": ("match a:\n    case 1:\n        import x", MAYBE),
    "dynamic": ("import importlib\nm = importlib.import_module('x')", MAYBE),
    "after a raise": ("raise SystemExit\nimport x", None),
}


@pytest.mark.parametrize(("text", "runs"), CASES.values(), ids=CASES)
def test_how_surely_an_import_runs(text: str, runs: Runs | None) -> None:
    found = [one for one in imports_of(ast.parse(text), entry=True) if one.module == "x"]
    assert [one.runs for one in found] == ([] if runs is None else [runs])


def test_init_of_another_file_is_a_function_like_any_other() -> None:
    (one,) = imports_of(ast.parse("def init():\n    import x"))
    assert one.runs is MAYBE


# --- following local modules ---
def walked(tmp_path: Path, script: str = "score.py", **files: str) -> Walk:
    for name, text in files.items():
        path = tmp_path / f"{name.replace('__0', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    content = {str(p.relative_to(tmp_path)): p for p in tmp_path.rglob("*.py")}
    folder = CodeFolder(tmp_path, content, script)
    source = parse((tmp_path / script).read_bytes(), script, again="again")
    assert isinstance(source, Source)
    walk = Walk(folder, "again")
    walk.start(script, source)
    return walk


def asked(walk: Walk) -> dict[str, Runs]:
    return {module: one.by.runs for module, one in walk.asked.items()}


def test_local_modules_are_followed_and_their_imports_counted_as_surely_as_they_are_reached(
    tmp_path: Path,
) -> None:
    walk = walked(
        tmp_path,
        score="import helper\nfrom pkg import part\ndef run(data):\n    import late\n",
        helper="import numpy\n",
        late="import torch\n",
        pkg__0__init__="import pandas\n",
        pkg__0part="from . import sibling\nfrom .. import nothing\n",
        pkg__0sibling="import scipy\n",
        unused="import never\n",
    )
    assert asked(walk) == {"numpy": SURELY, "pandas": SURELY, "scipy": SURELY, "torch": MAYBE}
    assert walk.findings == []


def test_modules_that_import_one_another_end(tmp_path: Path) -> None:
    walk = walked(tmp_path, score="import a", a="import b\nimport numpy", b="import a")
    assert asked(walk) == {"numpy": SURELY}


def test_a_module_reached_late_and_surely_counts_surely(tmp_path: Path) -> None:
    walk = walked(
        tmp_path,
        score="try:\n    import a\nexcept ImportError:\n    pass\nimport b",
        a="import x",
        b="import a",
    )
    assert asked(walk) == {"x": SURELY}


def test_the_folder_of_the_script_comes_first(tmp_path: Path) -> None:
    walk = walked(
        tmp_path,
        "src/score.py",
        src__0score="import util\nimport top",
        src__0util="import x",
        util="import y",
        top="",
    )
    assert asked(walk) == {"x": SURELY}


def test_a_dot_in_the_script_itself_is_an_error(tmp_path: Path) -> None:
    (one,) = walked(tmp_path, score="from .helper import f\n", helper="").findings
    assert (one.severity, one.failure.code) == (Severity.ERROR, "UserScriptImportError")
    assert "in no package" in one.failure.message


def test_a_part_of_a_local_package_that_is_not_there(tmp_path: Path) -> None:
    (one,) = walked(tmp_path, score="import pkg.gone\n", pkg__0__init__="").findings
    assert "no pkg.gone in it" in one.failure.message


def test_a_broken_local_module_is_told_at_its_line(tmp_path: Path) -> None:
    walk = walked(tmp_path, score="import helper\n", helper="x = (\n")
    (one,) = walk.findings
    assert isinstance(one, Finding)
    assert one.failure.code == "UserScriptSyntaxError"
    assert one.place is not None and one.place.file.endswith("helper.py")
    (one,) = walked(tmp_path, score="def run(d):\n    import helper\n").findings
    assert one.severity is Severity.WARNING
