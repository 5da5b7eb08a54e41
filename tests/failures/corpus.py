"""The failure corpus: deployments that truly fail, each with what has to be said of it.

A case is a folder of `cases/`: a `deployment.yml` as a user writes it, with its code and model, an `endpoint.yml` where
its endpoint is not like others, and `expected.yml`:

    title       what is wrong, in words
    code        the one code the verdict has
    where       its target (a pattern), if it has one
    evidence    patterns, each found in the verdict's message or evidence
    fix         patterns, each found in its fix
    confidence  how sure the verdict is, where that is part of the case
    given       commands that are run first, without their `moor`
    lose        a file of the case whose content is taken out of the workspace's store after that
    set         values of `--set`; {web}, {private}, {open} and {mistaken} are addresses of `corpus_site`
    mended_by   a pattern of a command in the fix: it is run, and the deployment has to serve then
    requests    bodies that are sent once the deployment serves; the verdict is asked for after them
    then        what is done to it beside that: `kill-worker`, or `keep-asking` until there is a verdict
    engine      `docker` for what only containers can do
    preflight   whether it can be found before anything is built

Works without pytest: `table.py` beside it runs all cases and writes the page of the docs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from moorings.cli.commands.diagnose import flat
from moorings.client.client import Client, is_missing
from moorings.client.transport import SocketTransport
from moorings.errors.exceptions import MooringsError
from moorings.settings import Settings

HERE = Path(__file__).parent
CASES = HERE / "cases"
AT_ONCE = 5
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    code: str
    where: str = ""
    evidence: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    confidence: str = ""
    given: tuple[str, ...] = ()
    lose: str = ""
    set: tuple[str, ...] = ()
    mended_by: str = ""
    requests: tuple[Any, ...] = ()
    then: str = ""
    engine: str = "process"
    preflight: bool = False

    @property
    def file(self) -> Path:
        return CASES / self.name / "deployment.yml"

    @property
    def endpoint_file(self) -> Path:
        return CASES / self.name / "endpoint.yml"

    @property
    def group(self) -> str:
        """Cases of a kind are below one endpoint."""
        folder = self.file.read_text()
        found = re.search(r"^endpoint_name: (\w+)", folder, re.MULTILINE)
        return "specs" if found is None or found[1] == "nowhere" else found[1]

    @property
    def serves(self) -> bool:
        """Whether it fails only once it serves."""
        return bool(self.requests or self.then)


@dataclass
class Outcome:
    """What was said of a case, and how fast."""

    case: Case
    seconds: float
    """From the command (or the last request) to the verdict in the terminal."""
    code: str = ""
    told: str = ""
    """All that the command said."""
    verdict: dict[str, Any] = field(default_factory=dict)
    preflight: bool | None = None
    """Whether `moor check` finds it, under the same code; None: not asked."""
    problems: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not self.problems


def load(engine: str) -> list[Case]:
    """The cases of an engine, by name."""
    found = []
    for folder in sorted(CASES.iterdir()):
        data = yaml.safe_load((folder / "expected.yml").read_text())
        lists = {k: tuple(data.pop(k, ())) for k in ("evidence", "fix", "given", "set", "requests")}
        case = Case(folder.name, **data, **lists)
        if case.engine == engine:
            found.append(case)
    return found


def run(
    workspace: Any,
    cases: Sequence[Case],
    *,
    places: Mapping[str, str] | None = None,
    at_once: int = AT_ONCE,
    preflight: bool = False,
) -> Iterable[Outcome]:
    """Deploy them all, several at a time, and judge what is said of each.

    `workspace`: one of the end-to-end tests. `places`: addresses, by their names in `set`. `preflight`:
    ask `moor check` as well.
    """
    endpoints = {yaml_names(case)[0] for case in cases if not case.endpoint_file.exists()}
    for endpoint in sorted(endpoints - {"", "nowhere"}):
        workspace.endpoint(endpoint)
        workspace.key(endpoint)
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(
            lambda case: run_one(workspace, case, places=places or {}, preflight=preflight), cases
        )


@contextmanager
def client_of(workspace: Any) -> Iterator[Client]:
    settings = Settings.load(workspace.env)
    with closing(SocketTransport(settings.api_socket)) as transport:
        yield Client(transport, settings.workspace.path)


def run_one(workspace: Any, case: Case, *, places: Mapping[str, str], preflight: bool = False) -> Outcome:
    """One case; what goes wrong with the running itself is a problem of that case alone."""
    try:
        values = tuple(each for value in case.set for each in ("--set", value.format(**places)))
        _prepare(workspace, case)
        found: bool | None = None
        if preflight and case.preflight:
            done = workspace.moor("check", "-f", str(case.file), *values, "-o", "json", check=False)
            codes = {one["code"] for one in json.loads(done.stdout)["findings"]}
            # Running tells the problems of a file under one name, a check tells each.
            found = case.code in codes or (case.code == "SpecInvalid" and bool(codes))
        with client_of(workspace) as client:
            outcome = _run_one(workspace, client, case, values)
        outcome.preflight = found
        return outcome
    except Exception as problem:
        return Outcome(case, 0.0, problems=[f"it could not be run: {type(problem).__name__}: {problem}"])


def _prepare(workspace: Any, case: Case) -> None:
    """What has to be there before the case can fail."""
    for command in case.given:
        workspace.moor(*(word.replace("{here}", str(case.file.parent)) for word in shlex.split(command)))
    if case.endpoint_file.exists():
        workspace.moor("online-endpoint", "create", "-f", str(case.endpoint_file))
    if case.lose:
        digest = hashlib.sha256((case.file.parent / case.lose).read_bytes()).hexdigest()
        (workspace.home / "assets" / "objects" / digest[:2] / digest).unlink()


def _run_one(workspace: Any, client: Client, case: Case, values: Sequence[str]) -> Outcome:
    begun = time.monotonic()
    command = ("online-deployment", "create", "-f", str(case.file), "--skip-checks", *values)
    done = workspace.moor(*command, check=False)
    outcome = Outcome(case, time.monotonic() - begun, told=f"{done.stdout}\n{done.stderr}")
    endpoint, name = yaml_names(case)
    if case.serves:
        if done.returncode != 0:
            outcome.problems.append("it does not come to serve")
        else:
            _serve(workspace, client, case, outcome)
    else:
        if done.returncode == 0:
            outcome.problems.append("it serves")
        said = re.search(r"ERROR: \((\w+)", done.stderr)
        outcome.code = said[1] if said else ""
        outcome.verdict = _verdict(client, endpoint, name) or {}
    _judge(outcome)
    if case.mended_by:
        _mend(workspace, case, outcome, values)
    if diagnosis(client, endpoint, name) is not None:
        client.delete_deployment(endpoint, name)  # what failed keeps its place until it is deleted
    return outcome


def _mend(workspace: Any, case: Case, outcome: Outcome, values: Sequence[str]) -> None:
    """Do what the fix says, word for word."""
    found = re.search(case.mended_by, str(outcome.verdict.get("fix") or outcome.told))
    if found is None:
        outcome.problems.append(f"the fix has no command like {case.mended_by!r}")
        return
    mended = workspace.moor(*shlex.split(found[0])[1:], check=False)
    verb = "update" if outcome.verdict else "create"
    again = ("online-deployment", verb, "-f", str(case.file), *values)
    done = workspace.moor(*again, check=False) if mended.returncode == 0 else mended
    if done.returncode != 0:
        outcome.problems.append(f"the fix does not mend it: {found[0]}\n{done.stderr}")


def yaml_names(case: Case) -> tuple[str, str]:
    """(endpoint, deployment), also of a file that is no YAML."""
    text = case.file.read_text()
    found = [re.search(rf"^{key}: (\S+)", text, re.MULTILINE) for key in ("endpoint_name", "name")]
    return (found[0][1] if found[0] else "", found[1][1] if found[1] else "")


def diagnosis(client: Client, endpoint: str, name: str) -> dict[str, Any] | None:
    """What `moor diagnose -o json` prints, without a process for each question; None when there is no such
    deployment."""
    try:
        return flat(client.diagnose(endpoint, name))
    except MooringsError as problem:
        if is_missing(problem) or problem.failure.code == "RequestInvalid":
            return None
        raise


def _verdict(client: Client, endpoint: str, name: str) -> dict[str, Any] | None:
    found = diagnosis(client, endpoint, name)
    return found["verdict"] if found else None


def _serve(workspace: Any, client: Client, case: Case, outcome: Outcome) -> None:
    """Send what makes it fail, then ask until there is a verdict."""
    endpoint, name = yaml_names(case)
    headers = {"azureml-model-deployment": name}
    begun = time.monotonic()
    for body in case.requests:
        _when_it_serves(client, endpoint, name)
        begun = time.monotonic()
        workspace.score(endpoint, body, headers=headers)
    if case.then == "kill-worker":
        os.kill(_worker(workspace, endpoint, name), signal.SIGKILL)
    while time.monotonic() - begun < PATIENCE_S:
        if case.then == "keep-asking":
            workspace.score(endpoint, {}, headers=headers)
        verdict = _verdict(client, endpoint, name)
        if verdict is not None and (
            verdict["code"] == case.code or time.monotonic() - begun > PATIENCE_S / 2
        ):
            outcome.verdict, outcome.code = verdict, verdict["code"]
            break
        time.sleep(0.1)
    outcome.seconds = time.monotonic() - begun


def _when_it_serves(client: Client, endpoint: str, name: str) -> None:
    """A worker that ended is started again after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        shown = diagnosis(client, endpoint, name)
        if shown and any(i["ready"] and i["phase"] == "running" for i in shown["instances"]):
            return
        time.sleep(0.1)


