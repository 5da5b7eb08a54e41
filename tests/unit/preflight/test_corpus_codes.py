"""One failure has one name, whether it is found before anything is built or by running: held against the corpus of real
failures. What only the package index or a workspace can tell is not asked here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from moorings.environments.interpreters import Interpreter, Interpreters
from moorings.errors.exceptions import SpecInvalid
from moorings.preflight.check import Report, Surroundings, check_deployment, of_problem
from moorings.preflight.findings import Severity
from moorings.preflight.index import Answer, Index
from moorings.spec.documents import Examined
from moorings.spec.loader import examine_deployment

CASES = Path(__file__).parents[2] / "failures" / "cases"
OF_INDEX = (
    "PackageNotFound",
    "PackageVersionNotFound",
    "NoWheelForPython",
    "EnvironmentUnsatisfiable",
    "IndexUnreachable",
)
OF_WORKSPACE = ("AssetNotFound", "EndpointNotFound", "OutOfCapacity", "InstanceTypeTooLarge", "OutOfQuota")
NAMES = sorted(each.name for each in CASES.iterdir())


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Index, "ask", lambda *_: Answer(note="not asked"))
    monkeypatch.setattr(Index, "channels_problem", lambda *_: "no route")
    there = [Interpreter(Path("/python"), version) for version in ("3.12.1", "3.11.7", "3.9.1")]
    monkeypatch.setattr(Interpreters, "find", lambda _: there)


@pytest.mark.parametrize("name", NAMES)
def test_a_check_calls_a_failure_what_running_calls_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = yaml.safe_load((CASES / name / "expected.yml").read_text())
    monkeypatch.chdir(CASES / name)
    in_image = expected.get("engine") == "docker"
    codes = found(in_image=in_image)
    if expected["code"] == "SpecInvalid":
        assert codes and all(each.startswith("Spec") for _, each in codes)
        return
    assert [each for severity, each in codes if severity is Severity.ERROR and each != expected["code"]] == []
    if expected.get("preflight") and expected["code"] not in (*OF_INDEX, *OF_WORKSPACE):
        assert expected["code"] in [each for _, each in codes]


def found(*, in_image: bool) -> list[tuple[Severity, str]]:
    examined: Examined[Any]
    try:
        examined = examine_deployment(Path("deployment.yml"))
    except SpecInvalid as problem:
        return [(one.severity, one.failure.code) for one in of_problem(problem.failure).findings]
    report = of_problem(examined.invalid.failure) if examined.invalid is not None else Report()
    if examined.partial is None:
        return [(one.severity, one.failure.code) for one in report.findings]
    around = Surroundings(
        home=Path("/"),
        index=Index({"PATH": os.environ["PATH"]}, Path("/nowhere"), until_s=0.0),
        interpreters=Interpreters({}),
        conda_solver="auto",
        download_python=True,
        in_image=in_image,
    )
    report += check_deployment(examined.partial, examined.locate, around, again="again")
    return [(one.severity, one.failure.code) for one in report.findings]
