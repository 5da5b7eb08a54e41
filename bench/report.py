"""From the results of a run to the page `docs/performance.md`: medians, spread, ratios, losing rows, how to repeat.

Pure: results in, text out.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from bench.peers import PEERS
from bench.plan import WORKLOADS

BASE = "azureml"
WHOLE = "moorings"
WORKER = "worker"
OURS = ("moorings", "moorings-async", "moorings-orjson", "worker")

Key = tuple[str, int, int, str]
"""workload, workers, clients, peer"""


class Found:
    """The cells of one (workload, workers, clients, peer): one per round."""

    def __init__(self, cells: list[dict[str, Any]]) -> None:
        self.cells = cells
        self.rounds = {cell["round"]: cell for cell in cells}

    def median(self, name: str) -> float | None:
        values = [cell[name] for cell in self.cells if cell.get(name) is not None]
        return statistics.median(values) if values else None

    def span(self, name: str) -> tuple[float, float]:
        values = [cell[name] for cell in self.cells]
        return min(values), max(values)

    def total(self, *names: str) -> int:
        return sum(int(cell.get(name) or 0) for cell in self.cells for name in names)

    @property
    def bad_share(self) -> float:
        asked = self.total("requests") or 1
        return self.total("wrong", "non_2xx", "socket_errors", "timeouts") / asked


def grouped(results: dict[str, Any]) -> dict[Key, Found]:
    cells: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for cell in results["cells"]:
        cells[cell["workload"], cell["workers"], cell["clients"], cell["peer"]].append(cell)
    return {key: Found(value) for key, value in cells.items()}


def ratio(one: Found, other: Found | None, name: str = "requests_per_s") -> float | None:
    """The median over rounds of one's figure to the other's of the same round."""
    if other is None:
        return None
    both = [number for number in one.rounds if number in other.rounds and other.rounds[number][name]]
    values = [one.rounds[number][name] / other.rounds[number][name] for number in both]
    return statistics.median(values) if values else None


def page(results: dict[str, Any]) -> str:
    found = grouped(results)
    parts = [_head(results), _losing(results, found)]
    for name, workload in WORKLOADS.items():
        for workers in sorted({key[1] for key in found if key[0] == name}):
            parts.append(f"## {workload.title}, {workers} worker{'s' if workers > 1 else ''}\n")
            if workload.streamed:
                parts.append(_streams(found, name, workers))
            else:
                parts += [
                    _table(results, found, name, workers, clients)
                    for clients in sorted({key[2] for key in found if key[:2] == (name, workers)})
                ]
            parts.append(_absent(results, name, workers))
    parts.append(_added(found))
    parts.append(_starts(results, found))
    return "\n".join(part for part in parts if part)


def _command(options: dict[str, Any]) -> str:
    argv = ["python -m bench"]
    argv += [f"--{name} {options[name]}" for name in ("peers", "workloads") if options[name]]
    argv += [f"--{name} {options[name]}" for name in ("rounds", "seconds", "clients", "workers", "seed")]
    argv += ["--keep"] if options["keep"] else []
    argv += ["--add"] if options.get("add") else []
    return " ".join(argv)


def _head(results: dict[str, Any]) -> str:
    runs = results["runs"]
    about = runs[-1]
    versions = sorted(
        {
            f"{name} {version}"
            for peer in results["peers"].values()
            for name, version in peer["versions"].items()
        }
    )
    commands = "\n".join(
        f"- `{_command(run['options'])}`: {run['began']}, commit {run['commit']}, {run['minutes']} minutes, load average "
        f"before it {run['load_average']:.1f}"
        for run in runs
    )
    return f"""# Performance beside peers

Made by `python -m bench` from `bench/results.json`; do not edit. How to repeat: `make bench`, or exactly these cells
(nothing else should run):

{commands}

