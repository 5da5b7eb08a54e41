"""Failures as text for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from moorings.cli.main import run
from moorings.cli.report import render
from moorings.client.faults import from_body
from moorings.errors.exceptions import MooringsError, error, failure


def test_the_whole_text_of_a_failure() -> None:
    problem = error(
        "InvokeModelFailed",
        "POST http://x answered 424",
        target="http://x/score",
        evidence=("status: 500", "Traceback:\n  boom"),
        fields={"endpoint": "shop", "deployment": "blue"},
    )
    assert render(problem) == (
        "ERROR: (InvokeModelFailed) POST http://x answered 424\n"
        "\n"
        "  The model answered with an error\n"
        "  run() raised, or returned a status other than 200; the headers below say which.\n"
        "\n"
        "  Where: http://x/score\n"
        "\n"
        "  Evidence:\n"
        "    status: 500\n"
        "    Traceback:\n"
        "      boom\n"
        "\n"
        "  Fix: Read its log: moor online-deployment get-logs -n blue -e shop -l 100\n"
    )


def test_every_problem_of_one_input_is_listed_with_its_place() -> None:
    details = [
        failure("SpecInvalid", f"key {n} is wrong", target=f"a.yml:{n}:3 key", evidence=(f"{n} | key: x",))
        for n in (4, 9)
    ]
    text = render(MooringsError(failure("SpecInvalid", "2 problems", details=details)))
    assert "  - a.yml:4:3 key: key 4 is wrong\n      4 | key: x\n" in text
    assert text.index("a.yml:4:3") < text.index("a.yml:9:3")


def test_codes_from_a_newer_server_keep_their_words() -> None:
    info = {"title": "T", "cause": "C", "numericCode": "ERR_1", "fix": "F", "evidence": ["E"]}
    body = {"code": "NewCode", "message": "M", "additionalInfo": [{"type": "moorings", "info": info}]}
    text = render(from_body(body))
    assert text.startswith("ERROR: (NewCode, ERR_1) M\n\n  T\n  C\n")
    assert text.endswith("  Evidence:\n    E\n\n  Fix: F\n")


def test_an_unknown_code_without_words_still_reads() -> None:
    assert render(from_body({"code": "Strange", "message": "m"})) == "ERROR: (Strange) m\n"


def test_the_terminal_is_not_at_the_mercy_of_a_model() -> None:
    text = render(error("InvokeModelFailed", "m", evidence=("\x1b[2J\x07gone\x9b",)))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\x9b" not in text
    assert "gone" in text


def test_the_request_id_is_shown_when_it_helps() -> None:
    problem = from_body({"code": "EndpointNotFound", "message": "m"}, request_id="r-1")
    assert "r-1" not in render(problem)
    assert "r-1" in render(problem, with_request_id=True)
    assert "r-2" in render(from_body({"code": "InternalServerError", "message": "m"}, request_id="r-2"))


def test_a_defect_that_hits_the_crash_log_too_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken(*_: object) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr("moorings.cli.session.Settings.load", broken)
    assert run(["online-endpoint", "list"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("ERROR: (InternalError) TypeError: a defect")
    assert "Traceback" not in told
