"""Break things under load and say what it cost:

    python tests/faults/run.py [--long] [--only PART] [--rate N] [--write]

Every fault prints failed / total and the 95 % bound of the share that fails. `--write` keeps what was seen in
`tests/faults/results.json` and makes `docs/reliability.md` from it; do it on a machine that has nothing else to do. It takes
the right to mount: the workspace lives on a small file system of its own, which is filled and made read-only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "failures"))
sys.path.insert(0, str(Path(__file__).parent))

from clock import clock_jump
from corpus_site import workspace_with
from disk import Disk
from scenarios import LONG, SCENARIOS, SHORT, Size
from scene import ROOT, Outcome, Scene

RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "reliability.md"
DISK_MB = 1000
RATE_PER_S = 100.0
HEAD = """\
# Reliability: what faults cost

Written by `make faults` from `tests/faults/results.json`; do not edit it. Load comes at a fixed rate whatever the answers
do, from a client that tries nothing again; a request's time counts from when it was due. *Failed* is every request that was
not answered 200. *95 % bound*: the share of failing requests that is not exceeded with 95 % confidence (3 / total where none
failed). Rows that did not hold are shown as they are.
"""


@contextmanager
def scene_with(rate_per_s: float) -> Iterator[Scene]:
    """A live endpoint in a workspace on a disk of its own."""
    with workspace_with({}) as workspace, disk_of(workspace) as disk:
        scene = Scene(workspace, rate_per_s, disk)
        scene.build()
        yield scene


@contextmanager
def disk_of(workspace: Any) -> Iterator[Disk]:
    """A disk for the workspace, which is stopped when it goes."""
    home = Path(workspace.home)
    settings = (home / "settings.json").read_bytes()
    disk = Disk(home.with_name("disk"), home, DISK_MB)
    try:
        (home / "settings.json").write_bytes(settings)
        yield disk
    finally:
        workspace.moor("workspace", "stop", check=False)
        disk.close()


def run(size: Size, only: str, rate_per_s: float) -> Iterator[Outcome]:
    wanted = [each for each in SCENARIOS if only in each.__name__]
    if wanted:
        with scene_with(rate_per_s) as scene:
            for scenario in wanted:
                scene.settled()
                yield scenario(scene, size)
    if only in clock_jump.__name__:
        yield clock_jump(size, rate_per_s)


def page(results: dict[str, Any]) -> str:
    rows = [
        HEAD,
        f"Run: {results['began']}, {results['size']} form, commit {results['commit']}, {results['minutes']} minutes, "
        f"{results['machine']}, {results['rate_per_s']:g} requests/s.\n",
        "| fault | times | failed / total | 95 % bound | promise | held | seen |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in results["outcomes"]:
        notes = ", ".join(
            f"{name.replace('_', ' ')} {_told(value)}"
            for name, value in each["notes"].items()
            if name not in ("samples",)
        )
        rows.append(
            f"| {each['title']} | {each['times']} | {each['failed']:,} / {each['sent']:,} | {each['bound']:.1e} "
            f"| {each['promise']} | {'yes' if each['held'] else '**no**'} | {notes} |"
        )
    return "\n".join(rows) + "\n"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_told(one)}" for name, one in value.items())
    return ", ".join(_told(each) for each in value) if isinstance(value, list) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--long", action="store_true", help="an hour rather than minutes")
    parser.add_argument("--only", default="", help="run faults whose name contains this")
    parser.add_argument("--rate", type=float, default=RATE_PER_S, help="requests a second")
    parser.add_argument(
        "--write", action="store_true", help="keep the results and write the page of the docs"
    )
    options = parser.parse_args()
    size = LONG if options.long else SHORT
    began, started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), time.monotonic()
    outcomes = []
    for outcome in run(size, options.only, options.rate):
        outcomes.append(outcome)
        print(
            f"{'held' if outcome.held else 'BROKEN':<7}{outcome.fault:<17}{outcome.failed:>7,} /{outcome.sent:>8,} failed, "
            f"95 % bound {outcome.bound:.1e}  ({outcome.promise})  {json.dumps(dict(outcome.notes))}",
            flush=True,
        )
    results = {
        "began": began,
        "size": size.name,
        "commit": _commit(),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}",
        "rate_per_s": options.rate,
        "outcomes": [{**asdict(each), "bound": each.bound} for each in outcomes],
    }
    if options.write:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(page(results))
    return 0 if all(each.held for each in outcomes) else 1


def _commit() -> str:
    argv = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
