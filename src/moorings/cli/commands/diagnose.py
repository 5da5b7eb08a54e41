"""`moor diagnose`: what is wrong with a deployment, the proof, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from moorings.cli.commands import flags
from moorings.cli.framework import leaf
from moorings.cli.report import sureness
from moorings.cli.session import Session
from moorings.cli.terminal import clean
from moorings.client.faults import from_body
from moorings.errors.language import label


@leaf(
    "diagnose",
    "Say what is wrong with a deployment: the cause, the lines that prove it, and what to do. It looks at what is "
    "there now, also while a deployment is under way or serves.",
    flags.deployment_name(required=True),
    flags.endpoint_name("--endpoint-name", "-e"),
    flags.local(),
)
def diagnose(session: Session, name: str, endpoint_name: str | None, local: bool) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    found = session.client.diagnose(endpoint, name)
    if session.options.output is not None or session.options.query is not None:
        session.emit(flat(found))
        return
    click.echo(text(found, session.language), nl=False)


def flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """The answer for programs: the verdict's own words beside each other, not in the nesting of the wire."""
    body = found.get("verdict")
    verdict = None
    if isinstance(body, dict):
        problem = from_body(body)
        failed, described = problem.failure, problem.described
        verdict = {
            "code": failed.code,
            "numeric_code": described.numeric if described else None,
            "title": described.title if described else "",
            "cause": described.cause if described else "",
            "message": failed.message,
            "confidence": failed.confidence or "certain",
            "target": failed.target,
            "evidence": list(failed.evidence),
            "fix": failed.fix,
        }
    return {
        "endpoint": found.get("endpoint"),
        "deployment": found.get("deployment"),
        "provisioning_state": found.get("provisioningState"),
        "summary": found.get("summary"),
        "verdict": verdict,
        "waiting_for": found.get("waitingFor"),
        "phases": found.get("phases", []),
        "instances": found.get("instances", []),
    }


def text(found: Mapping[str, Any], language: str) -> str:
    """The answer for people; what the server says of its codes is in that language already."""
    seen = flat(found)
    lines = [f"{seen['endpoint']}/{seen['deployment']}: {seen['provisioning_state']}", ""]
    verdict = seen["verdict"]
    if verdict is None:
        lines += [f"  {seen['summary']}"]
    else:
        numeric = f", {verdict['numeric_code']}" if verdict["numeric_code"] else ""
        lines += [f"  ({verdict['code']}{numeric}) {verdict['message']}", ""]
        lines += [f"  {label('cause', language)} {verdict['cause']}"]
        lines += [f"  {label('confidence', language)} {sureness(verdict['confidence'], language)}"]
        if verdict["target"]:
            lines += [f"  {label('where', language)} {verdict['target']}"]
        if verdict["evidence"]:
            lines += [
                "",
                f"  {label('proof', language)}",
                *(f"    {line}" for e in verdict["evidence"] for line in e.splitlines()),
            ]
        if verdict["fix"]:
            lines += ["", f"  {label('fix_short', language)} {verdict['fix']}"]
    lines += _instances(seen["instances"])
    lines += _phases(seen["phases"])
    return "".join(f"{clean(line)}\n" for line in lines)


def _instances(instances: list[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for one in instances:
        restarts = f", restarted {one['restarts']} times" if one["restarts"] else ""
        ready = "ready" if one["ready"] else "not ready"
        lines.append(f"  {one['id']}: {one['phase']}, {ready}{restarts}")
        lines += [f"    ended: {_end(end)}" for end in one["ends"]]
    return ["", *lines] if lines else []


def _end(end: Mapping[str, Any]) -> str:
    how = f"signal {end['signal']}" if end["signal"] is not None else f"exit code {end['exitCode']}"
    served = (
        "never ready" if end["servedSeconds"] is None else f"after {end['servedSeconds']:.1f} s in service"
    )
    memory = end["memoryPeakBytes"]
    most = f", at most {memory / 2**20:.0f} MiB of memory" if memory else ""
    oom = ", out of memory" if end["outOfMemory"] else ""
    return f"{how}, {served}{most}{oom}"


def _phases(phases: list[Mapping[str, Any]]) -> list[str]:
    begun = [p for p in phases if p["status"] != "waiting"]
    times = [f"{p['name']} {p['seconds']:.1f} s" for p in begun if p["seconds"] is not None]
    going = [f"{p['name']} {p['status']}" for p in begun if p["seconds"] is None]
    return ["", f"  Time: {', '.join([*times, *going])}"] if begun else []
