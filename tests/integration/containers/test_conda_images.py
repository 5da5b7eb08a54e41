"""Conda environments inside images: the same solve and key as for processes, moved to where they are inside."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from moorings.containers.host import DockerHost
from moorings.environments.image import ImageBuilder, ImageSettings
from moorings.environments.venv import EnvironmentBuilder
from moorings.spec.assets import EnvironmentSpec

BASE = "moorings.test/python:base"
INSIDE = "/opt/moorings/env"
PROBE = (
    "import harbour, json, moorings_server, packaging, six, sys;"
    "print(json.dumps([harbour.berths(2), sys.prefix, six.__version__]))"
)


def channel_maker() -> ModuleType:
    path = Path(__file__).parents[1] / "environments" / "conda_channel.py"
    spec = importlib.util.spec_from_file_location("conda_channel", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quiet(_line: str) -> None:
    pass


async def test_a_conda_file_is_solved_as_conda_for_an_image_too(dockerd: Any, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    channel = channel_maker().make_channel(tmp_path / "channel", tmp_path / "work").as_uri()
    usual = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    environ = {"UV_CACHE_DIR": f"{usual}/uv", **os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    dependencies = [
        "python={}.{}".format(*sys.version_info),
        "harbour",
        "packaging",
        {"pip": ["six==1.16.0"]},
    ]
    spec = EnvironmentSpec(image=BASE, conda_file={"channels": [channel], "dependencies": dependencies})
    host = DockerHost(dockerd.host, lambda _registry: None)
    images = ImageBuilder(tmp_path / "a", host, ImageSettings(), home=tmp_path, environ=environ)
    image = await images.ensure(spec, None, progress=quiet)
    assert (image.solver, image.reused) == ("conda", False)
    assert image.packages["harbour"] == "2.0"

    def run(*command: str) -> str:
        ran = ("run", "--rm", "--network", "none", "--user", "4711:4711", "--entrypoint", *command[:1])
        return str(dockerd.cli(*ran, image.reference, *command[1:]).stdout)

    assert json.loads(run(image.python, "-I", "-c", PROBE)) == [6, INSIDE, "1.16.0"]
    assert run(f"{INSIDE}/bin/harbour-berths").strip() == "6"
    assert image.variables["HARBOUR_DATA"] == f"{INSIDE}/share/harbour"
    told = run("/bin/sh", "-c", f"grep -rlI --exclude-dir=conda-meta {tmp_path} {INSIDE}; true")
    assert told == "", "no file tells of this machine's folders"

    # Found by its name, elsewhere: what activation would set comes with it.
    others = ImageBuilder(tmp_path / "b", host, ImageSettings(), home=tmp_path, environ=environ)
    again = await others.ensure(spec, None, progress=quiet)
    assert (again.image_id, again.variables) == (image.image_id, image.variables)

    folders = EnvironmentBuilder(
        tmp_path / "c", uv=None, allow_python_download=False, home=tmp_path, environ=environ
    )
    folder = await folders.ensure(spec, progress=quiet)
    assert (folder.solver, folder.key) == ("conda", image.key)
