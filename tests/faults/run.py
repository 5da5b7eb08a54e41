"""Break things under load and say what it cost:

    python tests/faults/run.py [--long] [--only NAMES] [--rate N] [--write]

Every fault prints failed / total and the 95 % bound of the share that fails. `--write` puts what was seen into
`tests/faults/results.json`, fault by fault, and makes `docs/reliability.md` from all that is there; do it on a machine that
has nothing else to do. It takes the right to mount: the workspace lives on a small file system of its own, which is filled
and made read-only. `--list` names the faults.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "failures"))
sys.path.insert(0, str(Path(__file__).parent))

import capacity
import healing
import lapsing
import many
import rows
import scenarios
from clock import clock_jump
from corpus_site import borrowed, workspace_with
from disk import Disk
from scenarios import LONG, SHORT, Size
from scene import ROOT, Outcome, Scene

groups = borrowed("groups.py", "moorings_groups")
RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "reliability.md"
DISK_MB = 1000
RATE_PER_S = 100.0

ON_THE_SCENE: tuple[Callable[[Scene, Size], Outcome], ...] = (
    scenarios.rolling_update,
    scenarios.failed_update,
    scenarios.traffic_shift,
    scenarios.kill_worker,
    scenarios.kill_supervisor,
    scenarios.kill_instance,
    scenarios.kill_daemon,
    scenarios.daemon_away,
    scenarios.kill_agent,
    scenarios.kill_envoy,
    healing.sick_workers,
    lapsing.later_starts,
    scenarios.rotate_keys,
    scenarios.few_files,
    scenarios.slow_clients,
    scenarios.leaving_clients,
    scenarios.noisy_neighbour,
    capacity.overload,
    scenarios.full_disk,
    scenarios.failed_disk,
)
"""One workspace for all of them."""
BY_THEMSELVES: tuple[Callable[[Size, float], Outcome], ...] = (clock_jump, many.idle_endpoints, capacity.soak)
"""Each has a workspace of its own."""
NAMES = tuple(each.__name__ for each in (*ON_THE_SCENE, *BY_THEMSELVES))


@contextmanager
def scene_with(rate_per_s: float) -> Iterator[Scene]:
    """A live endpoint in a workspace on a disk of its own."""
    with (
        groups.memory_group() as group,
        workspace_with(groups.below(group)) as workspace,
        disk_of(workspace) as disk,
    ):
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


def run(size: Size, names: Sequence[str], rate_per_s: float) -> Iterator[Outcome]:
    """One after the other; one that cannot be carried through is a line that did not hold."""
    wanted = [each for each in ON_THE_SCENE if each.__name__ in names]
    if wanted:
        with scene_with(rate_per_s) as scene:
            for scenario in wanted:
                yield _tried(scenario, partial(_settled, scenario, scene, size))
    for alone in BY_THEMSELVES:
        if alone.__name__ in names:
            yield _tried(alone, partial(alone, size, rate_per_s))


def _settled(scenario: Callable[[Scene, Size], Outcome], scene: Scene, size: Size) -> Outcome:
    scene.settled()
    return scenario(scene, size)


def _tried(scenario: Callable[..., Outcome], do: Callable[[], Outcome]) -> Outcome:
    try:
        return do()
    except Exception as problem:
        traceback.print_exc()
        fault = scenario.__name__.replace("_", "-")
        why = f"{type(problem).__name__}: {problem}".splitlines()[0][:200]
        return Outcome(fault, fault, 0, 0, 0, "it can be carried through", held=False, notes={"ended": why})


def chosen(only: str) -> list[str]:
    """Names of faults, separated by commas; a part of a name means all that have it. Raises SystemExit."""
    parts = [part.strip().replace("-", "_") for part in only.split(",")]
    unknown = [part for part in parts if not any(part in name for name in NAMES)]
    if unknown:
        raise SystemExit(f"no such fault: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return [
        name for name in NAMES if any(part == name or (part in name and part not in NAMES) for part in parts)
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--long", action="store_true", help="hours rather than minutes")
    parser.add_argument("--only", default="", help="faults, separated by commas, or parts of their names")
    parser.add_argument("--rate", type=float, default=RATE_PER_S, help="requests a second")
    parser.add_argument("--size", default="", help="other sizes, as `soak_s=180,deploy_every_s=45`")
    parser.add_argument("--list", action="store_true", help="name the faults and the sizes, run nothing")
    parser.add_argument("--page", action="store_true", help="make the page from what is kept, run nothing")
    parser.add_argument(
        "--write", action="store_true", help="keep the results and write the page of the docs"
    )
    return parser.parse_args()


def sized(size: Size, text: str) -> Size:
    """With some of its values as they are given here, and named so."""
    if not text:
        return size
    pairs = dict(pair.split("=", 1) for pair in text.split(","))
    given = {name: type(getattr(size, name))(value) for name, value in pairs.items()}
    return replace(size, **given, name=f"{size.name} with {text}")


def main() -> int:
    options = _options()
    size = sized(LONG if options.long else SHORT, options.size)
    if options.list:
        print(*NAMES, size, sep="\n")
        return 0
    if options.page:
        PAGE.write_text(rows.page(rows.read(RESULTS)))
        return 0
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    commit, all_held, since = _commit(), True, time.monotonic()
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for outcome in run(size, chosen(options.only), options.rate):
        minutes = (time.monotonic() - since) / 60
        print(
            f"{'held' if outcome.held else 'BROKEN':<7}{outcome.fault:<17}{outcome.failed:>7,} /{outcome.sent:>8,} failed, "
            f"95 % bound {outcome.bound:.1e}  ({outcome.promise})  {minutes:.1f} min  {json.dumps(dict(outcome.notes))}",
            flush=True,
        )
        all_held &= outcome.held
        if options.write:
            kept = rows.row(outcome, rows.Run(size.name, began, commit, machine), minutes)
            PAGE.write_text(rows.page(rows.keep(RESULTS, kept)))
        since = time.monotonic()
    return 0 if all_held else 1


def _commit() -> str:
    """What was run; what this command itself writes makes it no other."""

    def git(*argv: str) -> str:
        return subprocess.run(
            ["git", *argv], capture_output=True, text=True, cwd=ROOT, check=False
        ).stdout.strip()

    written = [f":!{path.relative_to(ROOT)}" for path in (RESULTS, PAGE)]
    changed = git("status", "--porcelain", "--", ".", *written)
    return git("describe", "--always") + ("-dirty" if changed else "")


if __name__ == "__main__":
    sys.exit(main())