def _worker(workspace: Any, endpoint: str, name: str) -> int:
    wanted = f"{endpoint}/{name}"
    for one in workspace.processes():
        if str(one["role"]).startswith("worker") and one["owner"] == wanted:
            return int(one["pid"])
    raise AssertionError(f"no worker of {wanted}: {workspace.processes()}")


def _judge(outcome: Outcome) -> None:
    """Compare with what is expected; what was told and what `moor diagnose` says have to be the same verdict."""
    case, verdict, problems = outcome.case, outcome.verdict, outcome.problems
    if outcome.code != case.code:
        problems.append(f"the code is {outcome.code}, not {case.code}")
    if verdict and verdict["code"] != case.code:
        problems.append(f"moor diagnose says {verdict['code']}, not {case.code}")
    shown = "\n".join((verdict["message"], *verdict["evidence"])) if verdict else outcome.told
    fix = verdict["fix"] if verdict else outcome.told
    _expect(problems, "evidence", case.evidence, lambda p: re.search(p, shown, re.MULTILINE))
    _expect(problems, "fix", case.fix, lambda p: re.search(p, fix) or p in fix)
    if case.where:
        target = str(verdict.get("target") or "") if verdict else ""
        if not re.fullmatch(case.where, target):
            problems.append(f"it is said to be at {target!r}, not at {case.where!r}")
    if case.confidence and verdict.get("confidence") != case.confidence:
        problems.append(f"the confidence is {verdict.get('confidence')}, not {case.confidence}")
    if not case.serves and verdict and verdict["message"].splitlines()[0] not in outcome.told:
        problems.append("the command that failed and moor diagnose say different things")


def _expect(problems: list[str], what: str, patterns: Sequence[str], found: Callable[[str], Any]) -> None:
    problems += [f"the {what} has nothing like {p!r}" for p in patterns if not found(p)]
