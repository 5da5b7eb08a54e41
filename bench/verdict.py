"""How long it takes from a failing `init()` to the verdict of the command line, with the environment in the cache.

`python -m bench.verdict` makes a workspace of its own, deploys something good (which builds the environment), then creates
ten deployments whose `init()` raises. It prints one JSON object: seconds from the start of the command to its end, and from
the moment at which `init()` raised to the end of the command; median and worst of each. Loopback only; it stops by itself.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.workspace import free_port

RUNS = 10
GOOD = "def init(): pass\ndef run(data): return 'ok'\n"
BAD = """
import time

def init():
    with open({mark!r}, "w") as mark:
        mark.write(repr(time.time()))
    raise ValueError("the model of run {run} is not what it should be")

def run(data):
    return data
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="moor-verdict-") as folder:
        bench = Bench(Path(folder))
        try:
            bench.warm_up()
            json.dump(bench.measure(), sys.stdout, indent=1)
            print()
        finally:
            bench.moor("workspace", "stop")


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir(mode=0o700)
        (self.home / "settings.json").write_text(json.dumps({"gateway": {"port": free_port()}}))
        keep = {k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")}
        self.env = {**keep, "MOORINGS_HOME": str(self.home)}
        (folder / "code").mkdir()
        (folder / "conda.yaml").write_text("dependencies: [python=3.11]\n")

    def moor(self, *argv: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / "moor"
        return subprocess.run([program, *argv], env=self.env, cwd=self.folder, capture_output=True, text=True)

    def spec(self, name: str, script: str) -> Path:
        (self.folder / "code" / "score.py").write_text(script)
        spec = {
            "name": name,
            "endpoint_name": "verdict",
            "code_configuration": {"code": "code", "scoring_script": "score.py"},
            "environment": {"conda_file": "conda.yaml"},
            "instance_type": "Standard_DS3_v2",
            "instance_count": 1,
        }
        path = self.folder / f"{name}.yml"
        path.write_text(json.dumps(spec))
        return path

    def warm_up(self) -> None:
        for argv in (
            ("online-endpoint", "create", "-n", "verdict"),
            ("online-deployment", "create", "-f", str(self.spec("good", GOOD))),
        ):
            done = self.moor(*argv)
            if done.returncode:
                raise SystemExit(done.stderr)

    def measure(self) -> dict[str, Any]:
        whole, since_raised = [], []
        for run in range(RUNS):
            mark = self.folder / f"mark-{run}"
            spec = self.spec(f"bad-{run}", BAD.format(mark=str(mark), run=run))
            began = time.time()
            done = self.moor("online-deployment", "create", "-f", str(spec))
            ended = time.time()
            if (
                done.returncode != 1
                or f"run {run} is not" not in done.stderr
                or "score.py" not in done.stderr
            ):
                raise SystemExit(f"no verdict: {done.stderr}")
            whole.append(ended - began)
            since_raised.append(ended - float(mark.read_text()))
            self.moor("online-deployment", "delete", "-e", "verdict", "-n", f"bad-{run}", "--yes")
        return {
            "runs": RUNS,
            "command_to_verdict_s": _spread(whole),
            "init_raised_to_verdict_s": _spread(since_raised),
        }


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(seconds), 2), "worst": round(max(seconds), 2)}


if __name__ == "__main__":
    main()
