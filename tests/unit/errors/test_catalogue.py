"""The catalogue and the code agree: every code that is raised is in it, and every entry helps whoever meets it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import WORDS_OF_EVIDENCE, Entry, Evidence, Fault, Origin
from moorings.errors.exceptions import Failure, MooringsError, error, failure
from moorings.errors.sentence import verbatim

SRC = Path(__file__).parents[3] / "src" / "moorings"
SOURCES = sorted(p for p in SRC.rglob("*.py") if "catalogue" not in p.relative_to(SRC).parts)
MAKERS = ("error", "failure")

OTHER_STATUS = {
    "InstanceLost": "the gateway answers a scoring request so: the model's worker went away",
    "NoHealthyInstance": "the gateway answers a scoring request so: nothing serves now",
    "PythonNotFound": "the spec asks for it, the machine has not got it",
}
"""User's faults with a status of 5xx, or others with 4xx, and why."""

EDITS = (
    "Correct ",
    "Remove ",
    "Add ",
    "Keep one",
    "Write it",
    "Check the reference",
    "set `version:`",
    "leave the setting",
    "See the interface",
    "send this one again",
    "report it with the request id",
    "MOORINGS_HOME",
    "send the request again",
    "name a registered version",
    "ls -l",
    "find {path}",
    "chmod",
    "cp -r",
    "lsof",
    "df -h",
    "uv python install",
    "uv pip install",
    "pip install",
    "{command}",
)
"""What a fix may tell to do, where no `moor` command helps."""


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args:
                yield path, node


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


@functools.cache
def texts(path: Path) -> frozenset[str]:
    """Every string constant and keyword name of a module."""
    tree = ast.parse(path.read_text())
    found = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return frozenset(found) | {n.arg for n in ast.walk(tree) if isinstance(n, ast.keyword) and n.arg}


def fields_of(entry: Entry) -> set[str]:
    return set(re.findall(r"{(\w+)}", entry.fix))


def test_every_code_that_is_raised_by_name_is_in_the_catalogue() -> None:
    literal = [
        (path.name, call.args[0].value)
        for path, call in calls()
        if name_of(call) in MAKERS
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    ]
    assert len(literal) > 50, "the scan finds next to nothing: it is broken"
    assert [found for found in literal if found[1] not in CATALOGUE] == []


def test_every_entry_is_raised_somewhere() -> None:
    used = set().union(*(texts(path) for path in SOURCES))
    here = {code for code, entry in CATALOGUE.items() if entry.origin is Origin.MOORINGS}
    assert here - used == set(), "raise it, or say with `origin` who does"


def test_what_an_entry_says_nobody_here_raises_is_raised_nowhere() -> None:
    """A Kubernetes engine raises its codes in a module of its own: then the words of `origin.kubernetes` change."""
    others = {code for code, entry in CATALOGUE.items() if entry.origin is not Origin.MOORINGS}
    assert len(others) >= 20
    assert others & set().union(*(texts(path) for path in SOURCES)) == set()


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda e: e.code)
def test_an_entry_says_what_why_and_what_to_do(entry: Entry) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z]+", entry.code)
    assert entry.title.strip()
    assert not entry.title.endswith(".")
    assert entry.cause.strip().endswith(".")
    assert "moor " in entry.fix or any(edit in entry.fix for edit in EDITS)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda e: e.code)
def test_the_status_of_an_entry_fits_whose_fault_it_is(entry: Entry) -> None:
    assert 400 <= entry.http_status < 600
    fits = (entry.http_status < 500) == (entry.fault is Fault.USER)
    assert fits == (entry.code not in OTHER_STATUS)
    if entry.http_status == 503:
        assert entry.retryable or entry.fault is not Fault.USER


def test_numeric_codes_are_of_the_known_form() -> None:
    numbers = [e.numeric for e in CATALOGUE.values() if e.numeric is not None]
    assert len(numbers) >= 2
    assert all(re.fullmatch(r"ERR_\d{4}", n) for n in numbers)


@pytest.mark.parametrize("entry", [e for e in CATALOGUE.values() if fields_of(e)], ids=lambda e: e.code)
def test_every_field_of_a_fix_is_filled_where_the_code_is_made(entry: Entry) -> None:
    makers = [path for path in SOURCES if entry.code in texts(path)]
    if not makers:  # nothing raises it yet: see above
        return
    known: set[str] = set().union(*(texts(path) for path in makers))
    everywhere: set[str] = set().union(
        *(texts(path) for path in SOURCES if path.parent in {m.parent for m in makers})
    )
    for name in fields_of(entry):
        assert name in known or name in everywhere, f"nobody gives {{{name}}} to {entry.code}"


def test_who_attaches_evidence_has_declared_it() -> None:
    found = [
        (path.name, call.lineno, argument.value)
        for path, call in calls()
        if any(keyword.arg == "evidence" for keyword in call.keywords)
        for argument in call.args[:2]
        if isinstance(argument, ast.Constant) and argument.value in CATALOGUE
    ]
    assert len(found) > 40, "the scan finds next to nothing: it is broken"
    assert [one for one in found if not CATALOGUE[one[2]].evidence] == []


@pytest.mark.parametrize("entry", [e for e in CATALOGUE.values() if e.evidence], ids=lambda e: e.code)
def test_declared_evidence_is_attached_by_somebody(entry: Entry) -> None:
    assert len(set(entry.evidence)) == len(entry.evidence)
    makers = [path for path in SOURCES if entry.code in texts(path)]
    packages = {path.parent for path in makers}  # problems of a spec get theirs beside where they are found
    near = [path for path in SOURCES if path.parent in packages]
    assert not makers or any("evidence=" in path.read_text() for path in near)


def test_every_kind_of_evidence_has_words_and_a_use() -> None:
    assert set(WORDS_OF_EVIDENCE) == set(Evidence)
    assert {kind for entry in CATALOGUE.values() for kind in entry.evidence} == set(Evidence)


def test_a_fix_with_unknown_fields_stays_readable() -> None:
    assert "-n <endpoint>" in failure("EndpointNotFound", "x").fix
    assert "-n shop" in failure("EndpointNotFound", "x", fields={"endpoint": "shop"}).fix


def test_a_failure_survives_json() -> None:
    inner = failure("RequestInvalid", "inner", target="a.b")
    outer = failure(
        "SpecInvalid", "outer", evidence=("line 1", "line 2"), details=(inner,), fix=verbatim("do it")
    )
    assert type(outer).from_json(outer.to_json()) == outer


def test_a_failure_that_an_older_version_stored_has_the_code_of_today() -> None:
    stored = {
        "code": "ImageBuildFailed",
        "message": "step 3",
        "details": [{"code": "LimitReached", "message": "x"}],
    }
    read = Failure.from_json(stored)
    assert read.entry is CATALOGUE["ImageBuildFailure"]
    assert read.details[0].code == "EndpointQuotaReached"


def test_a_code_that_is_not_in_the_catalogue_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        error("NoSuchCode", "x")


def test_an_error_prints_its_code_and_message() -> None:
    problem = error("EndpointNotFound", "endpoint shop does not exist")
    assert isinstance(problem, MooringsError)
    assert str(problem) == "(EndpointNotFound) endpoint shop does not exist"
