"""What the change of a deployment's status tells, as lines for its log. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moorings.observe.journal import Told
from moorings.observe.phases import BOOT, BUILD, PLAN, PROBE, SERVE

_PHASE_OF = {"accept": PLAN, "assets": PLAN, "environment": BUILD, "instances": BOOT, "gateway": SERVE}
_QUIET = frozenset({"waiting"})


def told(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Told]:
    """`before` and `after` are two stored statuses (`controller/status.py`); equal ones tell nothing."""
    return [*_instances(before, after), *_phases(before, after), *_failure(before, after)]


def _phases(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Told]:
    anew = after.get("generation") != before.get("generation")
    known = {} if anew else {phase["name"]: phase for phase in before.get("phases", ())}
    for phase in after.get("phases", ()):
        name, status, message = phase["name"], phase["status"], phase["message"]
        old = known.get(name, {})
        if (
            status in _QUIET
            or name == "accept"
            or (status, message) == (old.get("status"), old.get("message"))
        ):
            continue
        if status == "running" == old.get("status") and name == "environment":
            continue  # the lines of the build itself are there
        yield Told(_PHASE_OF.get(name, PLAN), f"{name}: {status}{f', {message}' if message else ''}")


def _instances(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Told]:
    old = {instance["id"]: instance for instance in before.get("instances", ())}
    new = {instance["id"]: instance for instance in after.get("instances", ())}
    for id_, now in new.items():
        was = old.get(id_)
        if was is None:
            yield Told(BOOT, f"instance {id_} is {now['phase']}", id_)
            was = {"phase": now["phase"], "ready": False, "restarts": 0}
        if now["restarts"] > was["restarts"]:
            yield Told(BOOT, f"a worker was started again (restarts: {now['restarts']})", id_)
        if now["phase"] != was["phase"]:
            yield Told(SERVE if was["ready"] else BOOT, f"{was['phase']} -> {now['phase']}", id_)
        if now["ready"] != was["ready"]:
            said = (
                "the readiness probe succeeds"
                if now["ready"]
                else "the readiness probe does not succeed any more"
            )
            yield Told(PROBE, said, id_)
    for id_ in old:
        if id_ not in new:
            yield Told(SERVE, "the instance has ended", id_)


def _failure(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Told]:
    found = after.get("gave_up")
    if not found or found == before.get("gave_up"):
        return
    failed = found["failure"]
    phase = next((p["name"] for p in after.get("phases", ()) if p["status"] == "failed"), "accept")
    lines = [f"FAILED {failed.get('code')}: {failed.get('message')}"]
    lines += [f"  {line}" for line in failed.get("evidence") or ()]
    if failed.get("fix"):
        lines.append(f"Fix: {failed['fix']}")
    yield Told(_PHASE_OF.get(phase, PLAN), "\n".join(lines))
