"""`python -m bench`: Moorings beside its peers, same model, same client, interleaved rounds; medians into a results
file and from it into docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench import client, report, venvs
from bench.cells import Bench, Server
from bench.peers import PEERS, ROOT, Peer
from bench.plan import WORKLOADS, Workload
from bench.processes import all_cpus, cpus
from bench.workspace import Workspace

RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "performance.md"
QUICK = {"rounds": 1, "seconds": 1.0, "clients": "16", "workers": "1"}
FULL = {"rounds": 3, "seconds": 3.0, "clients": "1,16,64", "workers": "1,2"}
REFERENCES = ("moorings", "worker")


@dataclass
class Run:
    """The cells measured so far, and what could not be."""

    options: argparse.Namespace
    bench: Bench
    peers: list[Peer]
    cells: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def every(self) -> None:
        order = random.Random(self.options.seed)  # noqa: S311 - an order, no secret
        for workers in numbers(self.options.workers):
            for name in names(self.options.workloads, WORKLOADS):
                workload = WORKLOADS[name]
                offered = [peer for peer in self.peers if name not in peer.missing]
                with ExitStack() as kept:
                    servers: dict[str, Server] = {}
                    for round_number in range(1, self.options.rounds + 1):
                        order.shuffle(offered)
                        for peer in offered:
                            self._visit(round_number, workers, workload, peer, servers, kept)

    def clients(self, workload: Workload) -> tuple[int, ...]:
        asked = numbers(self.options.clients)
        return tuple(each for each in workload.clients if each in asked) or workload.clients

    def _visit(
        self,
        round_number: int,
        workers: int,
        workload: Workload,
        peer: Peer,
        servers: dict[str, Server],
        kept: ExitStack,
    ) -> None:
        about = {"peer": peer.name, "workload": workload.name, "workers": workers, "round": round_number}
        server = None
        try:
            server = servers.get(peer.name)
            if server is None:
                server = Server(self.bench, peer, workload, workers, self.clients(workload))
            if self.options.keep and peer.name not in servers:
                kept.callback(server.end)
                servers[peer.name] = server
            for clients in self.clients(workload):
                cell = {**about, "clients": clients, "start_s": server.start_s, **server.measure(clients)}
                self.cells.append(cell)
                note(cell)
        except Exception as problem:  # noqa: BLE001 - one server's failure is a row of the table, not the end
            self.failures.append({**about, "reason": f"{type(problem).__name__}: {problem}"[:900]})
            print(f"  failed: {self.failures[-1]}", file=sys.stderr, flush=True)
        finally:
            if server is not None and peer.name not in servers:
                server.end()


def note(cell: dict[str, Any]) -> None:
    speed = f"{cell['requests_per_s']:>10.0f}/s  {cell['cpu_s_per_1000'] * 1000:8.1f} us CPU"
    first = cell.get("first_byte_ms")
    extra = (
        f"p99 {cell['p99_ms']:.2f} ms" if "p99_ms" in cell else f"first byte {first and round(first, 2)} ms"
    )
    bad = cell["wrong"] + cell.get("non_2xx", 0) + cell.get("socket_errors", 0)
    where = (
        f"{cell['workload']:<13}{cell['workers']}w {cell['clients']:>2}c r{cell['round']} {cell['peer']:<16}"
    )
    sample = f"  BAD {bad} {cell.get('wrong_sample', '')}" if bad else ""
    print(f"{where}{speed}  {extra}{sample}", flush=True)


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",") if each]


def names(text: str, known: dict[str, Any]) -> list[str]:
    """The names of a comma list (or all); ends with a sentence for one that does not exist."""
    asked = [each for each in text.split(",") if each] or list(known)
    for each in asked:
        if each not in known:
            raise SystemExit(f"there is no {each!r}; possible: {', '.join(known)}")
    return asked


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of 1 s, 16 clients, one worker")
    parser.add_argument("--peers", default="", help=f"comma list of: {', '.join(PEERS)}")
    parser.add_argument("--workloads", default="", help=f"comma list of: {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, help=f"default {FULL['rounds']}")
    parser.add_argument("--seconds", type=float, help=f"whole seconds of a cell, default {FULL['seconds']}")
    parser.add_argument("--clients", help=f"comma list, default {FULL['clients']} (a 20 ms wait has 32)")
    parser.add_argument("--workers", help=f"comma list, default {FULL['workers']}")
    parser.add_argument("--seed", type=int, default=1, help="of the order within each round")
    parser.add_argument("--keep", action="store_true", help="start each server once, not once a round")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page made from it")
    parser.add_argument(
        "--add", action="store_true", help="keep what the results file has of cells not measured now"
    )
    parser.add_argument("--no-page", action="store_true")
    parser.add_argument("--page-only", action="store_true", help="make the page from the results file")
    options = parser.parse_args()
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def machine() -> dict[str, Any]:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
        "load_average": os.getloadavg()[0],
    }


def workspaces(
    peers: list[Peer], scratch: Path, versions: dict[str, str], *, build: bool
) -> tuple[dict[str, Workspace], dict[str, str]]:
    """A workspace for each peer that is Moorings as a whole, and why there is none for the others. `build`: their
    environment first, so that no start that is measured has to."""
    made: dict[str, Workspace] = {}
    broken: dict[str, str] = {}
    for peer in peers:
        if peer.launch is None:
            base = scratch / peer.name
            base.mkdir()
            try:
                made[peer.name] = Workspace(base, versions)
                if build:
                    made[peer.name].build()
            except (RuntimeError, subprocess.TimeoutExpired) as problem:
                broken[peer.name] = f"does not start: {problem}"
                print(f"  {peer.name} {broken[peer.name]}", file=sys.stderr, flush=True)
    return made, broken


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The results of two runs: a group of cells (peer, workload, workers, clients) is wholly of the newer run that has
    it, so that ratios compare what was measured in the same rounds."""

    def group(cell: dict[str, Any]) -> tuple[Any, ...]:
        return cell["peer"], cell["workload"], cell["workers"], cell["clients"]

    def visit(each: dict[str, Any]) -> tuple[Any, ...]:
        return each["peer"], each["workload"], each["workers"]

    groups = {group(cell) for cell in new["cells"]}
    visits = {visit(each) for each in [*new["cells"], *new["failures"]]}
    return {
        "runs": [*old["runs"], *new["runs"]],
        "peers": {**old["peers"], **new["peers"]},
        "cells": [*(cell for cell in old["cells"] if group(cell) not in groups), *new["cells"]],
        "failures": [*(f for f in old["failures"] if visit(f) not in visits), *new["failures"]],
    }


