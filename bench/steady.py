"""Requests at a fixed rate through the gateway while the control plane is disturbed: how many fail?

`python bench/steady.py [--rate 200] [--seconds 60]` makes a workspace of its own, deploys an echo script and runs one
load per disturbance: the daemon killed with -9 and restarted, the code updated, keys rotated. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
LOAD = Path(__file__).with_name("load.py")
SCRIPT = "def init(): pass\ndef run(data): return {version!r}\n"
DEPLOYMENT = {
    "name": "blue",
    "endpoint_name": "steady",
    "code_configuration": {"code": "code", "scoring_script": "score.py"},
    "environment": {"conda_file": {"dependencies": ["python=3.11"]}},
    "instance_type": "Standard_DS3_v2",
    "instance_count": 1,
    "request_settings": {"max_concurrent_requests_per_instance": 8, "request_timeout_ms": 20000},
}


class Scene:
    """A workspace in a temporary folder with one live endpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        home = folder / "home"
        home.mkdir(mode=0o700)
        settings = {"gateway": {"port": self.port, "rate_limit_per_s": 10_000}}
        (home / "settings.json").write_text(json.dumps(settings))
        self.env = {**os.environ, "MOORINGS_HOME": str(home), "NO_COLOR": "1"}
        (folder / "code").mkdir()
        (folder / "blue.yml").write_text(json.dumps(DEPLOYMENT))
        self.code("v0")
        self.moor("online-endpoint", "create", "-n", "steady")
        self.moor("online-deployment", "create", "-f", "blue.yml", "--all-traffic")

    def moor(self, *argv: str) -> str:
        return subprocess.run(
            [str(BIN / "moor"), *argv],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def code(self, version: str) -> None:
        (self.folder / "code" / "score.py").write_text(SCRIPT.format(version=version))

    def key(self, which: str) -> str:
        found = json.loads(self.moor("online-endpoint", "get-credentials", "-n", "steady", "-o", "json"))
        return str(found[which])

    def load(self, rate: float, seconds: float, disturb: Callable[[Scene], None]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/api/v1/endpoint/steady/score"
        key = self.key("secondaryKey")
        argv = [
            sys.executable,
            str(LOAD),
            url,
            f"--key={key}",
            "--rate",
            str(rate),
            "--seconds",
            str(seconds),
        ]
        began = time.monotonic()
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        time.sleep(2)
        while time.monotonic() - began < seconds - 6:
            disturb(self)
            time.sleep(2)
        out, _ = process.communicate()
        return dict(json.loads(out))


def kill_daemon(scene: Scene) -> None:
    for process in json.loads(scene.moor("workspace", "status", "-o", "json"))["processes"]:
        if process["role"] == "daemon":
            os.kill(process["pid"], signal.SIGKILL)
    time.sleep(3)
    scene.moor("workspace", "start")


def update_code(scene: Scene) -> None:
    scene.code(f"v{time.monotonic()}")
    scene.moor("online-deployment", "update", "-f", "blue.yml")


def rotate_key(scene: Scene) -> None:
    scene.moor("online-endpoint", "regenerate-keys", "-n", "steady", "--key-type", "primary")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="moor-steady-"))
    try:
        scene = Scene(folder)
        print(f"{'while':<40}{'sent':>8}{'failed':>8}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
        for name, disturb in {
            "nothing happens": lambda _: time.sleep(1),
            "the daemon is killed and restarted": kill_daemon,
            "the code is updated": update_code,
            "the other key is rotated": rotate_key,
        }.items():
            r = scene.load(options.rate, options.seconds, disturb)
            times = f"{r['p50_ms']:>9}{r['p99_ms']:>9}{r['max_ms']:>9}"
            print(f"{name:<40}{r['sent']:>8}{r['failed']:>8}{times}", flush=True)
            for sample in r["samples"]:
                print(f"    {sample}")
        scene.moor("workspace", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
