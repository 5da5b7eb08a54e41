"""Runs rows of the table and says what differs. Standard library only."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

from case import CLOSED, Case, Target
from wire import Answer, Outcome, exchange

OWN_SUCCESS = frozenset((200,))


def run_case(case: Case, target: Target, address: tuple[str, int]) -> tuple[Outcome, list[str]]:
    """What came back, and everything that is not as the row says."""
    outcome = exchange(
        address,
        case.parts(target),
        wait_for=case.answers,
        head=case.method == "HEAD",
        half_close=case.half_close,
    )
    return outcome, list(differences_of(case, outcome))


def differences_of(case: Case, outcome: Outcome) -> Iterator[str]:
    """Everything about the outcome that is not as the row says."""
    if not outcome.answers:
        if CLOSED not in case.status or not outcome.closed:
            yield f"no answer; closed: {outcome.closed}; received {outcome.left[:200]!r}"
        return
    exact = len(outcome.answers) == case.answers
    if not exact and not (outcome.closed and len(case.status) > 1):
        yield f"{len(outcome.answers)} answers instead of {case.answers}"
    for answer in outcome.answers:
        yield from _of_answer(case, answer)


def _of_answer(case: Case, answer: Answer) -> Iterator[str]:
    if answer.status not in case.status:
        yield f"status {answer.status}, not {case.status}: {answer.body[:200]!r}"
        return
    yield from _always(case, answer)
    if case.code is not None and answer.error.get("code") != case.code:
        yield f"code {answer.error.get('code')}, not {case.code}"
    message = str(answer.error.get("message", ""))
    yield from (f"the message does not say {text!r}: {message}" for text in case.says if text not in message)
    for name, value in case.has:
        if answer.headers.get(name) != value:
            yield f"header {name}: {answer.headers.get(name)!r}, not {value!r}"
    if case.answer is not ... and answer.status == 200:
        try:
            got = json.loads(answer.body)
        except ValueError:
            got = answer.body[:200]
        if got != case.answer:
            yield f"answer {str(got)[:200]}, not {str(case.answer)[:200]}"


def _always(case: Case, answer: Answer) -> Iterator[str]:
    """What holds for every answer."""
    given = answer.headers.get("x-request-id", "")
    try:
        if uuid.UUID(given) == uuid.UUID("00000000-0000-4000-8000-000000000000"):
            yield "the request id is the caller's"
    except ValueError:
        # Bytes that are no request have no id.
        if case.raw is None:
            yield f"x-request-id {given!r} is no GUID"
    if answer.status == 424:
        missing = {"ms-azureml-model-error-reason", "azureml-model-deployment"} - set(answer.headers)
        yield from (f"424 without {name}" for name in sorted(missing))
    elif answer.status == 200:
        if case.path.endswith("score") and "azureml-model-deployment" not in answer.headers:
            yield "200 without azureml-model-deployment"
    elif case.own_error and given:
        error = answer.error
        if not {"code", "message", "request_id"} <= set(error):
            yield f"the error is not of the one shape: {answer.body[:200]!r}"
        elif error["request_id"] != given:
            yield "the error names another request id than the header"
    if answer.status in (500, 502, 503, 504):
        yield f"{answer.status} is for the platform's own faults"
