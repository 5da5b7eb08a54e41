"""Real environments from the real package index: built, reused, shared, killed and refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorings.environments import venv
from moorings.environments.buildlog import BuildLog
from moorings.environments.installer import Installer
from moorings.environments.recipe import Recipe
from moorings.environments.server_wheel import ServerWheel
from moorings.environments.shelf import Shelf
from moorings.environments.venv import BuiltEnvironment, EnvironmentBuilder
from moorings.environments.work import Work
from moorings.errors.exceptions import Failure, MooringsError
from moorings.spec.assets import EnvironmentSpec

SIX = {"dependencies": ["python=3.11", "pip", {"pip": ["six", "httptools==0.6.4"]}]}

ENSURE = """
import asyncio, json, sys
from pathlib import Path
from moorings.environments.venv import EnvironmentBuilder
from moorings.spec.assets import EnvironmentSpec
root = Path(sys.argv[1])
builder = EnvironmentBuilder(root, uv=None, allow_python_download=False, home=root.parent)
spec = EnvironmentSpec(conda_file=json.loads(sys.argv[2]))
built = asyncio.run(builder.ensure(spec, progress=lambda text: print(text, flush=True)))
print(built.key, built.reused)
"""


def builder(root: Path, **environ: str) -> EnvironmentBuilder:
    env = {**os.environ, **environ}
    return EnvironmentBuilder(root, uv=None, allow_python_download=False, home=root.parent, environ=env)


async def ensure(one: EnvironmentBuilder, conda: dict[str, Any]) -> tuple[BuiltEnvironment, list[str]]:
    said: list[str] = []
    built = await one.ensure(EnvironmentSpec(conda_file=conda), progress=said.append)
    return built, said


async def failed(root: Path, conda: dict[str, Any], **environ: str) -> Failure:
    with pytest.raises(MooringsError) as caught:
        await ensure(builder(root, **environ), conda)
    return caught.value.failure


def environments(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if len(path.name) == 16]


def start(root: Path, conda: dict[str, Any], **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ENSURE, str(root), json.dumps(conda)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, BuiltEnvironment, list[str]]]:
    """A root in which the environment SIX has been built, and what the build said."""
    root = tmp_path_factory.mktemp("built") / "environments"
    built, said = asyncio.run(ensure(builder(root), SIX))
    yield root, built, said


def test_a_built_environment_has_the_server_and_the_pins_of_the_user(
    shared: tuple[Path, BuiltEnvironment, list[str]],
) -> None:
    root, built, said = shared
    assert built.packages["httptools"] == "0.6.4"
    assert {"six", "moorings-server"} <= built.packages.keys()
    assert built.python_version.startswith("3.11.")
    answer = subprocess.run(
        [str(built.python), "-c", "import six, moorings_server, sys; print(sys.prefix)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(answer.stdout.strip()) == root / built.key
    assert said[0] == "resolving 2 requirements"
    assert not built.reused


def test_the_log_is_kept_private_and_found_by_both_keys(
    shared: tuple[Path, BuiltEnvironment, list[str]],
) -> None:
    root, built, _ = shared
    log = builder(root).log(built.key)
    assert log is not None and log == builder(root).log(built.recipe_key)
    assert "httptools==0.6.4" in log and "Installed" in log
    assert stat.S_IMODE((root / "logs" / f"{built.recipe_key}.log").stat().st_mode) == 0o600


async def test_reuse_needs_neither_network_nor_installer(
    shared: tuple[Path, BuiltEnvironment, list[str]], tmp_path: Path
) -> None:
    root, built, _ = shared
    poor = EnvironmentBuilder(
        root,
        uv=tmp_path / "no-uv",
        allow_python_download=False,
        home=tmp_path,
        environ={"PATH": "", "UV_OFFLINE": "1"},
    )
    again, said = await ensure(poor, SIX)
    assert (again.key, again.reused, said) == (built.key, True, [])
    assert again.packages == built.packages


async def test_another_recipe_with_the_same_outcome_shares_the_environment(
    shared: tuple[Path, BuiltEnvironment, list[str]],
) -> None:
    root, built, _ = shared
    other = {"dependencies": ["python=3.11", "six<=" + built.packages["six"], {"pip": ["httptools==0.6.4"]}]}
    again, _ = await ensure(builder(root), other)
    assert again.recipe_key != built.recipe_key
    assert (again.key, again.reused) == (built.key, True)


async def test_two_processes_and_two_tasks_build_once(tmp_path: Path) -> None:
    root = tmp_path / "environments"
    processes = [start(root, SIX) for _ in range(2)]
    one = builder(root)
    tasks = await asyncio.gather(ensure(one, SIX), ensure(one, SIX))
    outs = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]

    keys = {built.key for built, _ in tasks} | {out[-2] for out in outs}
    assert len(keys) == 1
    assert [built.reused for built, _ in tasks].count(False) + [out[-1] for out in outs].count("False") == 1
    assert len(environments(root)) == 1


@pytest.mark.parametrize("moment", ["resolving", "installing", "checking"])
async def test_a_killed_build_is_done_again(tmp_path: Path, moment: str) -> None:
    root = tmp_path / "environments"
    # A cache of its own makes the build slow enough to be hit in its middle.
    cache = {"UV_CACHE_DIR": str(tmp_path / "cache")}
    process = start(root, SIX, **cache)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(moment):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)

    assert not [path for path in environments(root) if (path / "meta.json").exists()]
    built, _ = await asyncio.wait_for(ensure(builder(root, **cache), SIX), 120)
    assert not built.reused
    assert built.packages["httptools"] == "0.6.4"
    assert [path.name for path in environments(root)] == [built.key]


async def test_a_canceled_build_leaves_nothing_running(tmp_path: Path) -> None:
    root = tmp_path / "environments"
    one = builder(root, UV_CACHE_DIR=str(tmp_path / "cache"))
    reached = asyncio.Event()
    spec = EnvironmentSpec(conda_file=SIX)
    task = asyncio.create_task(
        one.ensure(spec, progress=lambda text: reached.set() if text.startswith("installing") else None)
    )
    await asyncio.wait_for(reached.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert environments(root) == []
    needle = str(root).encode()
    commands = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit()]
    assert [path for path in commands if path.exists() and needle in path.read_bytes()] == []
    recipe = one.recipe_key(spec)
    assert recipe is not None
    assert (one.log(recipe) or "").endswith("CANCELED\n")


async def test_a_contradiction_shows_both_sides(tmp_path: Path) -> None:
    failure = await failed(tmp_path / "e", {"dependencies": ["python=3.12", "numpy=2.3.1", "numba=0.57.0"]})
    assert failure.code == "EnvironmentUnsatisfiable"
    text = " ".join(failure.evidence)
    assert "numba" in text and "numpy==2.3.1" in text


async def test_an_unknown_package_is_named_and_its_log_is_kept(tmp_path: Path) -> None:
    conda = {"dependencies": ["python=3.12", "scikit-lern=1.0"]}
    failure = await failed(tmp_path / "e", conda)
    assert (failure.code, failure.target) == ("PackageNotFound", "scikit-lern")
    assert "scikit-learn" in failure.message
    one = builder(tmp_path / "e")
    recipe = one.recipe_key(EnvironmentSpec(conda_file=conda))
    assert recipe is not None
    assert "FAILED PackageNotFound" in (one.log(recipe) or "")


async def test_an_unknown_version_is_named(tmp_path: Path) -> None:
    failure = await failed(tmp_path / "e", {"dependencies": ["python=3.12", {"pip": ["six==99.1"]}]})
    assert (failure.code, failure.target) == ("PackageVersionNotFound", "six")


async def test_a_package_for_other_pythons_is_named(tmp_path: Path) -> None:
    failure = await failed(tmp_path / "e", {"dependencies": ["python=3.12", {"pip": ["tensorflow==2.5.0"]}]})
    assert (failure.code, failure.target) == ("NoWheelForPython", "tensorflow")
    assert "3.12" in failure.message


async def test_a_package_that_does_not_compile_shows_the_compiler(tmp_path: Path) -> None:
    failure = await failed(tmp_path / "e", {"dependencies": ["python=3.12", {"pip": ["mysqlclient==2.2.0"]}]})
    assert (failure.code, failure.target) == ("PackageBuildFailed", "mysqlclient")
    assert any("pkg-config" in line for line in failure.evidence)
    assert environments(tmp_path / "e") == []


async def test_an_index_that_is_not_there_may_be_tried_again(tmp_path: Path) -> None:
    failure = await failed(
        tmp_path / "e",
        {"dependencies": ["python=3.12", "six"]},
        UV_DEFAULT_INDEX="http://127.0.0.1:9/simple",
        UV_HTTP_RETRIES="0",
        UV_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert failure.code == "IndexUnreachable"
    assert failure.entry.retryable


async def test_a_python_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    failure = await failed(tmp_path / "e", {"dependencies": ["python=3.99"]})
    assert failure.code == "PythonNotFound"
    assert any(".".join(map(str, sys.version_info[:2])) in line for line in failure.evidence)
    assert "uv python install 3.99" in failure.fix


async def test_a_python_older_than_the_server_is_refused(tmp_path: Path) -> None:
    failure = await failed(tmp_path / "e", {"dependencies": ["python=3.7", "six"]})
    assert failure.code == "PythonUnsupported"


async def test_a_root_that_cannot_be_written_is_a_coded_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    failure = await failed(tmp_path / "file" / "e", {"dependencies": ["six"]})
    assert failure.code == "EnvironmentBuildFailed"
    assert str(tmp_path / "file") in " ".join(failure.evidence)


async def test_the_oldest_python_that_is_supported_gets_an_environment(tmp_path: Path) -> None:
    built, _ = await ensure(
        builder(tmp_path / "e"), {"dependencies": ["python=3.8", {"pip": ["six==1.16.0"]}]}
    )
    assert built.python_version.startswith("3.8.")
    assert built.packages["six"] == "1.16.0"


async def test_progress_tells_of_downloads(tmp_path: Path) -> None:
    began = time.monotonic()
    conda = {"dependencies": ["python=3.12", "numpy"]}
    built, said = await ensure(builder(tmp_path / "e", UV_CACHE_DIR=str(tmp_path / "cache")), conda)
    assert "downloading numpy" in said
    assert 0 < built.seconds <= time.monotonic() - began


@pytest.mark.parametrize(
    ("script", "limit_s", "said"),
    [
        ("sleep 60", 0.2, "no end after 0.2 s"),
        ("echo boom >&2; exit 3", 60.0, "boom"),
        ("exit 3", 60.0, "exit status 3"),
    ],
)
async def test_an_environment_in_which_the_server_does_not_start_is_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, limit_s: float, said: str
) -> None:
    monkeypatch.setattr(venv, "VERIFY_TIMEOUT_S", limit_s)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    shelf = Shelf(tmp_path)
    shelf.prepare()
    installer = Installer(None, home=tmp_path, environ=os.environ)
    wheel = ServerWheel(tmp_path, "1", "0")
    with BuildLog(shelf.log_file("k")) as log, pytest.raises(MooringsError) as caught:
        work = Work(shelf, installer, Recipe("", ()), "k", wheel, "linux", log, lambda text: None)
        await venv._verify(work, python)
    assert caught.value.failure.code == "EnvironmentBuildFailed"
    assert said in caught.value.failure.message
