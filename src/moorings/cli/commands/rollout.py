"""`moor rollout ...`: shift the traffic of an endpoint step by step, while a guard holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from moorings.cli.commands import flags
from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.client import rollouts as remote
from moorings.client.faults import from_body
from moorings.spec import rollout as spec
from moorings.spec.arm_views import snake_case

EXIT_PAUSED = 3
"""Of `wait` when the rollout is paused or still goes on; one that did not succeed is an error (1)."""

LISTED: Columns = (
    ("Name", lambda r: r["name"]),
    ("Phase", lambda r: r["phase"]),
    ("From", lambda r: r["from"]),
    ("To", lambda r: r["to"]),
    ("Traffic of to", lambda r: f"{r['traffic']['to']} %" if r.get("traffic") else ""),
    ("Started", lambda r: r["started_at"]),
    ("Why", lambda r: (r.get("error") or {}).get("message") or r.get("waiting_for")),
)
COMPARED: Columns = (
    ("Compared", lambda c: c["compared"]),
    ("Pairs", lambda c: c["same"]),
    ("Of", lambda c: c["of"]),
)
_BODIES = {
    "identical": "body: the same bytes",
    "equal": "body: other bytes, the same JSON",
    "withinTolerance": "body: the same but for numbers, within the tolerance",
    "different": "body: different",
    "notCompared": "body: too long to compare, or a stream",
}
STEPS: Columns = (
    ("Step", lambda s: _step(s)),
    ("Outcome", lambda s: s["outcome"]),
    ("Seconds", lambda s: s.get("seconds", "")),
    ("Requests", lambda s: _pair(s, "requests")),
    ("Errors", lambda s: _pair(s, "errors")),
    ("p50 ms", lambda s: _pair(s, "p50")),
    ("p99 ms", lambda s: _pair(s, "p99")),
    (
        "Guard",
        lambda s: "; ".join(f"{'ok' if c['holds'] else 'BROKEN'}: {c['said']}" for c in s.get("checks", ())),
    ),
)


def _name(*, what: str) -> click.Option:
    return click.Option(["--name", "-n"], metavar="NAME", help=f"The rollout to {what}; else the newest one.")


@leaf(
    "start",
    "Shift traffic from one deployment to another, step by step, while a guard holds.",
    flags.endpoint_name("--endpoint-name", "-e"),
    click.Option(["--from", "source"], required=True, metavar="NAME", help="The deployment that serves now."),
    click.Option(["--to", "target"], required=True, metavar="NAME", help="The deployment that shall."),
    click.Option(
        ["--steps"], default="1,10,50,100", show_default=True, help="Per cent of the traffic, ascending."
    ),
    click.Option(["--every"], default="2m", show_default=True, help="How long each step lasts at least."),
    click.Option(
        ["--guard"],
        default=spec.DEFAULT_GUARD,
        show_default=True,
        help="What has to hold of the new deployment: rates (error_rate, 4xx, 5xx, 429) below a per cent, latencies (p50, "
        "p90, p95, p99) below ms or s, both below a factor (1.2x) of the running deployment.",
    ),
    click.Option(
        ["--min-requests"],
        type=int,
        default=spec.DEFAULT_MIN_REQUESTS,
        show_default=True,
        help="With fewer answers in a step nothing is decided.",
    ),
    click.Option(
        ["--patience"], default="1h", show_default=True, help="How much longer a step waits for them."
    ),
    click.Option(
        ["--on-breach"],
        type=click.Choice(spec.ON_BREACH),
        default=spec.ROLLBACK,
        show_default=True,
        help="What to do when the guard does not hold.",
    ),
    click.Option(
        ["--mirror-first"],
        metavar="SHARE:TIME",
        help="Before the first step, copy a share of the requests for a time (10%:5m); the rates of the guard have to hold "
        "of the answers, which no caller sees.",
    ),
    click.Option(
        ["--tolerance"],
        type=click.FloatRange(0, 1),
        default=spec.DEFAULT_TOLERANCE,
        show_default=True,
        help="How far numbers in answers to copies may be from the original ones: a part of the larger one, where that is "
        "above 1.",
    ),
    click.Option(["--name", "-n"], metavar="NAME", help="Its name; else r1, r2, ..."),
    click.Option(["--no-wait"], is_flag=True, default=True, hidden=True),
    click.Option(["--wait", "waits"], is_flag=True, help="Stay until it has ended, and show each step."),
)
def start(
    session: Session,
    endpoint_name: str | None,
    source: str,
    target: str,
    steps: str,
    every: str,
    guard: str,
    min_requests: int,
    patience: str,
    on_breach: str,
    mirror_first: str | None,
    tolerance: float,
    name: str | None,
    no_wait: bool,
    waits: bool,
) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    body = {
        "from": source,
        "to": target,
        "steps": steps,
        "every": every,
        "guard": guard,
        "minRequests": min_requests,
        "patience": patience,
        "onBreach": on_breach,
        "tolerance": tolerance,
        **({"mirrorFirst": mirror_first} if mirror_first else {}),
        **({"name": name} if name else {}),
    }
    made = remote.start(session.client, endpoint, body)
    session.say(f"Rollout {made['name']} of endpoint {endpoint} begins: {source} -> {target}.")
    if waits:
        _wait(session, endpoint, made["name"], None)
        return
    session.emit(_view(made))
    session.say(f"Watch it: moor rollout status -e {endpoint}   (or wait: moor rollout wait -e {endpoint})")


@leaf(
    "status",
    "Show where a rollout stands, and the figures each step was decided on.",
    flags.endpoint_name("--endpoint-name", "-e"),
    _name(what="show"),
)
def status(session: Session, endpoint_name: str | None, name: str | None) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    _show(session, remote.show(session.client, endpoint, name or remote.LATEST))


@leaf(
    "list",
    "List the rollouts of an endpoint, the newest first.",
    flags.endpoint_name("--endpoint-name", "-e"),
)
def list_(session: Session, endpoint_name: str | None) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    session.emit([_view(each) for each in remote.listed(session.client, endpoint)], LISTED, usual="table")


@leaf(
    "report",
    "Compare the answers to copies of requests (--mirror-first) with those that callers got.",
    flags.endpoint_name("--endpoint-name", "-e"),
    _name(what="report on"),
)
def report(session: Session, endpoint_name: str | None, name: str | None) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    found = remote.report(session.client, endpoint, name or remote.LATEST)
    if session.options.output not in (None, "table") or session.options.query is not None:
        session.emit(snake_case(found))
        return
    _say_compared(session, found)


def _say_compared(session: Session, found: Mapping[str, Any]) -> None:
    bodies, same = found["bodies"], found["sameStatus"]
    rows = [{"compared": "the same status", "same": same, "of": found["pairs"]}]
    rows += [{"compared": words, "same": bodies[kind], "of": same} for kind, words in _BODIES.items()]
    session.emit(rows, COMPARED, usual="table")
    if bodies["withinTolerance"]:
        most = _number(found["largestDeviation"])
        session.say(f"Numbers are at most {most} apart, {_number(found['tolerance'])} is allowed.")
    live, copy = (found["latencyMs"][side] for side in ("live", "copy"))
    times = ", ".join(f"{key} {_number(copy[key])} | {_number(live[key])}" for key in live)
    session.say(f"{found['to']} beside {found['from']}, milliseconds in the worker: {times}")
    for each in found["statuses"]:
        if each["live"] != each["copy"]:
            session.say(f"  {each['count']} times {each['copy']} where callers got {each['live']}")
    for each in found["examples"]:
        shown = " / ".join(
            f"{each[side]['status']}, {_bytes(each[side]['length'])}" for side in ("copy", "live")
        )
        session.say(f"  {each['requestId']}: {shown}" + (f", from {each['at']} on" if "at" in each else ""))
    if found["unmatched"] or found["skipped"]:
        session.say(
            f"{found['unmatched']} copies have no original that is known; {found['skipped']} more were not looked at."
        )


def _bytes(length: int | None) -> str:
    return "a stream" if length is None else f"{length} bytes"


@leaf(
    "pause",
    "Stay at this step until told to go on; the traffic stays as it is.",
    flags.endpoint_name("--endpoint-name", "-e"),
    _name(what="pause"),
)
def pause(session: Session, endpoint_name: str | None, name: str | None) -> None:
    _tell(session, endpoint_name, name, "pause")


@leaf(
    "resume",
    "Go on with a paused rollout: its step begins again, with figures of its own.",
    flags.endpoint_name("--endpoint-name", "-e"),
    _name(what="resume"),
)
def resume(session: Session, endpoint_name: str | None, name: str | None) -> None:
    _tell(session, endpoint_name, name, "resume")


@leaf(
    "abort",
    "End a rollout and bring the traffic back to where it was.",
    flags.endpoint_name("--endpoint-name", "-e"),
    _name(what="abort"),
)
def abort(session: Session, endpoint_name: str | None, name: str | None) -> None:
    _tell(session, endpoint_name, name, "abort")


@leaf(
    "wait",
    "Wait until a rollout has ended (exit 0: it succeeded; 3: it is paused or still goes on).",
    flags.endpoint_name("--endpoint-name", "-e"),
    _name(what="wait for"),
    click.Option(["--timeout"], metavar="TIME", help="The longest to wait, such as 10m; else for ever."),
)
def wait(session: Session, endpoint_name: str | None, name: str | None, timeout: str | None) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    seconds = None if timeout is None else spec.parse_seconds(timeout)
    if timeout is not None and seconds is None:
        raise click.UsageError(f"--timeout {timeout!r}: expected a time such as 30s or 10m")
    _wait(session, endpoint, name or remote.LATEST, seconds)


def _tell(session: Session, endpoint_name: str | None, name: str | None, verb: str) -> None:
    endpoint = session.endpoint_name(endpoint_name, "--endpoint-name")
    found = remote.tell(session.client, endpoint, name or remote.LATEST, verb)
    session.emit(_view(found))
    session.say(f"Told rollout {found['name']} to {verb}. See it: moor rollout status -e {endpoint}")


def _wait(session: Session, endpoint: str, name: str, timeout_s: float | None) -> None:
    said = ""

    def heard(found: Mapping[str, Any]) -> None:
        nonlocal said
        properties = found["properties"]
        line = f"{properties['phase']}: {_last(properties)}"
        if line != said:
            said = line
            session.say(f"  {line}")

    found = remote.wait(session.client, endpoint, name, heard, timeout_s=timeout_s)
    properties = found["properties"]
    _show(session, found)
    if properties["phase"] == "Succeeded":
        return
    if not properties["ended"]:
        raise click.exceptions.Exit(EXIT_PAUSED)
    wrong = properties.get("error")
    if wrong is None:
        raise click.exceptions.Exit(1)
    raise from_body(wrong)


def _last(properties: Mapping[str, Any]) -> str:
    history = properties.get("history") or ()
    return f"{_step(history[-1])} {history[-1]['outcome']}" if history else "not begun"


def _view(found: Mapping[str, Any]) -> dict[str, Any]:
    properties = found["properties"]
    kept = {key: value for key, value in properties.items() if key not in ("wish", "resumed", "error")}
    view = {**snake_case(kept), "error": properties.get("error")}
    return {"name": found["name"], "id": found["id"], **view}


def _show(session: Session, found: Mapping[str, Any]) -> None:
    if session.options.output not in (None, "table") or session.options.query is not None:
        session.emit(_view(found))
        return
    properties = found["properties"]
    traffic = properties.get("traffic") or {}
    source, target = properties["from"], properties["to"]
    shares = f", {source}={traffic['from']} {target}={traffic['to']}" if traffic else ""
    about = f"Rollout {found['name']} of endpoint {properties['endpoint']}, {source} -> {target}"
    session.say(f"{about}: {properties['phase']}{shares}")
    history = list(properties.get("history") or ())
    if history:
        session.emit(history, STEPS, usual="table")
    if properties.get("waitingFor"):
        session.say(f"Waits for: {properties['waitingFor']}")
    wrong = properties.get("error") or {}
    if wrong:
        session.say(f"{wrong.get('code')}: {wrong.get('message')}")
        for info in wrong.get("additionalInfo", ()):
            session.say(f"Fix: {info['info']['fix']}")


def _step(step: Mapping[str, Any]) -> str:
    return f"mirror {step['mirror']} %" if step.get("share") is None else f"{step['share']} %"


def _pair(step: Mapping[str, Any], key: str) -> str:
    """Of the new deployment beside the running one."""
    figures = step.get("figures") or {}
    new, old = (figures.get(side, {}).get(key) for side in ("to", "from"))
    return "" if not figures else f"{_number(new)} | {_number(old)}"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:g}"
