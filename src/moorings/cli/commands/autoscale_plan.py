"""`moor autoscale size` and `simulate`: what a load needs, and what scaling would do with it. A workspace is asked only for
a setting that is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from moorings.autoscale.picture import picture, totals
from moorings.autoscale.policy import Policy, RulesPolicy, TargetPolicy, policy_of
from moorings.autoscale.simulation import Outcome, Workload
from moorings.autoscale.simulation import simulate as play
from moorings.autoscale.trace import parse
from moorings.autoscale.window import concurrency, needed
from moorings.cli import specs
from moorings.cli.framework import leaf
from moorings.cli.session import Session
from moorings.client import autoscale as remote
from moorings.errors.exceptions import error
from moorings.errors.sentence import verbatim
from moorings.spec.deployment import (
    MAX_INSTANCES,
    DeploymentSpec,
    activation_timeout_s,
)
from moorings.spec.documents import Draft
from moorings.spec.own_settings import SCALE_DOWN_AFTER_S
from moorings.spec.update import merged, plain
from moorings.spec.validate import deployment_problems

NEVER = 1_000_000_000
SHOWN_CHANGES = 12


def _number(name: str, help_text: str, **more: Any) -> click.Option:
    return click.Option([name], type=click.FloatRange(min=0, min_open=True), help=help_text, **more)


def _whole(name: str, help_text: str, least: int, most: int = NEVER, **more: Any) -> click.Option:
    return click.Option([name], type=click.IntRange(least, most), help=help_text, **more)


@leaf(
    "size",
    "Say how many instances a load needs: requests a second x seconds each / target utilization, over what an instance "
    "runs at once.",
    _number("--rps", "Requests a second.", required=True),
    _number("--request-seconds", "How long one takes.", required=True),
    _whole(
        "--target",
        "Share of the time an instance is busy, in per cent.",
        1,
        100,
        default=70,
        show_default=True,
    ),
    _whole("--max-concurrent", "Requests an instance runs at once.", 1, default=1, show_default=True),
)
def size(session: Session, rps: float, request_seconds: float, target: int, max_concurrent: int) -> None:
    at_once = concurrency(rps, request_seconds)
    instances = needed(at_once, max_concurrent, target / 100)
    found = {
        "instances": instances,
        "concurrent_requests": round(at_once, 6),
        "target_utilization_percentage": target,
        "max_concurrent_requests_per_instance": max_concurrent,
        "carries_rps": round(instances * max_concurrent / request_seconds, 3),
    }
    session.emit(found)
    if instances > MAX_INSTANCES:
        session.warn(f"a deployment has {MAX_INSTANCES} instances at most: spread the load over several")


@leaf(
    "simulate",
    "Play a trace of load (CSV: seconds,rps) through the policy that scales deployments, draw instances and refused "
    "requests as a picture, and print what it came to.",
    click.Option(["--file", "-f"], type=click.Path(path_type=Path), required=True, help="The trace."),
    click.Option(
        ["--autoscale-name"],
        metavar="NAME",
        help="An autoscale setting of the workspace: its rules and schedules.",
    ),
    click.Option(
        ["--at"],
        type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]),
        help="When the trace begins (UTC), for schedules; now otherwise.",
    ),
    click.Option(
        ["--deployment-file"],
        type=click.Path(path_type=Path),
        help="YAML file of a deployment: its scale_settings and request_settings.",
    ),
    _whole("--min", "Fewest instances; in place of the file's.", 0, MAX_INSTANCES),
    _whole("--max", "Most instances.", 1, MAX_INSTANCES),
    _whole("--target", "Target utilization in per cent.", 1, 100),
    _whole("--max-concurrent", "Requests an instance runs at once.", 1),
    _whole("--polling-interval", "Seconds between two looks.", 1),
    _whole("--scale-down-after", "Seconds an instance is kept after it was needed last.", 1),
    _whole("--count", "Instances at the beginning.", 0, MAX_INSTANCES),
    _number("--request-seconds", "How long a request takes.", default=0.1, show_default=True),
    _number("--start-seconds", "How long an instance takes to start.", default=2.0, show_default=True),
    _whole("--seed", "Of the arrivals within a second.", 0, default=1, show_default=True),
    click.Option(
        ["--picture", "-p", "picture_path"],
        type=click.Path(path_type=Path),
        help="Where the picture (SVG) goes; beside the trace otherwise.",
    ),
)
def simulate(
    session: Session,
    file: Path,
    autoscale_name: str | None,
    at: datetime | None,
    deployment_file: Path | None,
    count: int | None,
    request_seconds: float,
    start_seconds: float,
    seed: int,
    picture_path: Path | None,
    **given: int | None,
) -> None:
    trace = parse(_read(file), str(file))
    spec = _spec(deployment_file, given)
    setting = remote.setting(session.client, autoscale_name) if autoscale_name else None
    policy = policy_of(spec, None if setting is None else replace(setting, enabled=True))
    assert policy is not None
    begins_s = session.started_at if at is None else at.replace(tzinfo=UTC).timestamp()
    workload = Workload(
        request_s=request_seconds,
        slots=spec.request_settings.max_concurrent_requests_per_instance,
        start_s=start_seconds,
        timeout_s=spec.request_settings.request_timeout_ms / 1000,
        activation_timeout_s=float(activation_timeout_s(spec)),
        seed=seed,
    )
    first = policy.bounds(begins_s)[0] if count is None else count
    outcome = play(trace, workload, policy, first, begins_s)
    drawn = picture_path or file.with_suffix(".svg")
    _write(drawn, picture(outcome, f"{file.name}: {_described(policy)}"))
    session.emit(_summary(outcome, drawn))
    session.say(f"{totals(outcome)}.")
    session.say(f"Picture: {drawn}")


def _summary(outcome: Outcome, drawn: Path) -> dict[str, Any]:
    changes = [
        {
            "seconds": round(one.at_s, 3),
            "before": one.before,
            "after": one.after,
            "reason": one.reason,
            "message": one.message,
        }
        for one in outcome.changes
    ]
    return {
        "requests": outcome.requests,
        "served": outcome.served,
        "rejected": outcome.rejected,
        "timed_out": outcome.timed_out,
        "most_instances": outcome.most,
        "instance_hours": round(outcome.instance_seconds / 3600, 4),
        "longest_wait_seconds": round(outcome.longest_wait_s, 3),
        "changes": len(changes),
        "first_changes": changes[:SHOWN_CHANGES],
        "picture": str(drawn),
    }


def _described(policy: Policy) -> str:
    if isinstance(policy, TargetPolicy):
        return f"{policy.least} to {policy.most} instances at {round(policy.utilization * 100)} %"
    if isinstance(policy, RulesPolicy):
        return f"the rules of {policy.setting.name}"
    raise AssertionError("there are two kinds of policy")


def _spec(file: Path | None, given: Mapping[str, int | None]) -> DeploymentSpec:
    """What the file says, with the flags on top; without a file a deployment of the defaults."""
    base = DeploymentSpec(name="simulated", endpoint_name="simulated")
    if file is not None:
        again = "moor autoscale simulate -f <trace> --deployment-file"
        base = specs.deployment_to_create(file, None, None, "simulated", (), command=again).valid()
    scale = {
        "type": "target_utilization",
        "min_instances": given["min"],
        "max_instances": given["max"],
        "target_utilization_percentage": given["target"],
        "polling_interval": given["polling_interval"],
    }
    after_s = given["scale_down_after"]
    changes = {
        "scale_settings": scale,
        "request_settings": {"max_concurrent_requests_per_instance": given["max_concurrent"]},
        "properties": {} if after_s is None else {SCALE_DOWN_AFTER_S: str(after_s)},
    }
    draft = Draft.of_value(merged(plain(base), changes), DeploymentSpec, command="moor autoscale simulate")
    return draft.build(deployment_problems, DeploymentSpec)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise error("TraceInvalid", f"{path}: {problem}", target=str(path), fields={"name": path}) from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        message = f"the picture cannot be written: {problem}"
        fix = verbatim("moor autoscale simulate -f <trace> --picture <file.svg>")
        raise error("TraceInvalid", message, target=str(path), fix=fix) from None
