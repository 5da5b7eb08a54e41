"""The server lives in environments as old as Python 3.8, with nothing else installed."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SOURCES = sorted((Path(__file__).resolve().parents[1] / "src" / "moorings_server").glob("*.py"))


def interpreters() -> dict[str, str]:
    """Paths of other interpreters on this machine, by version, from PYENV_ROOT and PATH."""
    found: dict[str, str] = {}
    root = os.environ.get("PYENV_ROOT")
    for path in sorted(Path(root).glob("versions/3.*/bin/python")) if root else []:
        match = re.match(r"3\.(\d+)", path.parent.parent.name)
        if match and int(match[1]) >= 8:
            found["3." + match[1]] = str(path)
    for minor in range(8, 15):
        path_found = shutil.which(f"python3.{minor}")
        if (
            path_found
            and f"3.{minor}" not in found
            and subprocess.run([path_found, "-V"], capture_output=True).returncode == 0
        ):
            found[f"3.{minor}"] = path_found
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_syntax_is_that_of_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("version", sorted(interpreters()))
def test_a_worker_runs_without_any_dependency(start: Any, make_post: Any, version: str) -> None:
    python = interpreters()[version]
    script = """
        import sys
        def init(): print("init")
        def run(data): return [list(sys.version_info[:2]), data, "uvloop" in sys.modules, "httptools" in sys.modules]
    """
    folder = SOURCES[0].parent
    for source in SOURCES:  # -W error: nothing that this version has deprecated
        subprocess.run(
            [
                python,
                "-W",
                "error",
                "-c",
                "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')",
                str(source),
            ],
            check=True,
        )
    assert folder.name == "moorings_server"
    worker = start(script, python=python, PYTHONNOUSERSITE="1", PYTHONWARNINGS="error").ready()
    major, minor = version.split(".")
    wire = worker.connect()
    for _ in range(3):
        assert wire.send(make_post(b"x")).read().json == [[int(major), int(minor)], "x", False, False]
    wire.send(make_post(b"1") * 50)
    assert all(wire.read().status == 200 for _ in range(50))
    worker.terminate()
    assert worker.process.wait(10) == 0, worker.log
    assert "Warning" not in worker.log


def test_threads_and_a_failed_boot_on_the_oldest_interpreter(start: Any, make_post: Any) -> None:
    oldest = sorted(interpreters().items(), key=lambda pair: int(pair[0].split(".")[1]))
    python = oldest[0][1]
    failed = start("import absent_module\n", python=python).failed()
    assert (failed["kind"], failed["missing"], failed["line"]) == ("import_error", "absent_module", 1)
    worker = start(
        "import time\ndef init(): pass\ndef run(d): time.sleep(0.3)\n",
        python=python,
        MOORINGS_MAX_CONCURRENT="4",
    ).ready()
    wires = [worker.connect().send(make_post(b"")) for _ in range(4)]
    assert [wire.read().status for wire in wires] == [200] * 4
