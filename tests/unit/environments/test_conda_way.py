"""Between a solve and a folder: what pip still has to bring, the key of the outcome, and what failures are called."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import parse_wheel_filename

from moorings.environments import conda_activation, conda_child
from moorings.environments.conda_activation import activation_variables
from moorings.environments.conda_request import CondaRequest
from moorings.environments.conda_stand_ins import mentioned, write_stand_in
from moorings.environments.conda_way import (
    CondaPackage,
    _failure,
    _index_names,
    _key,
    _resolve_pip,
    _without,
)
from moorings.environments.installer import Run
from moorings.environments.locked import parse_lock
from moorings.environments.shelf import Shelf

PACKAGES = (
    CondaPackage("python", "3.12.4", "h1_cpython", "linux-64", "aa", False),
    CondaPackage("numpy", "1.26.4", "py312_0", "linux-64", "bb", True),
    CondaPackage("pytorch", "2.3.0", "py312_0", "linux-64", "cc", True),
    CondaPackage("libgdal", "3.9.0", "h2", "linux-64", "dd", False),
    CondaPackage("odd", "2024b_x", "0", "noarch", "ee", True),
)
LOCK = """\
numpy==1.26.4 \\
    --hash=sha256:1
torch==2.3.0 \\
    --hash=sha256:2
six==1.16.0 \\
    --hash=sha256:3 \\
    --hash=sha256:4
moorings-server @ file:///wheels/moorings_server-0.1.0-py3-none-any.whl \\
    --hash=sha256:5
"""


class Log:
    def line(self, text: str) -> None: ...


class Work:
    class wheel:
        sha256 = "5"

    platform = "linux"
    log = Log()
    fields: dict[str, object] = {"key": "k", "path": "/e"}  # noqa: RUF012


WORK: Any = Work()


def test_what_conda_brings_is_known_by_its_name_on_the_package_index() -> None:
    assert _index_names(PACKAGES) == {"numpy": "1.26.4", "torch": "2.3.0"}


def test_the_lock_of_pip_leaves_out_what_conda_brings_in_that_version() -> None:
    kept = parse_lock(_without(LOCK, {"numpy": "1.26.4", "torch": "2.2.0"}))
    assert [head.split("=")[0].split(" ")[0] for head, _ in kept.packages] == [
        "moorings-server",
        "six",
        "torch",
    ]
    assert kept.packages[1][1] == ("sha256:3", "sha256:4")
    assert _without(LOCK, {}) == LOCK


def test_the_key_holds_every_package_by_its_digest() -> None:
    def key(packages: Any = PACKAGES, lock: str = LOCK, python: str = "3.12.4") -> str:
        return _key(WORK, packages, parse_lock(lock), python)

    other = (*PACKAGES[:-1], CondaPackage("odd", "2024b_x", "0", "noarch", "ff", True))
    keys = {
        key(),
        key(other),
        key(PACKAGES[:-1]),
        key(lock=_without(LOCK, {"six": "1.16.0"})),
        key(python="3.12.5"),
    }
    assert len(keys) == 5
    assert key() == key()


@pytest.mark.parametrize(
    ("name", "details", "code"),
    [
        (conda_child.BAD_SPEC, ["a b: no"], "CondaSpecInvalid"),
        (conda_child.UNKNOWN_PACKAGE, ["a: no channel"], "CondaPackageNotFound"),
        (conda_child.UNKNOWN_VERSION, ["a 3: there is 2"], "CondaPackageNotFound"),
        (conda_child.UNSATISFIABLE, ["no", "  └─ a would require b"], "CondaUnsatisfiable"),
        (conda_child.NOT_INSTALLED, ["failed to fetch a"], "CondaInstallFailed"),
        (conda_child.NOT_INSTALLED, ["x", "No space left on device (os error 28)"], "EnvironmentDiskFull"),
    ],
)
def test_each_failure_has_its_code_and_keeps_its_lines(name: str, details: list[str], code: str) -> None:
    answer = {"failed": name, "message": details[0], "details": details, "names": ["a"]}
    failure = _failure(WORK, answer).failure
    assert failure.code == code
    assert list(failure.evidence) == details


def test_secrets_in_addresses_are_told_to_nobody() -> None:
    details = ["fetching https://user:word@host/t/tok-en/own/noarch/a.conda"]
    answer = {"failed": conda_child.NOT_INSTALLED, "message": details[0], "details": details, "names": []}
    said = str(_failure(WORK, answer).failure.to_json())
    assert "word@" not in said and "tok-en" not in said and "host/t/***/own" in said


def test_every_failure_of_the_solver_is_known() -> None:
    handled = set(conda_child.FAILURES) - {conda_child.UNREACHABLE}
    codes = {
        _failure(WORK, {"failed": one, "message": "m", "details": [], "names": []}).failure.code
        for one in handled
    }
    assert "EnvironmentBuildFailed" not in codes


def test_a_document_that_is_refused_is_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program itself, without a channel: a closed port answers nothing."""
    request = tmp_path / "request.json"
    asked = {"channels": ["https://127.0.0.1:9/c"], "specs": ["a"], "cache": str(tmp_path)}
    request.write_text(json.dumps(asked))
    assert conda_child.main(["solve", str(request), str(tmp_path / "lock.yml")]) == 0
    answer = capsys.readouterr().out
    assert '"failed": "unreachable"' in answer and "127.0.0.1:9" in answer


