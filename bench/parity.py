"""`python -m bench.parity`: the ratios that must not fall, measured in one short run beside FastAPI + uvicorn.

CPU seconds per request are compared, not requests a second: they hardly move with what else the machine does. A floor
is well below what a quiet machine gives, so that only a real loss meets it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench import report
from bench.report import Found

PEER = "fastapi"
CLIENTS = 16


@dataclass(frozen=True)
class Floor:
    """FastAPI's CPU seconds per request must be at least `times` those of `ours`."""

    ours: str
    workload: str
    times: float


FLOORS = (
    Floor("worker", "echo", 9.0),
    Floor("moorings", "echo", 1.9),
    Floor("worker", "sklearn-1", 2.4),
    Floor("moorings", "sklearn-1", 1.35),
)


def measured(floor: Floor, found: dict[report.Key, Found]) -> float:
    """Median over the rounds of FastAPI's CPU to ours. Raises LookupError where there is no such cell."""
    ours = found[floor.workload, 1, CLIENTS, floor.ours]
    times = report.ratio(found[floor.workload, 1, CLIENTS, PEER], ours, "cpu_s_per_1000")
    if times is None:
        raise LookupError(f"no round has both {floor.ours} and {PEER}")
    return times


def run(rounds: int, seconds: int, out: Path) -> None:
    """Measure into `out`. Raises CalledProcessError."""
    peers = ",".join(sorted({floor.ours for floor in FLOORS} | {PEER}))
    workloads = ",".join(sorted({floor.workload for floor in FLOORS}))
    argv = [sys.executable, "-m", "bench", "--peers", peers, "--workloads", workloads, "--workers", "1"]
    argv += ["--clients", str(CLIENTS), "--rounds", str(rounds), "--seconds", str(seconds), "--keep"]
    subprocess.run([*argv, "--no-page", "--out", str(out)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.parity", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moor-parity-") as folder:
        out = Path(folder) / "results.json"
        run(options.rounds, options.seconds, out)
        results = json.loads(out.read_text())
    for failure in results["failures"]:
        print(f"failed: {failure}")
    found = report.grouped(results)
    bad = sum(cell.total("wrong", "non_2xx", "socket_errors", "timeouts") for cell in found.values())
    below = 0
    for floor in FLOORS:
        times = measured(floor, found)
        below += times < floor.times
        verdict = "BELOW THE FLOOR" if times < floor.times else "ok"
        print(
            f"{floor.workload:<10} {floor.ours:<9} {times:6.2f}x less CPU than {PEER}, floor {floor.times:g}: {verdict}"
        )
    print(f"{bad} bad answers")
    return 1 if below or bad or results["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
