"""Conda files solved as conda: a channel of real packages made here, and what happens when a channel is not there."""

from __future__ import annotations

import asyncio
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from moorings.environments.shelf import Shelf
from moorings.environments.venv import BuiltEnvironment, EnvironmentBuilder
from moorings.errors.exceptions import Failure, MooringsError
from moorings.spec.assets import EnvironmentSpec


def _channel_maker() -> ModuleType:
    path = Path(__file__).with_name("conda_channel.py")
    spec = importlib.util.spec_from_file_location("conda_channel", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = _channel_maker()
CLOSED = "https://127.0.0.1:9/conda-forge"
"""A channel of a known name where nothing listens."""


@dataclass
class Yard:
    """A channel, and a place to build in with caches of its own."""

    channel: str
    folder: Path

    def environ(self, **more: str) -> dict[str, str]:
        """With a cache of conda packages of our own, and the usual one of Python packages."""
        usual = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        cache = {"XDG_CACHE_HOME": str(self.folder / "cache"), "UV_CACHE_DIR": f"{usual}/uv"}
        return {**cache, **os.environ, "XDG_CACHE_HOME": cache["XDG_CACHE_HOME"], **more}

    def builder(self, root: str = "environments", **more: Any) -> EnvironmentBuilder:
        env = self.environ(**more.pop("environ", {}))
        return EnvironmentBuilder(
            self.folder / root, uv=None, allow_python_download=False, home=self.folder, environ=env, **more
        )

    def conda(self, *dependencies: Any, channels: list[str] | None = None) -> dict[str, Any]:
        return {"channels": channels or [self.channel], "dependencies": list(dependencies)}


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    folder = tmp_path_factory.mktemp("conda")
    (folder / "work").mkdir()
    return Yard(MAKER.make_channel(folder / "channel", folder / "work").as_uri(), folder)


async def ensure(builder: EnvironmentBuilder, conda: dict[str, Any]) -> BuiltEnvironment:
    return await builder.ensure(EnvironmentSpec(conda_file=conda), progress=lambda text: None)


async def failed(builder: EnvironmentBuilder, conda: dict[str, Any]) -> Failure:
    with pytest.raises(MooringsError) as caught:
        await ensure(builder, conda)
    return caught.value.failure


@pytest.fixture(scope="module")
def whole(yard: Yard) -> dict[str, Any]:
    return yard.conda("python=3.11", "harbour", "packaging", {"pip": ["six==1.16.0", "packaging>=20"]})


@pytest.fixture(scope="module")
def built(yard: Yard, whole: dict[str, Any]) -> BuiltEnvironment:
    return asyncio.run(ensure(yard.builder(), whole))


def run(built: BuiltEnvironment, code: str) -> str:
    return subprocess.run(
        [built.python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_everything_comes_from_the_channel_and_works(yard: Yard, built: BuiltEnvironment) -> None:
    assert built.solver == "conda" and yard.channel in built.solver_reason
    assert built.python_version == MAKER.PYTHON
    folder = yard.folder / "environments" / built.key
    assert run(built, "import sys; print(sys.prefix)") == str(folder), (
        "conda's Python, not one of the machine"
    )
    assert run(built, "import harbour; print(harbour.berths(7))") == "21", (
        "a module of conda over its C library"
    )
    script = subprocess.run([folder / "bin" / "harbour-berths"], capture_output=True, text=True, check=True)
    assert script.stdout == "6\n", "the prefix in the script was replaced"
    assert {"harbour", "six", "moorings-server"} <= built.packages.keys()
    assert (folder / "conda-meta" / "libharbour-1.2-0.json").is_file()


def test_what_conda_brings_is_not_brought_again_by_pip(yard: Yard, built: BuiltEnvironment) -> None:
    folder = yard.folder / "environments" / built.key
    lock = (folder / "requirements.lock").read_text()
    assert "six==1.16.0" in lock and "\npackaging==" not in lock
    assert list((folder / "conda-meta").glob("packaging-*.json"))
    log = yard.builder().log(built.key) or ""
    assert "is fulfilled by conda's packaging" in log
    assert "solver: conda" in log


def test_the_locks_lie_beside_the_log_and_name_every_file_by_its_digest(
    yard: Yard, built: BuiltEnvironment
) -> None:
    locks = Shelf(yard.folder / "environments").locks(built.recipe_key)
    assert set(locks) == {"conda-lock.yml", "requirements.lock"}
    for package in ("python", "harbour", "libharbour", "packaging"):
        assert f"/{package}-" in locks["conda-lock.yml"]
    assert locks["conda-lock.yml"].count("sha256: ") == 4
    assert "--hash=sha256:" in locks["requirements.lock"]


async def test_what_activation_would_set_is_kept_with_the_environment(
    yard: Yard, built: BuiltEnvironment, whole: dict[str, Any]
) -> None:
    prefix = str(yard.folder / "environments" / built.key)
    assert built.variables == {
        "CONDA_PREFIX": prefix,
        "CONDA_DEFAULT_ENV": prefix,
        "CONDA_SHLVL": "1",
        "HARBOUR_DATA": f"{prefix}/share/harbour",
        "HARBOUR_LIGHTS": "on",
        "HARBOUR_BOTH": "on\nand more",
    }
    again = await ensure(yard.builder(), whole)
    assert (again.reused, again.variables) == (True, built.variables)


def wheel(folder: Path, needs: str) -> str:
    """A Python package `pier`, as a requirement of pip."""
    folder.mkdir(exist_ok=True)
    path = folder / "pier-1.0-py3-none-any.whl"
    files = {
        "pier.py": "import harbour\ndef berths(n): return harbour.berths(n) + 1\n",
        "pier-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: pier\nVersion: 1.0\nRequires-Dist: {needs}\n",
        "pier-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "pier-1.0.dist-info/RECORD": "pier.py,,\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return f"pier @ {path.as_uri()}"


async def test_a_package_of_pip_may_need_what_only_conda_has(yard: Yard, tmp_path: Path) -> None:
    pier = wheel(tmp_path, "harbour>=2,<3")
    builder = yard.builder("e11")
    built = await ensure(builder, yard.conda("python=3.11", "harbour", {"pip": [pier, "six==1.16.0"]}))
    assert run(built, "import pier; print(pier.berths(2))") == "7"
    assert (built.packages["harbour"], built.packages["six"]) == ("2.0", "1.16.0")
    lock = (yard.folder / "e11" / built.key / "requirements.lock").read_text()
    assert "six==1.16.0" in lock and "harbour==" not in lock
    assert "with what conda brings: harbour 2.0" in (builder.log(built.key) or "")


async def test_a_package_of_pip_that_needs_another_version_than_conda_has_is_named(
    yard: Yard, tmp_path: Path
) -> None:
    pier = wheel(tmp_path, "harbour>=3")
    failure = await failed(yard.builder("e12"), yard.conda("python=3.11", "harbour", {"pip": [pier]}))
    assert failure.code == "EnvironmentUnsatisfiable"
    said = " ".join(failure.evidence)
    assert "harbour>=3" in said and "harbour==2.0" in said and "pier" in said


async def test_nothing_is_resolved_again_for_the_same_recipe(
    yard: Yard, built: BuiltEnvironment, whole: dict[str, Any]
) -> None:
    poor = EnvironmentBuilder(
        yard.folder / "environments",
        uv=yard.folder / "no-uv",
        allow_python_download=False,
        home=yard.folder,
        environ={"PATH": ""},
    )
    said: list[str] = []
    again = await poor.ensure(EnvironmentSpec(conda_file=whole), progress=said.append)
    assert (again.key, again.recipe_key, again.reused, said) == (built.key, built.recipe_key, True, [])
    assert (again.solver, again.solver_reason) == (built.solver, built.solver_reason)


async def test_another_place_makes_the_same_key_of_the_same_recipe(
    yard: Yard, built: BuiltEnvironment, whole: dict[str, Any]
) -> None:
    shuffled = {**whole, "dependencies": [*reversed(whole["dependencies"])], "name": "another"}
    again = await ensure(yard.builder("elsewhere"), shuffled)
    assert (again.key, again.recipe_key, again.reused) == (built.key, built.recipe_key, False)


async def test_another_version_in_the_solve_is_another_environment(
    yard: Yard, built: BuiltEnvironment
) -> None:
    other = await ensure(yard.builder(), yard.conda("python=3.11", "libharbour=1.1"))
    assert other.key != built.key
    assert "harbour" not in other.packages


async def test_every_missing_package_and_version_is_named(yard: Yard) -> None:
    failure = await failed(yard.builder("e1"), yard.conda("nosuch", "harbor>=1", "harbour=3"))
    assert (failure.code, failure.target) == ("CondaPackageNotFound", "harbor, nosuch")
    assert [line.split(":")[0] for line in failure.evidence] == ["harbor", "nosuch", "harbour 3.*"]
    version = await failed(yard.builder("e1"), yard.conda("harbour=3", "libharbour>=9"))
    assert version.code == "CondaPackageNotFound"
    assert "there is 2.0" in version.message and "there is 1.2, 1.1" in version.message


async def test_a_contradiction_shows_both_sides(yard: Yard) -> None:
    failure = await failed(yard.builder("e2"), yard.conda("harbour", "libharbour=1.1"))
    assert failure.code == "CondaUnsatisfiable"
    assert "libharbour >=1.2,<2" in " ".join(failure.evidence)
    hidden = await failed(yard.builder("e2"), yard.conda("broken"))
    assert hidden.code == "CondaUnsatisfiable" and "libharbour >=3" in hidden.message


async def test_an_entry_that_conda_cannot_read_is_named(yard: Yard) -> None:
    failure = await failed(yard.builder("e3"), yard.conda("harbour=", "python>=3..9"))
    assert failure.code in ("CondaSpecInvalid", "CondaPackageNotFound")
    assert "python" in " ".join(failure.evidence)


async def test_a_pip_requirement_that_does_not_exist_is_named(yard: Yard) -> None:
    failure = await failed(yard.builder("e4"), yard.conda("python=3.11", {"pip": ["six==99.1"]}))
    assert (failure.code, failure.target) == ("PackageVersionNotFound", "six")


async def test_a_package_that_is_not_what_the_channel_says_is_refused(yard: Yard, tmp_path: Path) -> None:
    copy = tmp_path / "channel"
    shutil.copytree(Path(yard.channel.removeprefix("file://")), copy)
    archive = next((copy / "noarch").glob("harbour-2.0-*.tar.bz2"))
    archive.write_bytes(archive.read_bytes()[:-9])
    builder = yard.builder("e5", environ={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    failure = await failed(builder, yard.conda("harbour", channels=[copy.as_uri()]))
    assert failure.code == "CondaInstallFailed"
    assert "harbour-2.0-0.tar.bz2" in " ".join((failure.message, *failure.evidence))
    assert [path for path in (yard.folder / "e5").iterdir() if len(path.name) == 16] == []


class _Server(http.server.ThreadingHTTPServer):
    """A channel over HTTP that can be told to have no packages any more."""

    broken = False
    asked: ClassVar[list[str]] = []

    def __init__(self, folder: Path) -> None:
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *given: Any) -> None:
                super().__init__(*given, directory=str(folder))

            def send_head(self) -> Any:
                outer.asked.append(f"{self.command} {self.path}")
                if outer.broken and self.path.endswith(".bz2"):
                    self.send_error(410)
                    return None
                return super().send_head()

            def log_message(self, *given: Any) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)

    def __enter__(self) -> _Server:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


async def test_a_channel_over_http_that_loses_its_packages_on_the_way(yard: Yard, tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
    with _Server(Path(yard.channel.removeprefix("file://"))) as server:
        conda = yard.conda("python=3.11", "harbour", channels=[f"http://127.0.0.1:{server.server_port}"])
        server.broken = True
        failure = await failed(yard.builder("e10", environ=environ), conda)
        assert failure.code == "CondaInstallFailed" and failure.entry.retryable
        assert "HEAD /noarch/repodata.json" in server.asked
        server.broken = False
        built = await ensure(yard.builder("e10", environ=environ), conda)
        assert (built.solver, run(built, "import harbour; print(harbour.berths(2))")) == ("conda", "6")


async def test_a_channel_that_is_not_there_leads_to_the_translation(yard: Yard) -> None:
    conda = yard.conda("python=3.11", "six=1.16.0", channels=[CLOSED])
    builder = yard.builder("e6")
    built = await ensure(builder, conda)
    assert built.solver == "index"
    assert "conda-forge" in built.solver_reason and "translated" in built.solver_reason
    assert "note: a channel cannot be reached" in (builder.log(built.key) or "")
    assert built.packages["six"] == "1.16.0"
    assert built.recipe_key == builder.recipe_key(EnvironmentSpec(conda_file=conda))
    only = await failed(yard.builder("e6", solver="conda"), conda)
    assert only.code == "CondaChannelUnreachable" and only.entry.retryable


async def test_neither_channel_nor_translation_says_both(yard: Yard) -> None:
    conda = yard.conda("python=3.11", "gdal", "r-base", channels=["file:///nowhere/channel"])
    failure = await failed(yard.builder("e7"), conda)
    assert failure.code == "EnvironmentNotTranslatable"
    said = " ".join(failure.evidence)
    for part in ("gdal", "r-base", "file:///nowhere/channel", "cannot be reached"):
        assert part in said


async def test_translating_can_be_asked_for(yard: Yard) -> None:
    built = await ensure(yard.builder("e8", solver="index"), yard.conda("six", channels=[CLOSED]))
    assert built.solver == "index" and "conda_solver" in built.solver_reason


async def test_a_killed_solve_and_installation_are_done_again(yard: Yard) -> None:
    code = (
        "import asyncio, json, sys\nfrom pathlib import Path\n"
        "from moorings.environments.venv import EnvironmentBuilder\n"
        "from moorings.spec.assets import EnvironmentSpec\n"
        "b = EnvironmentBuilder(Path(sys.argv[1]), uv=None, allow_python_download=False, home=Path(sys.argv[1]))\n"
        "s = EnvironmentSpec(conda_file=json.loads(sys.argv[2]))\n"
        "asyncio.run(b.ensure(s, progress=lambda t: print(t, flush=True)))\n"
    )
    conda = yard.conda("python=3.11", "harbour")
    root = yard.folder / "e9"
    for moment in ("solving", "installing"):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(root), json.dumps(conda)],
            stdout=subprocess.PIPE,
            text=True,
            env=yard.environ(),
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(moment):
                break
        process.kill()
        process.communicate(timeout=30)
        assert not list(root.glob("*/meta.json"))
    built = await asyncio.wait_for(ensure(yard.builder("e9"), conda), 120)
    assert run(built, "import harbour; print(harbour.berths(1))") == "3"


def test_the_daemon_never_imports_the_solver() -> None:
    code = "import sys, moorings.daemon.process; sys.exit('rattler' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
