"""Run the failure corpus and say how it went:

    python tests/failures/table.py [--only PART] [--engine process|docker|both] [--write]

`--write` writes `docs/reference/failure-corpus.md` from what was seen; do it on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from corpus import Outcome, load, run
from corpus_site import borrowed, workspace_of_containers, workspace_of_processes

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "failure-corpus.md"
HEAD = """\
# The failure corpus: how well failures are named

Written by `python tests/failures/table.py --write` from a run of every case on one machine; do not edit it. Each row is a
deployment in `tests/failures/cases` that truly fails. One of each code runs with the tests, which compare code, evidence, place
and fix; the times are not compared.

*Seconds* is what it takes from the command that deploys it (or from the request that breaks it) to the verdict in the
terminal, several deployments at a time; finding the environment built already, except where building it is what fails.
*Preflight* says whether `moor check` finds it before anything is built ({preflight}).

"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="run cases whose name contains one of these (a,b)")
    parser.add_argument("--engine", choices=("process", "docker", "both"), default="both")
    parser.add_argument("--at-once", type=int, default=5)
    parser.add_argument("--verbose", action="store_true", help="show every verdict, not only the wrong ones")
    parser.add_argument("--write", action="store_true", help="write the page of the docs")
    options = parser.parse_args()
    begun, seen = time.monotonic(), []
    for engine in ("process", "docker") if options.engine == "both" else (options.engine,):
        cases = [c for c in load(engine) if any(part in c.name for part in options.only.split(","))]
        if not cases:
            continue
        with _site(engine) as (workspace, places):
            for outcome in run(workspace, cases, places=places, at_once=options.at_once, preflight=True):
                seen.append(outcome)
                _say(outcome, verbose=options.verbose)
    print(f"{_summary(seen)}; {time.monotonic() - begun:.0f} s in all")
    if options.write:
        PAGE.write_text(_page(seen))
    return 0 if all(o.right for o in seen) else 1


@contextmanager
def _site(engine: str) -> Iterator[tuple[Any, dict[str, str]]]:
    """(workspace, addresses by name); for containers with a Docker Engine of its own."""
    if engine == "process":
        with workspace_of_processes() as site:
            yield site
        return
    tests = borrowed("conftest.py", "moorings_test_docker")
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder) / "base.tar"
        with tarfile.open(tar, "w") as archive:
            tests.fill(archive)
        dockerd = tests.start_dockerd(tar)
    try:
        with workspace_of_containers(dockerd) as site:
            yield site
    finally:
        dockerd.close()


def _summary(seen: Sequence[Outcome]) -> str:
    seconds = [o.seconds for o in seen]
    right = sum(o.right for o in seen)
    return (
        f"{right} of {len(seen)} named right; seconds to the verdict: median {statistics.median(seconds):.1f}, "
        f"worst {max(seconds):.1f}"
    )


def _page(seen: Sequence[Outcome]) -> str:
    checked = [o for o in seen if o.case.preflight and o.preflight is not None]
    found = sum(bool(o.preflight) for o in checked)
    preflight = f"{found} of the {len(checked)} that can be" if checked else "a dash: not measured"
    ranked = sorted(seen, key=lambda o: (o.case.engine != "process", _group(o), o.case.name))
    lines = [HEAD.format(preflight=preflight), f"**{_summary(seen)}.**\n"]
    group = ""
    for o in ranked:
        if _group(o) != group:
            group = _group(o)
            lines += [
                f"\n## {group}\n",
                "| case | what is wrong | code | named right | seconds | preflight |",
                "|---|---|---|---|---|---|",
            ]
        check = {None: "–", True: "yes", False: "no"}[o.preflight] if o.case.preflight else ""
        lines.append(
            f"| `{o.case.name}` | {o.case.title} | `{o.case.code}` | {'yes' if o.right else 'no'} "
            f"| {o.seconds:.1f} | {check} |"
        )
    return "\n".join(lines) + "\n"


def _group(outcome: Outcome) -> str:
    return {
        "scripts": "The script",
        "inits": "Import and init()",
        "models": "The model",
        "ends": "How a start ends",
        "environments": "The environment",
        "requests": "While it serves",
        "access": "Who may what",
        "quota": "Quota, capacity, content",
        "specs": "The file",
        "containers": "Containers",
    }[outcome.case.group]


def _say(outcome: Outcome, *, verbose: bool) -> None:
    mark = "ok  " if outcome.right else "FAIL"
    print(f"{mark} {outcome.seconds:6.2f} s  {outcome.case.name}: {outcome.code}", flush=True)
    for problem in outcome.problems:
        print(f"       {problem}")
    if verbose or not outcome.right:
        shown = outcome.verdict or {"told": outcome.told[-1500:]}
        for key in ("code", "message", "confidence", "target", "fix", "told"):
            if key in shown:
                print(f"       {key}: {shown[key]}")
        for line in shown.get("evidence", []):
            print(f"       | {line}")


if __name__ == "__main__":
    sys.exit(main())
