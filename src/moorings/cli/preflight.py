"""The checks of `preflight` for commands: what they are made with, and what a command does about their outcome."""

from __future__ import annotations

from collections.abc import Sequence

from moorings.cli.session import Session
from moorings.cli.terminal import clean
from moorings.client.client import Client
from moorings.client.faults import from_body
from moorings.client.quota import would_fit
from moorings.client.transport import SocketTransport
from moorings.errors.exceptions import Failure, MooringsError, SpecInvalid, error
from moorings.preflight.check import Report, Surroundings, check_deployment, of_problem
from moorings.settings import DOCKER
from moorings.spec.arm import environment_version_from_arm
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.documents import Examined
from moorings.spec.references import ENVIRONMENTS, parse_reference
from moorings.spec.validate import deployment_warnings

ANSWER_LIMIT_S = 0.5
"""For a workspace that runs to answer a look-up."""


class QuietClient:
    """Asks the workspace, where it runs; starts nothing and waits for nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def client(self) -> Client | None:
        settings = self._session.settings
        if self._session.transport is not None:
            return self._session.client
        if not settings.api_socket.exists():
            return None
        return Client(SocketTransport(settings.api_socket, patience_s=0.0), settings.workspace.path)

    def environment(self, reference: str) -> EnvironmentSpec | None:
        """The environment that a reference names; None where it cannot be told."""
        client = self.client
        if client is None:
            return None
        try:
            ref = parse_reference(reference)
            version = ref.version
            if version is None:
                versions = client.asset_versions(ENVIRONMENTS, ref.name, top=1)
                version = str(versions[0]["name"]) if versions else None
            if version is None or ref.registry is not None:
                return None
            body = client.asset(ENVIRONMENTS, ref.name, version)
            return environment_version_from_arm(ref.name, version, body, check=False)
        except (MooringsError, ValueError):
            return None

    def refusal(self, spec: DeploymentSpec) -> Failure | None:
        """Why the workspace would not admit the deployment; None where it would, or cannot be asked."""
        client = self.client
        if client is None:
            return None
        try:
            told = would_fit(client, spec).get("error")
        except MooringsError:
            return None
        return from_body(told).failure if told else None


def surroundings(session: Session, *, script: bool, room: bool) -> Surroundings:
    """`room`: the workspace is asked for quota and capacity, which makes sense for a deployment that is whole."""
    settings, asking = session.settings, QuietClient(session)
    return Surroundings(
        home=settings.home,
        environ=session.environ,
        conda_solver=settings.environments.conda_solver,
        download_python=settings.environments.allow_python_download,
        in_image=settings.engine == DOCKER,
        script=script,
        registered=asking.environment,
        refusal=asking.refusal if room else lambda _: None,
    )


def look(
    session: Session, examined: Examined[DeploymentSpec], *, script: bool, again: str, told: bool = False
) -> Report:
    """The problems of a document and whatever the checks find in the deployment that is left of it. `told`: its own
    problems are a part of a larger document's."""
    report = Report()
    if examined.invalid is not None and not told:
        report += of_problem(examined.invalid.failure)
    if examined.partial is None:
        return report
    around = surroundings(session, script=script, room=examined.invalid is None and not told)
    return report + check_deployment(examined.partial, examined.locate, around, again=again)


def require(
    session: Session,
    found: Sequence[Examined[DeploymentSpec]],
    *,
    script: bool,
    again: str,
    whole: SpecInvalid | None = None,
) -> None:
    """Check deployments before anything is sent: warnings are shown; errors raised, all at once. `whole`: the problems of
    the document that they are parts of, theirs included."""
    report = of_problem(whole.failure) if whole is not None else Report()
    for examined in found:
        prefix = f"{examined.value.name}: " if examined.value is not None and len(found) > 1 else ""
        for warning in deployment_warnings(examined.value) if examined.value is not None else ():
            session.warn(f"{prefix}{warning}")
        report += look(session, examined, script=script, again=again, told=whole is not None)
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
