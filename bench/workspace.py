"""The whole of Moorings as one server of the comparison: a workspace of its own with a gateway, driven by `moor`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.peers import ADAPTERS, script_for
from bench.processes import Tree, pinned

MOOR = Path(sys.executable).parent / "moor"
TIMEOUT_S = 300
ENDPOINT, DEPLOYMENT = "bench", "blue"


def free_port() -> int:
    """The first of three neighbouring ports that are free now (one peer wants three)."""
    while True:
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
                third.bind(("127.0.0.1", port + 2))
            except (OSError, OverflowError):
                continue
            return port


class Workspace:
    """A home that stays for the whole run (environments are built in it once); its processes live only while a
    deployment is measured."""

    def __init__(self, base: Path, versions: dict[str, str]) -> None:
        self._home, self._files = base / "home", base / "files"
        self._home.mkdir(mode=0o700)
        self._files.mkdir()
        self.port = free_port()
        limits = {"gateway": {"port": self.port, "rate_limit_per_s": 1_000_000}}
        (self._home / "settings.json").write_text(json.dumps(limits))
        pins = "".join(f"      - {name}=={versions[name]}\n" for name in ("numpy", "scikit-learn"))
        pins += "      - orjson\n"
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        conda = f"channels: [conda-forge]\ndependencies:\n  - python={python}\n  - pip\n  - pip:\n{pins}"
        (self._files / "conda.yaml").write_text(conda)
        code = self._files / "code"
        code.mkdir()
        for each in (
            "model.py",
            "score.py",
            "score_async.py",
            "score_batch.py",
            "score_orjson.py",
            "score_stream.py",
        ):
            shutil.copy(ADAPTERS / each, code / each)
        keep = {k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")}
        self._env = {**keep, "MOORINGS_HOME": str(self._home), "NO_COLOR": "1"}
        self.tree = Tree(None, f"MOORINGS_HOME={self._home}")

    def build(self) -> None:
        """Build the environment (a deployment comes and goes), so that later starts find it."""
        self.up([])
        try:
            self.deploy("echo", 1, 1, "score.py")
        finally:
            self.down()

    def up(self, on: list[int]) -> None:
        """The daemon and the gateway, on these CPUs, with an endpoint that has no deployment yet."""
        self._moor("online-endpoint", "create", "-n", ENDPOINT, on=on)

    def deploy(self, workload: str, workers: int, clients: int, script: str) -> None:
        """Deploy, or change the deployment, for at most `clients` requests at once."""
        document = {
            "name": DEPLOYMENT,
            "endpoint_name": ENDPOINT,
            "code_configuration": {"code": "./code", "scoring_script": script_for(workload, script)},
            "environment": {"image": "local/base", "conda_file": "conda.yaml"},
            "environment_variables": {
                "BENCH_WORKLOAD": workload,
                "WORKER_COUNT": str(workers),
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
            "request_settings": {
                "max_concurrent_requests_per_instance": concurrency(workload, clients, workers),
                "request_timeout_ms": 60_000,
            },
            "instance_type": "Standard_DS3_v2",
            "instance_count": 1,
        }
        spec = self._files / "deployment.yml"
        spec.write_text(json.dumps(document))
        shown = self._moor("online-endpoint", "show", "-n", ENDPOINT, "-o", "json")
        exists = DEPLOYMENT in json.loads(shown).get("traffic", {})
        verb = ["update"] if exists else ["create", "--all-traffic"]
        self._moor("online-deployment", verb[0], "-f", str(spec), *verb[1:])

    def key(self) -> str:
        found: dict[str, Any] = json.loads(
            self._moor("online-endpoint", "get-credentials", "-n", ENDPOINT, "-o", "json")
        )
        return str(found["primaryKey"])

    def down(self) -> None:
        """Delete the endpoint and end every process; the home stays."""
        try:
            self._moor("online-endpoint", "delete", "-n", ENDPOINT, "--yes")
            self._moor("workspace", "stop")
        finally:
            self.tree.end()

    def _moor(self, *argv: str, on: list[int] | None = None) -> str:
        command = [str(MOOR), *argv]
        done = subprocess.run(
            pinned(command, on) if on else command,
            env=self._env,
            cwd=self._files,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"moor {' '.join(argv)}: {(done.stdout + done.stderr).strip()[-400:]}")
        return done.stdout


def concurrency(workload: str, clients: int, workers: int) -> int:
    """`max_concurrent_requests_per_instance` that suits: the gateway lets twice as many in, so half the clients
    (one more, because a closed loop sends the next request at once); all of them where they are to run together."""
    if workload in ("wait", "matmul-batch"):
        return max(clients, workers)
    return max(1 if clients == 1 else clients // 2 + 1, workers)
