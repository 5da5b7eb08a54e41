"""The checks of `preflight` for commands: what they are made with, and what a command does about their outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from moorings.cli.session import Session
from moorings.cli.terminal import clean
from moorings.client.client import Client, is_missing
from moorings.client.faults import from_body
from moorings.client.quota import would_fit
from moorings.client.transport import SocketTransport
from moorings.environments.interpreters import Interpreters
from moorings.errors.exceptions import Failure, MooringsError, SpecInvalid, error
from moorings.preflight.check import Report, Surroundings, check_deployment, of_problem
from moorings.preflight.findings import Severity
from moorings.preflight.index import Index
from moorings.settings import DOCKER
from moorings.spec.arm import environment_version_from_arm
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.documents import Examined
from moorings.spec.references import ENVIRONMENTS, MODELS, parse_reference
from moorings.spec.validate import deployment_warnings

T = TypeVar("T")

CHECK_LIMIT_S = 1.6
"""From the start of the process of `moor check` to the last answer of the package index: what is left of two seconds is
for what is done with the answers."""
LEAST_S = 0.6
"""For the package index, however long a busy machine took to get there."""
INDEX_LIMIT_S = 1.2
"""For the package index, in a command that goes on to deploy."""
ANSWER_LIMIT_S = 0.5
"""For a workspace that runs to answer a look-up."""
AT_ONCE = 4
"""Deployments of one document that are looked at side by side."""


@dataclass
class QuietClient:
    """Asks the workspace, where it runs; starts nothing and waits for little. One that once did not answer is not asked
    again. Safe to ask from several threads."""

    session: Session
    silent: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Callable[[Client], T]) -> T | None:
        """The answer; None where there is none. Raises what the workspace refuses."""
        with self._lock:
            client = None if self.silent else self._client
            if client is None:
                return None
            try:
                return question(client)
            except MooringsError as problem:
                if problem.failure.code != "WorkspaceUnreachable":
                    raise
                self.silent = True
                return None

    @cached_property
    def _client(self) -> Client | None:
        settings = self.session.settings
        if self.session.transport is not None:
            return self.session.client
        if not settings.api_socket.exists():
            return None
        transport = SocketTransport(settings.api_socket, patience_s=0.0, longest_s=ANSWER_LIMIT_S)
        return Client(transport, settings.workspace.path)

    def environment(self, reference: str) -> EnvironmentSpec | None:
        """See `check.Workspace`."""
        found = self._registered(ENVIRONMENTS, reference)
        return None if found is None else environment_version_from_arm(*found, check=False)

    def model(self, reference: str) -> object | None:
        """See `check.Workspace`."""
        return self._registered(MODELS, reference)

    def endpoint(self, name: str) -> object | None:
        """See `check.Workspace`."""
        return self._told(lambda client: client.endpoint(name))

    def refusal(self, spec: DeploymentSpec, beside: Sequence[DeploymentSpec]) -> Failure | None:
        """See `check.Workspace`."""
        try:
            told = self.ask(lambda client: would_fit(client, spec, beside).get("error"))
        except MooringsError:
            return None
        return from_body(told).failure if told else None

    def _registered(self, kind: str, reference: str) -> tuple[str, str, dict[str, Any]] | None:
        """Name, version and body. Raises AssetNotFound."""
        try:
            ref = parse_reference(reference)
        except ValueError:
            return None  # which was said when the spec was read
        if ref.registry is not None:
            return None
        version = ref.version
        if version is None:
            versions = self._told(lambda client: client.asset_versions(kind, ref.name, top=1))
            if not versions:
                return None
            version = str(versions[0]["name"])
        body = self._told(lambda client: client.asset(kind, ref.name, version))
        return None if body is None else (ref.name, version, body)

    def _told(self, question: Callable[[Client], T]) -> T | None:
        """As `ask`, where the one thing that is heard of what is refused is that something is not there."""
        try:
            return self.ask(question)
        except MooringsError as problem:
            if is_missing(problem):
                raise
            return None


@dataclass(frozen=True)
class Checks:
    """The checks of one command: what they are made with is shared by all deployments of it."""

    quiet: QuietClient
    around: Surroundings

    def look(
        self, found: Sequence[Examined[DeploymentSpec]], *, again: str, whole: SpecInvalid | None = None
    ) -> Report:
        """The problems of documents and whatever is found in the deployments that are left of them. `whole`: the problems
        of the document that they are parts of, theirs included."""
        report = of_problem(whole.failure) if whole is not None else Report()
        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="checks") as pool:
            for one in pool.map(
                lambda at: self._one(found, at, again, told=whole is not None), range(len(found))
            ):
                report += one
        if self.quiet.silent:
            note = "the workspace did not answer in time: what it knows (quota, what is registered) is not looked at"
            report += Report(notes=(note,))
        return report

    def _one(self, found: Sequence[Examined[DeploymentSpec]], at: int, again: str, *, told: bool) -> Report:
        examined, report = found[at], Report()
        if examined.invalid is not None and not told:
            report += of_problem(examined.invalid.failure)
        if examined.partial is None:
            return report
        beside = tuple(each.value for each in found[:at] if each.value is not None)
        around = replace(self.around, beside=beside)
        if examined.invalid is not None or told:
            # What is left of a broken deployment needs no room.
            around = replace(around, room=False)
        return report + check_deployment(examined.partial, examined.locate, around, again=again)


def checks(session: Session, *, script: bool, until_s: float, endpoint: Severity | None = None) -> Checks:
    """`script`: whether the scoring script is looked at. `until_s`: when the package index has to have answered, by
    `time.monotonic`. `endpoint`: what it is that there is no such endpoint; None: it is not asked for."""
    settings, quiet = session.settings, QuietClient(session)
    around = Surroundings(
        home=settings.home,
        index=Index(session.environ, settings.home, until_s=until_s),
        interpreters=Interpreters(session.environ, patience_s=max(0.1, until_s - time.monotonic())),
        conda_solver=settings.environments.conda_solver,
        download_python=settings.environments.allow_python_download,
        in_image=settings.engine == DOCKER,
        script=script,
        workspace=quiet,
        endpoint=endpoint,
    )
    return Checks(quiet, around)


def require(
    session: Session,
    found: Sequence[Examined[DeploymentSpec]],
    *,
    script: bool,
    again: str,
    whole: SpecInvalid | None = None,
    endpoint: Severity | None = None,
) -> None:
    """Check deployments before anything is sent: warnings are shown; errors raised, all at once. `whole`: the problems of
    the document that they are parts of, theirs included."""
    for examined in found:
        prefix = f"{examined.value.name}: " if examined.value is not None and len(found) > 1 else ""
        for warning in deployment_warnings(examined.value) if examined.value is not None else ():
            session.warn(f"{prefix}{warning}")
    made = checks(session, script=script, until_s=time.monotonic() + INDEX_LIMIT_S, endpoint=endpoint)
    report = made.look(found, again=again, whole=whole)
    for one in report.warnings:
        place = (
            f"{one.place}: " if one.place is not None and str(one.place) not in one.failure.message else ""
        )
        session.warn(clean(f"({one.failure.code}) {place}{one.failure.message}"))
    if not report.errors:
        return
    invalid = whole or next((each.invalid for each in found if each.invalid is not None), None)
    failures = [one.failure for one in report.errors]
    if invalid is not None and len(of_problem(invalid.failure).errors) == len(failures):
        raise invalid
    session.say("Nothing was sent. What is found here can be sent all the same: --skip-checks")
    if len(failures) == 1:
        raise MooringsError(failures[0])
    message = f"{len(failures)} problems were found before anything was sent"
    raise error("PreflightFailed", message, details=failures, fields={"command": again})