def test_what_a_resolver_says_names_the_packages_of_conda_that_it_misses() -> None:
    lines = [
        "  × No solution found when resolving dependencies:",
        "  ╰─▶ Because pier==1.0 depends on Py_GDAL>=3.9,<4 and numpy==1.26.4.",
    ]
    there = {"py-gdal": "3.9.0", "numpy": "1.26.4", "six": "1", "pie": "1"}
    assert mentioned(lines, there) == {"py-gdal", "numpy"}


def test_a_stand_in_is_a_wheel_of_that_name_and_version_that_needs_nothing(tmp_path: Path) -> None:
    write_stand_in(tmp_path / "new", "py-gdal", "3.9.0+local")
    (path,) = (tmp_path / "new").iterdir()
    name, version, _, _ = parse_wheel_filename(path.name)
    assert (name, str(version)) == ("py-gdal", "3.9.0+local")
    (found,) = importlib.metadata.distributions(path=[str(path)])
    assert (found.metadata["Name"], found.version, found.requires) == ("py-gdal", "3.9.0+local", None)


class Asking(Work):
    """Notes what pip is asked for, and answers with an empty lock."""

    recipe_key = "k"

    class wheel(Work.wheel):
        path = Path("/w.whl")

    def __init__(self, folder: Path) -> None:
        self.shelf = Shelf(folder)
        self.shelf.prepare()

    def progress(self, text: str) -> None: ...

    async def checked_uv(self, arguments: list[str]) -> Run:
        self.asked = Path(arguments[2]).read_text().splitlines()
        return Run(0, "", ())


async def test_what_conda_brings_is_asked_of_pip_only_for_its_extras(tmp_path: Path) -> None:
    work: Any = Asking(tmp_path)
    request = CondaRequest((), (), ("numpy>=1", "numpy[dev]>=1", "numpy>=2", "six"))
    text, notes = await _resolve_pip(work, request, PACKAGES, "3.12.4")
    assert work.asked[:-1] == ["numpy[dev]>=1", "numpy>=2", "six"]
    assert text == "" and [note.split(" is ")[0] for note in notes] == ["pip: numpy>=1"]


def test_scripts_for_activation_that_fail_or_hang_are_told_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "etc" / "conda" / "activate.d"
    scripts.mkdir(parents=True)
    own = {"CONDA_PREFIX": str(tmp_path), "CONDA_DEFAULT_ENV": str(tmp_path), "CONDA_SHLVL": "1"}
    (tmp_path / "etc" / "conda" / "env_vars.d").mkdir()
    (tmp_path / "etc" / "conda" / "env_vars.d" / "bad.json").write_text("{")
    said: list[str] = []
    assert activation_variables(tmp_path, said.append) == own
    assert len(said) == 1 and "bad.json" in said[0]
    (scripts / "a.sh").write_text("export A=1\nexit 3\n")
    assert activation_variables(tmp_path, said.append) == own
    assert "exit status 3" in said[-1]
    monkeypatch.setattr(conda_activation, "TIMEOUT_S", 0.2)
    (scripts / "a.sh").write_text("export A=1\nsleep 60\n")
    assert activation_variables(tmp_path, said.append) == own
    assert "timed out" in said[-1]
    (scripts / "a.sh").write_text("false\nexport A='x y'\nunset CONDA_SHLVL\n")
    assert activation_variables(tmp_path, said.append) == {**own, "A": "x y"}
