"""The storage-initializer step of an instance: lays out code (a copy) and model (hard links) and says so in
its log.

Usage: python -m moorings.assets.initializer PLAN.json
The plan: {"store": folder, "code": {"digest", "target"} | null, "model": {"digest", "target"} | null}.
Exit 0: everything is in place. Exit 4: it is not; the last line of output is `ERROR <Code>: <message>`.
Running it again is harmless: what is complete stays. It must not know the engine that starts it.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moorings.assets.objects import Objects, human_size
from moorings.assets.tree import Tree, shown
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic

EXIT_FAILED = 4
MOST_LISTED = 50
"""Files named in the log per step."""


@dataclass(frozen=True)
class Step:
    label: str
    digest: str
    target: Path
    link: bool


@dataclass(frozen=True)
class Plan:
    store: Path
    steps: tuple[Step, ...]

    @staticmethod
    def read(path: Path) -> Plan:
        """Raises `InternalServerError`: whoever wrote the plan is a part of Moorings."""
        try:
            data: dict[str, Any] = json.loads(path.read_bytes())
            steps = [
                Step(label, str(data[label]["digest"]), Path(data[label]["target"]), link)
                for label, link in (("code", False), ("model", True))
                if data.get(label) is not None
            ]
            return Plan(Path(data["store"]), tuple(steps))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
            raise error("InternalServerError", f"the plan {path} cannot be used: {problem!r}") from None


def run(plan: Plan) -> None:
    """Lay out everything. Raises `ArtifactsUnavailable`, `ArtifactsNoSpace` (the machine's fault)."""
    store = Objects(plan.store)
    began = time.perf_counter()
    for step in plan.steps:
        _lay_out(store, step)
    _say(f"done in {time.perf_counter() - began:.2f} s")


def main(argv: Sequence[str]) -> int:
    if len(argv) != 1:
        _say("usage: python -m moorings.assets.initializer PLAN.json")
        return 2
    try:
        run(Plan.read(Path(argv[0])))
    except MooringsError as problem:
        for line in problem.failure.evidence:
            _say(f"  {line}")
        _say(f"ERROR {problem.failure.code}: {_one_line(problem.failure.message)}")
        return EXIT_FAILED
    except Exception as problem:  # noqa: BLE001 - process boundary: the log must end with a coded line
        _say(traceback.format_exc())
        _say(f"ERROR InternalServerError: {_one_line(repr(problem))}")
        return EXIT_FAILED
    return 0


def _lay_out(store: Objects, step: Step) -> None:
    try:
        _lay_out_tree(store, step)
    except MooringsError as problem:  # which of the two it is decides what brings it back
        failed = problem.failure
        raise MooringsError(replace(failed, message=f"{step.label}: {failed.message}")) from None


def _lay_out_tree(store: Objects, step: Step) -> None:
    began = time.perf_counter()
    # Beside the target, so that nothing of ours is among the user's files.
    marker = step.target.parent / f".{step.target.name}.digest"
    tree = store.tree(step.digest)
    if _marked(marker) == step.digest and store.holds(tree, step.target):
        _say(f"{step.label}: in place already at {step.target} ({_amount(tree)})")
        return
    try:
        marker.unlink(missing_ok=True)
        store.materialise(step.digest, step.target, link=step.link)
        atomic.write(marker, step.digest.encode())
    except OSError as problem:
        message = f"cannot be laid out at {step.target}: {problem.strerror}"
        raise error("ArtifactsUnavailable", message, target=str(step.target)) from None
    took_s = time.perf_counter() - began
    _say(f"{step.label}: {_amount(tree)} at {step.target} in {took_s:.2f} s")
    for entry in tree.files[:MOST_LISTED]:
        _say(f"  {shown(entry.path)}  {human_size(entry.size_bytes)}")
    if len(tree.files) > MOST_LISTED:
        _say(f"  ... and {len(tree.files) - MOST_LISTED} more")
    if not tree.files:
        _say("  (no files)")


def _marked(marker: Path) -> str | None:
    try:
        return marker.read_text()
    except (OSError, ValueError):
        return None


def _amount(tree: Tree) -> str:
    count = len(tree.files)
    return f"{count} file{'' if count == 1 else 's'}, {human_size(tree.size_bytes)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _say(text: str) -> None:
    sys.stdout.write(text.encode(errors="backslashreplace").decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
