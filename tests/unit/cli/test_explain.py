"""`moor explain`: without a workspace, for people and for scripts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from moorings.cli.framework import LANGUAGES
from moorings.cli.main import run
from moorings.cli.session import Session
from moorings.errors import language
from moorings.errors.catalogue import CATALOGUE


def explained(capsys: pytest.CaptureFixture[str], *words: str, lang: str = "C") -> str:
    session = Session(environ={"LANG": lang, "MOORINGS_HOME": "/nonexistent-moorings"})
    assert run(["explain", *words], session) == 0
    return capsys.readouterr().out


def test_a_code_says_what_why_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    entry = CATALOGUE["ImagePullDenied"]
    shown = explained(capsys, "imagepulldenied")
    assert shown.startswith("ImagePullDenied (ERR_1200)  The registry refuses to give the image\n")
    assert " ".join(entry.cause.split()) in " ".join(shown.split())
    assert "docker login <registry>" in shown
    assert "HTTP status: 400" in shown
    assert "Numeric code: ERR_1200" in shown


def test_a_command_of_a_fix_is_not_broken_into_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert "moor online-deployment update -e <endpoint> -n <deployment> -f <deployment.yml>" in explained(
        capsys, "ResourceNotReady"
    )


@pytest.mark.parametrize("words", [["ERR_1350"], ["1350"], ["err", "1350"]])
def test_a_number_lists_its_codes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained(capsys, *words)
    assert shown.startswith("ERR_1350  ")
    for code in ("ArtifactsTooLarge", "DiskFull", "DockerDiskFull"):
        assert f"  {code} " in shown


def test_related_codes_are_listed_where_they_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    few = explained(capsys, "ImagePullDenied")
    assert "\n  ImageNotFound " in few
    many = explained(capsys, "UserScriptImportError").splitlines()
    assert many[-1] == "Related: moor explain ERR_2200"


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    one = json.loads(explained(capsys, "OutOfQuotaCpu", "-o", "json"))
    assert one["code"] == "OutOfQuota"
    assert one["numeric_code"] == "ERR_1100"
    assert one["evidence"] == ["quota"]
    assert one["http_status"] == 400
    assert one["retryable"] is False
    several = json.loads(explained(capsys, "1200", "-o", "json"))
    assert several["code"] == "ERR_1200"
    assert {"ImageNotFound", "ImagePullDenied"} <= {entry["code"] for entry in several["entries"]}
    listed = json.loads(explained(capsys, "-o", "json"))
    assert {entry["code"] for entry in listed} == set(CATALOGUE)


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(capsys).splitlines()
    assert len(lines) >= len(CATALOGUE)
    assert any(line.startswith("EndpointNotFound") and "404" in line for line in lines)


def test_an_unknown_code_is_a_coded_failure_with_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "EndpontNotFound"]) == 1
    shown = capsys.readouterr().err
    assert "(CodeUnknown)" in shown
    assert "did you mean EndpointNotFound" in shown
    assert "moor explain EndpointNotFound" in shown


def test_the_languages_of_the_flag_are_those_there_are() -> None:
    assert LANGUAGES == language.LANGUAGES


def test_neither_help_nor_an_english_answer_loads_translations() -> None:
    script = (
        "import sys; from moorings.cli.main import run; run(sys.argv[1:]);"
        "print([m for m in ('polib',) if m in sys.modules], file=sys.stderr)"
    )
    for words, loaded in (
        (["--help"], "[]"),
        (["explain", "1350", "--lang", "en"], "[]"),
        (["explain", "1350", "--lang", "fr"], "['polib']"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
        )
        assert done.stderr.strip() == loaded, words


@pytest.mark.parametrize(
    ("words", "lang", "said"),
    [
        ([], "fr_FR.UTF-8", "L'instance a manqué de mémoire"),
        (["--lang", "de"], "fr_FR.UTF-8", "Der Instanz ging der Speicher aus"),
        (["--lang", "ES"], "C", "La instancia se quedó sin memoria"),
        ([], "ja_JP.UTF-8", "インスタンスのメモリが足りなくなりました"),
        ([], "pt_BR.UTF-8", "The instance ran out of memory"),
    ],
)
def test_it_speaks_the_language_of_the_flag_or_of_the_terminal(
    words: list[str], lang: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = explained(capsys, "OutOfMemory", *words, lang=lang)
    assert said in shown
    assert "moor online-deployment update -e <endpoint> -n <deployment>" in shown
    assert json.loads(explained(capsys, "OutOfMemory", *words, "-o", "json", lang=lang))["title"] == said


def test_a_failure_of_a_command_is_told_in_the_language(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(environ={"LANG": "fr_FR.UTF-8"})
    assert run(["explain", "EndpontNotFound"], session) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("ERROR: (CodeUnknown) ")
    assert "Il n'y a pas d'erreur de ce nom" in shown
    assert "EndpointNotFound: Le point de terminaison n'existe pas" in shown
    assert (
        "Remède : Voir tout ce qu'il y a : moor explain   ou l'une des plus proches : moor explain EndpointNotFound"
        in shown
    )
