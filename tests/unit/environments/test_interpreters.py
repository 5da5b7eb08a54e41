from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from moorings.environments import interpreters as module
from moorings.environments.interpreters import Interpreter, Interpreters, choose, minor_of


def there(*versions: str) -> list[Interpreter]:
    return [Interpreter(Path(f"/python/{version}"), version) for version in versions]


def chosen(requirement: str, *versions: str) -> str | None:
    answer = choose(requirement, there(*versions))
    return None if answer is None else answer[0].version


@pytest.mark.parametrize(
    ("requirement", "versions", "expected"),
    [
        ("==3.11.*", ("3.11.2", "3.11.9", "3.12.1"), "3.11.9"),
        ("==3.11.2", ("3.11.2", "3.11.9"), "3.11.2"),
        ("", ("3.13.0", "3.11.2", "3.12.1"), "3.12.1"),
        ("", ("3.13.0", "3.8.1", "3.10.1"), "3.10.1"),
        ("", ("3.15.0",), "3.15.0"),
        (">=3.8,<3.11", ("3.8.1", "3.9.1", "3.10.1", "3.12.1"), "3.10.1"),
        ("==3.11.*", ("3.12.1",), None),
        ("==3.11.5", ("3.12.1",), None),
        (">=3.11.5", ("3.11.2",), None),
        ("", (), None),
    ],
)
def test_choice(requirement: str, versions: tuple[str, ...], expected: str | None) -> None:
    assert chosen(requirement, *versions) == expected


@pytest.mark.parametrize("requirement", ["==3.8.13", "==3.8.13.*", "==3.8.13,>=3.8"])
def test_an_exact_patch_gives_way_to_another_with_a_note(requirement: str) -> None:
    answer = choose(requirement, there("3.8.18", "3.12.1"))
    assert answer is not None
    assert answer[0].version == "3.8.18"
    assert answer[1] is not None and "3.8.18" in answer[1]


@given(
    st.sampled_from(["==3.11.*", ">=3.9", "<3.12", "~=3.10", "", "==3.12.1"]),
    st.lists(st.tuples(st.integers(8, 14), st.integers(0, 20)).map(lambda p: f"3.{p[0]}.{p[1]}"), max_size=6),
)
def test_a_choice_without_a_note_fits_and_is_the_newest_patch(requirement: str, versions: list[str]) -> None:
    answer = choose(requirement, there(*versions))
    if answer is None or answer[1] is not None:
        assert not any(SpecifierSet(requirement).contains(version) for version in versions)
        return
    assert SpecifierSet(requirement).contains(answer[0].version)
    same_minor = [
        version
        for version in versions
        if version.rpartition(".")[0] == answer[0].minor and SpecifierSet(requirement).contains(version)
    ]
    assert answer[0].version == max(same_minor, key=lambda version: int(version.rpartition(".")[2]))


@pytest.mark.parametrize(
    ("requirement", "minor"), [("==3.12.*", "3.12"), ("==3.8.13", "3.8"), (">=3.8", None), ("", None)]
)
def test_the_minor_version_named(requirement: str, minor: str | None) -> None:
    assert minor_of(requirement) == minor


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def answers(version: str, *, level: str = "final", implementation: str = "cpython", path: str) -> str:
    numbers = version.replace(".", ",")
    return f"""echo '["{path}",[{numbers}],"{level}","{implementation}",false]'"""


def test_search_covers_path_pyenv_and_uv_and_skips_what_fails(tmp_path: Path) -> None:
    def fake(folder: str, version: str, **more: str) -> Path:
        path = tmp_path / folder
        return script(path, answers(version, path=str(path), **more))

    on_path = fake("bin/python3.10", "3.10.4")
    fake("bin/python2", "3.10.4")
    fake("bin/python3.7", "3.7.1")
    fake("bin/python3.14", "3.14.0", level="candidate")
    fake("bin/python3.9", "3.9.1", implementation="pypy")
    script(tmp_path / "bin" / "python3.13", "exit 127")
    fake("pyenv/shims/python3.6", "3.11.1")
    in_pyenv = fake("pyenv/versions/3.11.9/bin/python3", "3.11.9")
    by_uv = fake("home/.local/share/uv/python/cpython-3.12/bin/python3", "3.12.2")
    (tmp_path / "bin" / "python3").symlink_to(on_path)
    environ = {
        "PATH": f"{tmp_path}/missing:{tmp_path}/bin:{tmp_path}/pyenv/shims",
        "PYENV_ROOT": str(tmp_path / "pyenv"),
        "HOME": str(tmp_path / "home"),
    }
    found = [one for one in Interpreters(environ).find() if tmp_path in one.path.parents]
    assert [(one.path, one.version) for one in found] == [
        (on_path, "3.10.4"),
        (in_pyenv, "3.11.9"),
        (by_uv, "3.12.2"),
    ]


def test_a_binary_is_asked_again_only_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def counting(path: Path, *, timeout_s: float) -> Interpreter | None:
        asked.append(path)
        return Interpreter(path, "3.12.1")

    monkeypatch.setattr(module, "query", counting)
    binary = script(tmp_path / "python3", "")
    finder = Interpreters({"PATH": str(tmp_path), "HOME": str(tmp_path)})
    finder.find()
    finder.find()
    assert asked.count(binary) == 1
    binary.write_text("#!/bin/sh\n# a new version\n")
    finder.find()
    assert asked.count(binary) == 2


def test_a_binary_that_does_not_answer_in_time_is_not_taken_for_none(tmp_path: Path) -> None:
    binary = script(tmp_path / "python3", "exec sleep 60")
    finder = Interpreters({"PATH": str(tmp_path), "HOME": str(tmp_path)}, patience_s=0.05)
    assert binary not in [one.path for one in finder.find()]
    assert binary in finder.silent


def test_the_running_python_is_found_outside_of_its_virtual_environment() -> None:
    answer = module.query(Path(sys.executable).resolve())
    assert answer is not None
    assert answer.version == ".".join(map(str, sys.version_info[:3]))
    assert not (answer.path.parent.parent / "pyvenv.cfg").exists()
