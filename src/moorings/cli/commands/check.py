"""`moor check`: what is wrong with a deployment or endpoint file, told in a second, before anything is built or sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from moorings.cli import preflight, specs
from moorings.cli.commands import flags
from moorings.cli.framework import leaf
from moorings.cli.session import Session
from moorings.cli.terminal import clean
from moorings.client.client import is_missing
from moorings.errors.catalogue import CATALOGUE
from moorings.errors.exceptions import MooringsError
from moorings.errors.language import label
from moorings.gateway.port import port_problem
from moorings.preflight.check import Report, of_problem
from moorings.preflight.code_folder import shown
from moorings.preflight.findings import Finding, Severity
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.documents import read_document
from moorings.spec.form2021 import examine_form
from moorings.spec.loader import examine_endpoint
from moorings.spec.validate import deployment_warnings

EXIT_FOUND = 1
_OF_DEPLOYMENTS = (
    *(
        "endpoint_name",
        "model",
        "code_configuration",
        "environment",
        "environment_variables",
        "instance_type",
    ),
    *("instance_count", "request_settings", "scale_settings", "liveness_probe", "readiness_probe"),
)
_OF_FORMS = ("deployments", "target", "allow_public_access")
DEPLOYMENT, ENDPOINT, FORM = "deployment", "endpoint", "form"


@dataclass(frozen=True)
class Checked:
    """What came out of one file."""

    kind: str
    report: Report
    endpoint: str | None = None
    deployment: str | None = None


@leaf(
    "check",
    "Find what is wrong with a deployment, before anything is built or sent. Also for endpoint files, and for those of "
    "2021 with deployments in them.",
    click.Option(
        ["--file", "-f"],
        type=click.Path(path_type=Path),
        required=True,
        help="YAML file of a deployment or an endpoint.",
    ),
    click.Option(["--name", "-n", "name"], metavar="NAME", help="Name of what the file describes."),
    flags.endpoint_name("--endpoint-name", "-e"),
    flags.skip_script_validation(),
    flags.set_(),
)
def check(
    session: Session,
    file: Path,
    name: str | None,
    endpoint_name: str | None,
    skip_script_validation: bool,
    set_: tuple[str, ...],
) -> None:
    skip = ("--skip-script-validation",) if skip_script_validation else ()
    again = specs.retyped("moor check", file, name=name, endpoint=endpoint_name, set_=set_, more=skip)
    until_s = max(session.typed_s + preflight.CHECK_LIMIT_S, time.monotonic() + preflight.LEAST_S)
    checks = preflight.checks(
        session, script=not skip_script_validation, until_s=until_s, endpoint=Severity.WARNING
    )
    checked = _checked(session, checks, file, name, endpoint_name, set_, again)
    checked = replace(checked, report=checked.report + _ports(session))
    typed = partial(specs.retyped, file=file, name=name, endpoint=endpoint_name, set_=set_)
    following = again if checked.report.errors else _next(checks.quiet, checked, typed)
    seconds = time.monotonic() - session.typed_s
    if session.options.output is not None or session.options.query is not None:
        session.emit(_document(file, checked, following, seconds, session.language))
    else:
        for line in _text(file, checked, following, seconds, session.language):
            click.echo(line)
    if checked.report.errors:
        raise click.exceptions.Exit(EXIT_FOUND)


def _checked(
    session: Session,
    checks: preflight.Checks,
    file: Path,
    name: str | None,
    endpoint: str | None,
    set_: tuple[str, ...],
    again: str,
) -> Checked:
    default = session.defaults.get("endpoint")
    try:
        document = read_document(file, command="moor check").value
    except MooringsError as problem:
        return Checked(DEPLOYMENT, of_problem(problem.failure))
    kind = kind_of(document, set_)
    try:
        if kind == DEPLOYMENT:
            found = specs.deployment_to_create(file, name, endpoint, default, set_, command="moor check")
            return _deployment(checks.look([found], again=again), found.value)
        if kind == FORM:
            form = examine_form(file, overrides=set_, name=name, default_name=default, command="moor check")
            report = checks.look(form.deployments, again=again, whole=form.invalid)
            return Checked(FORM, report, form.endpoint.name if form.endpoint is not None else name)
        only = examine_endpoint(file, overrides=set_, name=name, command="moor check")
        report = of_problem(only.invalid.failure) if only.invalid is not None else Report()
        return Checked(ENDPOINT, report, only.value.name if only.value is not None else name)
    except MooringsError as problem:
        return Checked(kind, of_problem(problem.failure))


def kind_of(document: Any, overrides: Sequence[str] = ()) -> str:
    """What a document describes, by its schema, else by its keys."""
    if not isinstance(document, Mapping):
        return DEPLOYMENT
    keys = {*map(str, document), *(text.partition("=")[0].partition(".")[0] for text in overrides)}
    if keys & set(_OF_FORMS):
        return FORM
    schema = str(document.get("$schema", "")).rpartition("/")[2].lower()
    if "deployment" in schema or keys & set(_OF_DEPLOYMENTS):
        return DEPLOYMENT
    return ENDPOINT


def _deployment(report: Report, spec: DeploymentSpec | None) -> Checked:
    if spec is None:
        return Checked(DEPLOYMENT, report)
    report += Report(notes=tuple(deployment_warnings(spec)))
    return Checked(DEPLOYMENT, report, spec.endpoint_name, spec.name)


def _ports(session: Session) -> Report:
    """Whether the gateway will get its port; of a workspace that runs it has it."""
    settings = session.settings
    if session.transport is not None or settings.api_socket.exists():
        return Report()
    failed = port_problem(settings.gateway.bind, settings.gateway.port)
    return Report() if failed is None else of_problem(failed)


# --- what to type next -----------------------------------------------------------------------------------------
def _next(quiet: preflight.QuietClient, checked: Checked, typed: Callable[..., str]) -> str:
    """The command that does what was checked: as far as a workspace that runs tells, the one that can. `typed`: a command
    with the flags of the check."""
    if checked.kind == FORM:
        return typed("moor endpoint create")
    if checked.kind == ENDPOINT:
        return typed("moor online-endpoint create")
    create = typed("moor online-deployment create")
    endpoint, name = checked.endpoint, checked.deployment
    if endpoint is None or name is None:
        return create
    try:
        quiet.ask(lambda client: client.endpoint(endpoint))
    except MooringsError as problem:
        return f"moor online-endpoint create -n {endpoint} && {create}" if is_missing(problem) else create
    try:
        there = quiet.ask(lambda client: client.deployment(endpoint, name))
    except MooringsError:
        return create
    if there is None:
        return create
    return typed("moor online-deployment update", name=name, endpoint=endpoint)


# --- what is printed -------------------------------------------------------------------------------------------
def _document(file: Path, checked: Checked, following: str, seconds: float, language: str) -> dict[str, Any]:
    report = checked.report
    return {
        "file": str(file),
        "kind": checked.kind,
        "errors": len(report.errors),
        "warnings": len(report.warnings),
        "findings": [one.to_json(language) for one in report.findings],
        "notes": list(report.notes),
        "seconds": round(seconds, 3),
        "next": following,
    }


def _text(file: Path, checked: Checked, following: str, seconds: float, language: str) -> list[str]:
    report = checked.report
    counts = [_count(len(report.errors), "error"), _count(len(report.warnings), "warning")]
    told = ", ".join(part for part in counts if part) or "nothing wrong was found"
    lines = [f"{shown(file)}: {told} ({seconds:.2f} s)"]
    for one in report.findings:
        lines += ["", *_lines(one, language)]
    if report.notes:
        lines += ["", *(f"Note: {clean(note)}" for note in report.notes)]
    when = "Next, once the errors are put right" if report.errors else "Next"
    return [*lines, "", f"{when}: {following}"]


def _lines(one: Finding, language: str) -> list[str]:
    entry = CATALOGUE.get(one.failure.code)  # a server may be newer
    numeric = f", {entry.numeric}" if entry is not None and entry.numeric else ""
    place = str(one.place) if one.place is not None else ""
    lead = f"{place}: " if place and not one.failure.message.startswith(place) else ""
    first = f"{one.severity.value.upper()} ({one.failure.code}{numeric}) {lead}{one.failure.message}"
    evidence = [f"    {line}" for text in one.failure.evidence for line in text.splitlines()]
    fix = one.failure.remedy.said(language)
    last = [f"  {label('fix_short', language)} {fix}"] if fix else []
    return [clean(line) for line in (first, *evidence, *last)]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}" if number else ""