Machine: {about["cpus"]} x {about["cpu"]}, {about["memory_gb"]} GB, Linux {about["kernel"]}, Python {about["python"]},
{about["wrk"]}. Versions: {", ".join(versions)}.

- Every server runs the same model functions (`bench/adapters/model.py`) in an environment of its own, with one
  BLAS thread, its usual logs on. "Whole gateway" is all of Moorings: Envoy with authentication, limits, access log
  and metrics, the worker behind it, and the daemon.
- One worker: all processes of the server are held on one CPU and the client is on another, so requests/s are those of
  **one core**, gateway included. With more workers than the machine can keep apart, server and client share
  its CPUs.
- Every cell is measured after a warm-up; in each round the servers come in a new order. Figures are medians over
  rounds, [lowest-highest] beside them (one figure: one round); `x` is the ratio to the azureml server in the same round.
- With `--keep` every server of a workload stays up through all rounds, so that what idle ones do in the background
  (Ray's actors most of all) runs on the same CPU as the one that is measured; without it each is alone.
- wrk keeps a fixed number of connections busy (closed loop). Above some 100,000 requests/s it is itself full. Latency
  at a fixed rate is not measured here; loopback, no TLS.
- Before and after each cell different inputs are sent at once and every answer compared with the right one. `bad`:
  wrong answers, answers other than 2xx, connections that broke, time-outs.
- CPU and memory are those of all processes of the server. `RSS`: highest sum seen (pages that processes share
  count in each); `PSS`: shared pages counted once, at the end. `noise`: CPUs that anything else used, in the worst round.
"""


def _losing(results: dict[str, Any], found: dict[Key, Found]) -> str:
    rows = []
    for (workload, workers, clients, peer), cell in sorted(found.items()):
        if peer in OURS or WORKLOADS[workload].streamed:
            continue
        for ours in (WHOLE, WORKER):
            mine = found.get((workload, workers, clients, ours))
            behind = ratio(mine, cell) if mine else None
            slower = ratio(mine, cell, "p99_ms") if mine else None
            if behind is not None and (behind < 1 or (slower is not None and slower > 1)):
                said = f"{behind:.2f}x its requests/s" + (f", {slower:.2f}x its p99" if slower else "")
                mark = "**fewer requests/s**" if behind < 1 else "worse p99 only"
                rows.append(
                    f"| {WORKLOADS[workload].title} | {workers} | {clients} | {PEERS[ours].title} "
                    f"| {PEERS[peer].title} | {said} | {mark} |"
                )
    if not rows:
        return "## Where Moorings is behind\n\nIn no row of this run.\n"
    head = (
        "| workload | workers | clients | ours | peer | ours to the peer | |\n|---|---|---|---|---|---|---|\n"
    )
    return "## Where Moorings is behind\n\n" + head + "\n".join(rows) + "\n"


def _order(peers: list[str]) -> list[str]:
    return [name for name in PEERS if name in peers]


def _table(results: dict[str, Any], found: dict[Key, Found], name: str, workers: int, clients: int) -> str:
    rows = [
        f"**{clients} client{'s' if clients > 1 else ''}**\n",
        "| server | requests/s | x | p50 ms | p99 ms | CPU s per 1,000 | RSS MB | PSS MB | bad | noise |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    base = found.get((name, workers, clients, BASE))
    for peer in _order([key[3] for key in found if key[:3] == (name, workers, clients)]):
        cell = found[name, workers, clients, peer]
        low, high = cell.span("requests_per_s")
        times = ratio(cell, base)
        bad = cell.total("wrong", "non_2xx", "socket_errors", "timeouts")
        rows.append(
            f"| {PEERS[peer].title} | {_number(cell.median('requests_per_s'))} [{_number(low)}-{_number(high)}] "
            f"| {_ratio(times)} | {_small(cell.median('p50_ms'))} | {_small(cell.median('p99_ms'))} "
            f"| {_small(cell.median('cpu_s_per_1000'))} | {_number(cell.median('rss_peak_mb'))} "
            f"| {_number(cell.median('pss_mb'))} | {bad} | {cell.span('noise_cpus')[1]:.1f} |"
        )
    return "\n".join(rows) + "\n"


def _streams(found: dict[Key, Found], name: str, workers: int) -> str:
    rows = [
        "| server | first yield to first byte, ms | its p99 | request to first byte, ms | bad |",
        "|---|---|---|---|---|",
    ]
    for peer in _order([key[3] for key in found if key[:2] == (name, workers)]):
        cell = found[name, workers, 1, peer]
        rows.append(
            f"| {PEERS[peer].title} | {_small(cell.median('first_byte_ms'))} | {_small(cell.median('first_byte_p99_ms'))} "
            f"| {_small(cell.median('request_to_first_byte_ms'))} | {cell.total('wrong')} |"
        )
    return "\n".join(rows) + "\n"


def _absent(results: dict[str, Any], name: str, workers: int) -> str:
    """Every server that has no row, or fewer rounds than asked for, and why."""
    lines = []
    for about in results["peers"].values():
        if about["problem"]:
            lines.append(f"- {about['title']}: {about['problem']}")
        elif name in about["missing"]:
            lines.append(f"- {about['title']}: not run, {about['missing'][name]}.")
    for failure in results["failures"]:
        if (failure["workload"], failure["workers"]) == (name, workers):
            title = results["peers"][failure["peer"]]["title"]
            reason = " ".join(failure["reason"].replace("`", "'").split())
            lines.append(f"- {title}: **failed** in round {failure['round']}: `{reason[:300]}`")
    return "No figures:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _added(found: dict[Key, Found]) -> str:
    """What Envoy and the agent add to a request: the whole beside the worker alone, in the same rounds, where one
    client keeps the gateway about as busy as the last column says."""
    rows = []
    for name in WORKLOADS:
        whole, alone = found.get((name, 1, 1, WHOLE)), found.get((name, 1, 1, WORKER))
        peak = max(
            (cell.median("requests_per_s") or 0 for key, cell in found.items() if key[0::3] == (name, WHOLE)),
            default=0.0,
        )
        if whole is None or alone is None or WORKLOADS[name].streamed or not peak:
            continue
        more = [_added_ms(whole, alone, each) for each in ("p50_ms", "p99_ms")]
        load = (whole.median("requests_per_s") or 0) / peak
        rows.append(f"| {WORKLOADS[name].title} | {_small(more[0])} | {_small(more[1])} | {load:.0%} |")
    if not rows:
        return ""
    head = "| workload | p50, ms more | p99, ms more | of the gateway's peak |\n|---|---|---|---|\n"
    intro = "## What the gateway adds\n\nOne client, one worker: the whole less the worker alone in the same round.\n\n"
    return intro + head + "\n".join(rows) + "\n"


def _added_ms(whole: Found, alone: Found, name: str) -> float | None:
    both = [number for number in whole.rounds if number in alone.rounds]
    values = [whole.rounds[number][name] - alone.rounds[number][name] for number in both]
    return statistics.median(values) if values else None


def _starts(results: dict[str, Any], found: dict[Key, Found]) -> str:
    rows = [
        "## From start to first right answer\n",
        "From starting the server's command (for the whole gateway: `moor online-deployment create`, the workspace",
        "and the environment being there) to the first right answer. One worker, all workloads of the run.\n",
        "| server | seconds, median | lowest-highest |",
        "|---|---|---|",
    ]
    for peer in _order([key[3] for key in found]):
        starts = [
            cell["start_s"]
            for key, value in found.items()
            for cell in value.cells
            if key[3] == peer and key[1] == 1
        ]
        if starts:
            rows.append(
                f"| {PEERS[peer].title} | {statistics.median(starts):.1f} | {min(starts):.1f}-{max(starts):.1f} |"
            )
    return "\n".join(rows) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