def main() -> int:
    options = arguments()
    if options.page_only:
        options.page.write_text(report.page(json.loads(options.out.read_text())))
        return 0
    names(options.workloads, WORKLOADS)
    chosen = [PEERS[name] for name in names(options.peers, PEERS)]
    try:
        wrk = client.need_wrk()
    except client.ClientMissingError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    cache = venvs.cache_folder()
    built: dict[str, venvs.Built] = {}
    for peer in (PEERS["worker"], *chosen):
        if peer.venv not in built:
            print(f"environment {peer.venv}", file=sys.stderr, flush=True)
            built[peer.venv] = venvs.build(peer, cache)
    ours = built[PEERS["worker"].venv]
    if ours.python is None:
        print(f"error: the environment of Moorings itself: {ours.problem}", file=sys.stderr)
        return 1
    usable = [peer for peer in chosen if built[peer.venv].python is not None]
    about = {"began": datetime.now(UTC).isoformat(timespec="seconds"), **machine(), "wrk": wrk}
    scratch = Path(tempfile.mkdtemp(prefix="moor-bench-"))
    began = time.monotonic()
    try:
        whole, broken = workspaces(usable, scratch, ours.versions, build=not options.keep)
        usable = [peer for peer in usable if peer.name not in broken]
        every = all_cpus()
        bench = Bench(
            cases=venvs.answers(ours.python, cache),
            pythons={name: each.python for name, each in built.items() if each.python is not None},
            workspaces=whole,
            scratch=scratch,
            seconds=options.seconds,
            cpus=every,
        )
        _, on = cpus(every, 1)
        psutil.Process().cpu_affinity(on)
        run = Run(options, bench, usable)
        run.every()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    results: dict[str, Any] = {
        "runs": [
            {
                **about,
                "minutes": round((time.monotonic() - began) / 60, 1),
                "options": {k: v for k, v in vars(options).items() if not isinstance(v, Path)},
            }
        ],
        "peers": {
            peer.name: {
                "title": peer.title,
                "versions": built[peer.venv].versions,
                "problem": built[peer.venv].problem or broken.get(peer.name, ""),
                "missing": peer.missing,
            }
            for peer in chosen
        },
        "cells": run.cells,
        "failures": run.failures,
    }
    if options.add and options.out.exists():
        results = merged(json.loads(options.out.read_text()), results)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    if not options.no_page:
        options.page.write_text(report.page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
