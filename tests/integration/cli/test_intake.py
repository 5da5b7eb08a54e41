"""Registering and downloading with real processes: at once, cut short by kills, with progress."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from moorings.client.daemon_control import stop
from moorings.settings import Settings

LARGE_BYTES = 900_000_000


@dataclass
class Cli:
    environ: dict[str, str]
    folder: Path

    @property
    def home(self) -> Path:
        return Path(self.environ["MOORINGS_HOME"])

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "moorings.cli.main", *argv],
            env=self.environ,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A test run in the background may have been started with Ctrl-C switched off, for its children too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def json(self, *argv: str) -> object:
        out, err = finished(self.start(*argv, "-o", "json"))
        return json.loads(out) if out else err

    def stored(self, part: str) -> list[Path]:
        return [p for p in (self.home / "assets" / part).rglob("*") if p.is_file()]


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


def until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def moor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    tmp_path = tmp_path_factory.mktemp("intake")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "home"
    environ = {**os.environ, "MOORINGS_HOME": str(home), "MOORINGS_GATEWAY_PORT": str(port)}
    made = Cli(environ, tmp_path)
    made.json("workspace", "start")
    yield made
    stop(Settings.load(environ), lambda _: None)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    with path.open("wb") as handle:
        handle.write(b"weights" + os.urandom(16))  # what is stored already would not be copied
        handle.truncate(LARGE_BYTES)
    return path


def test_versions_created_at_once_each_get_their_number(moor: Cli) -> None:
    for n in range(4):
        (moor.folder / f"m{n}.bin").write_text(f"content {n}")
    running = [moor.start("model", "create", "-n", "m", "-p", f"m{n}.bin", "-o", "json") for n in range(4)]
    made = [json.loads(finished(each)[0]) for each in running]
    assert sorted(m["version"] for m in made) == ["1", "2", "3", "4"]
    assert len({m["content"]["digest"] for m in made}) == 4

    running = [moor.start("model", "create", "-n", "m", "-v", "9", "-p", f"m{n}.bin") for n in range(2)]
    ended = [(each.communicate(timeout=60)[1], each.returncode) for each in running]
    assert sorted(code for _, code in ended) == [0, 1]
    assert any("(AssetVersionImmutable" in err for err, _ in ended)


def test_a_daemon_killed_during_an_intake_leaves_nothing_and_the_command_goes_on(
    moor: Cli, large: Path
) -> None:
    before = len(moor.stored("objects")), len(moor.stored("trees"))
    creating = moor.start("model", "create", "-n", "big", "-p", str(large), "-o", "json")
    until(lambda: any(p.stat().st_size for p in (moor.home / "assets" / "incoming").glob("*/*")))
    os.kill(int((moor.home / "daemon.lock").read_text()), signal.SIGKILL)
    made = json.loads(finished(creating)[0])
    assert (made["version"], made["content"]["size_bytes"]) == ("1", LARGE_BYTES)
    assert moor.stored("incoming") == []
    assert (len(moor.stored("objects")), len(moor.stored("trees"))) == (before[0] + 1, before[1] + 1)


def test_a_command_that_is_interrupted_leaves_the_workspace_at_work(moor: Cli, large: Path) -> None:
    creating = moor.start("model", "create", "-n", "slow", "-p", str(large))
    until(lambda: any(p.stat().st_size for p in (moor.home / "assets" / "incoming").glob("*/*")))
    creating.send_signal(signal.SIGINT)
    _, err = creating.communicate(timeout=10)
    assert (creating.returncode, "Traceback" in err) == (130, False)
    assert "moor model list -n slow" in err, "whoever interrupts learns that the workspace goes on"
    until(lambda: "slow" in str(moor.json("model", "list")))
    assert moor.stored("incoming") == []


def test_a_download_that_is_killed_leaves_what_the_next_one_removes(moor: Cli, large: Path) -> None:
    moor.json("model", "create", "-n", "brought", "-p", str(large))
    out = moor.folder / "out"
    bringing = moor.start("model", "download", "-n", "brought", "-p", str(out))
    until(lambda: any(p.is_file() and p.stat().st_size for p in out.rglob("large.bin")))
    bringing.kill()
    bringing.communicate(timeout=10)
    assert not (out / "brought").exists()
    finished(moor.start("model", "download", "-n", "brought", "-p", str(out)))
    assert [p.name for p in out.iterdir()] == ["brought"]
    assert (out / "brought" / "large.bin").stat().st_size == LARGE_BYTES
    with (out / "brought" / "large.bin").open("rb") as handle:
        assert handle.read(7) == b"weights"


def test_a_registered_model_and_environment_are_deployed_by_reference(moor: Cli) -> None:
    """`azureml:name@latest`, and an archived version by its number."""
    (moor.folder / "m.bin").write_text("one")
    moor.json("model", "create", "-n", "iris", "-p", "m.bin")
    (moor.folder / "m.bin").write_text("two")
    moor.json("model", "create", "-n", "iris", "-p", "m.bin")
    (moor.folder / "conda.yml").write_text("dependencies: [python=3.11]\n")
    moor.json("environment", "create", "-n", "e", "-c", "conda.yml", "-i", "base:1")
    moor.json("model", "archive", "-n", "iris", "-v", "2")
    (moor.folder / "src").mkdir()
    (moor.folder / "src" / "score.py").write_text(
        "import os, pathlib\n\n\ndef init():\n    pass\n\n\ndef run(data):\n"
        "    return pathlib.Path(os.environ['AZUREML_MODEL_DIR'], 'm.bin').read_text()\n"
    )
    (moor.folder / "request.json").write_text("{}")
    moor.json("online-endpoint", "create", "-n", "shop")
    for model, said in (("azureml:iris@latest", "one"), ("azureml:iris:2", "two")):
        (moor.folder / "blue.yml").write_text(
            f"name: blue\nendpoint_name: shop\nmodel: {model}\nenvironment: azureml:e@latest\n"
            "code_configuration: {code: src, scoring_script: score.py}\ninstance_type: Standard_DS3_v2\n"
        )
        verb = "create" if said == "one" else "update"
        traffic = ["--all-traffic"] if said == "one" else []
        shown = moor.json("online-deployment", verb, "-f", "blue.yml", *traffic)
        assert isinstance(shown, dict) and shown["model"].endswith(
            f"/models/iris/versions/{1 if said == 'one' else 2}"
        )
        out, _ = finished(moor.start("online-endpoint", "invoke", "-n", "shop", "-r", "request.json"))
        assert out.strip() == f'"{said}"'
    shown = moor.json("online-deployment", "show", "-n", "blue", "-e", "shop")
    assert isinstance(shown, dict)
    code = shown["code_configuration"]["code"].split("/")
    assert moor.json("code", "show", "-n", code[-3], "-v", code[-1])["content"]["files"] == 1  # type: ignore[index]
