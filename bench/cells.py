"""One cell: a server of one peer, for one workload, with so many workers, under so many clients."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from bench import client
from bench.client import Target
from bench.peers import ADAPTERS, Peer, Start
from bench.plan import Workload, body, right
from bench.processes import Tree, cpus, memory, others_cpu_s, pinned, wait_until
from bench.workspace import ENDPOINT, Workspace, free_port

START_S = 120
WARM_S = 1
STREAMS = 60


@dataclass(frozen=True)
class Bench:
    """What all cells of a run share."""

    cases: dict[str, list[list[Any]]]
    pythons: dict[str, Path]
    """Environment name -> its interpreter."""
    workspaces: dict[str, Workspace]
    """Peer name -> the workspace it lives in, for those that are Moorings as a whole."""
    scratch: Path
    seconds: float
    cpus: list[int]
    """Those that servers and clients may use."""


class StartError(RuntimeError):
    """The server did not give a right answer in time; the message holds the end of its log."""


class Server:
    """A running server of `peer`; `start_s` is the time from its start to its first right answer."""

    def __init__(
        self, bench: Bench, peer: Peer, workload: Workload, workers: int, clients: tuple[int, ...]
    ) -> None:
        self._bench, self._peer, self._workload, self._workers = bench, peer, workload, workers
        self._on, self._client_on = cpus(bench.cpus, workers)
        self._scratch = Path(tempfile.mkdtemp(dir=bench.scratch))
        self._log: IO[bytes] | None = None
        name = "echo" if workload.streamed else workload.name
        self._cases = bench.cases[name]
        self._warmed: set[int] = set()
        self._clients = clients[0] if peer.launch is None else max(clients)
        began = time.monotonic()
        try:
            self.target, self.tree = self._begin_whole() if peer.launch is None else self._begin()
            began = self._began or began
            self._await_answer()
        except BaseException:
            self.end()
            raise
        self.start_s = round(time.monotonic() - began, 2)

    # --- life -----------------------------------------------------------------------------------------------

    def _begin_whole(self) -> tuple[Target, Tree]:
        workspace = self._bench.workspaces[self._peer.name]
        self.tree = workspace.tree
        workspace.up(self._on)
        self._began = time.monotonic()
        self._deployed = self._clients
        workspace.deploy(self._workload.name, self._workers, self._clients, self._peer.script)
        path = f"/api/v1/endpoint/{ENDPOINT}/score"
        return Target(workspace.port, path, self._peer.protocol, workspace.key()), workspace.tree

    def _begin(self) -> tuple[Target, Tree]:
        assert self._peer.launch is not None
        port, mark = free_port(), f"BENCH_SERVER={self._scratch.name}"
        python = self._bench.pythons[self._peer.venv]
        start = Start(self._workload.name, self._workers, port, python, self._scratch, self._clients)
        launch = self._peer.launch(start)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MOORINGS_", "PYTHON"))}
        env.update(
            BENCH_WORKLOAD=self._workload.name,
            BENCH_WORKERS=str(self._workers),
            BENCH_SERVER=self._scratch.name,
            OPENBLAS_NUM_THREADS="1",
            OMP_NUM_THREADS="1",
            PYTHONPATH=str(ADAPTERS),
            PATH=f"{python.parent}:{env.get('PATH', '')}",
            **launch.env,
        )
        self._log = (self._scratch / "log").open("wb")
        for argv in launch.before:
            subprocess.run(argv, env=env, cwd=ADAPTERS, stdout=self._log, stderr=self._log, timeout=START_S)
        self._began = time.monotonic()
        root = subprocess.Popen(
            pinned(launch.argv, self._on),
            env=env,
            cwd=ADAPTERS,
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        self.tree = Tree(root, mark)
        path = self._peer.stream_path if self._workload.streamed else ""
        self._root = root
        return Target(port, path or self._peer.protocol.path, self._peer.protocol), self.tree

    _began: float | None = None
    _root: subprocess.Popen[bytes] | None = None
    _deployed: int = 0

    def _await_answer(self) -> None:
        case, said = self._cases[0], "nothing"
        sent = body(self.target.protocol, self._workload, case[0])
        for _ in wait_until(START_S):
            status, answer = client.ask(self.target, sent)
            if status == 200 and (
                self._workload.streamed or right(self.target.protocol, self._workload, answer, case[1])
            ):
                return
            said = f"{status}: {answer[:200]!r}"
            if self._root is not None and self._root.poll() is not None:
                break
        log = self._scratch / "log"
        tail = log.read_text(errors="replace")[-600:] if log.exists() else ""
        raise StartError(f"no right answer from {self._peer.name} ({said}); its log ends: {tail}")

    def end(self) -> None:
        if self._peer.launch is None:
            self._bench.workspaces[self._peer.name].down()
        elif hasattr(self, "tree"):
            self.tree.end()
        if self._log is not None:
            self._log.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    # --- measuring ------------------------------------------------------------------------------------------

    def measure(self, clients: int) -> dict[str, Any]:
        """One cell; the keys are those of the results file."""
        self._prepare(clients)
        if self._workload.streamed:
            sent = body(self.target.protocol, self._workload, self._cases[0][0])
            client.first_bytes(self.target, sent, 3)
            return self._weighed(lambda: client.first_bytes(self.target, sent, STREAMS))
        checked = (self.target, self._workload, self._cases[: 64 if clients > 1 else 8], min(clients, 16))
        wrong, sample = client.check(*checked)
        sent = body(self.target.protocol, self._workload, self._cases[-1][0])
        run = (self.target, sent, clients)
        if clients not in self._warmed:
            client.load(*run, WARM_S, self._client_on, self._scratch)
            self._warmed.add(clients)
        found = self._weighed(lambda: client.load(*run, self._bench.seconds, self._client_on, self._scratch))
        again, second = client.check(*checked)
        return {**found, "wrong": wrong + again, "wrong_sample": sample or second}

    def _prepare(self, clients: int) -> None:
        if self._peer.launch is None and self._deployed != clients:
            workspace = self._bench.workspaces[self._peer.name]
            workspace.deploy(self._workload.name, self._workers, clients, self._peer.script)
            self._deployed = clients
            self._warmed.discard(clients)
            self._await_answer()

    def _weighed(self, work: Any) -> dict[str, Any]:
        """What `work` found, with the CPU and memory of the server's processes and the noise of the machine."""
        mine = psutil.Process()
        with memory(self.tree) as peak:
            began, busy = time.monotonic(), others_cpu_s(0)
            before, own_before = self.tree.cpu_s(), _spent(mine)
            found = work()
            cpu = self.tree.cpu_s() - before
            children = _spent(mine) - own_before
            spent = time.monotonic() - began
            noise = others_cpu_s(cpu + children) - busy
        requests = max(1, found["requests"])
        found.setdefault("seconds", spent)
        with contextlib.suppress(psutil.Error):
            found["pss_mb"] = round(self.tree.pss_mb(), 1)
        return {
            **found,
            "requests_per_s": found["requests"] / found["seconds"],
            "cpu_s_per_1000": cpu / requests * 1000,
            "rss_peak_mb": round(peak.rss_mb, 1),
            "noise_cpus": round(max(0.0, noise) / spent, 2),
        }


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
