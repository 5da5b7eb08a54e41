"""Answers that are kept for a comparison: only while requests ask for it, bounded, and handed out once."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from moorings_server import contract, kept
from moorings_server.kept import KeptAnswers

SCRIPT = """
    import json

    def init(): pass

    def run(data):
        data = json.loads(data)
        if data == "stream":
            return iter(["a", "b"])
        if data == "long":
            return "x" * 20000
        if data == "raise":
            raise ValueError("no")
        return data
"""
ASKED = contract.HEADER_COMPARE + ": 1"


@pytest.fixture(scope="module")
def worker(start_module: Any) -> Iterator[Any]:
    yield start_module(SCRIPT).ready()


def collect(worker: Any, make_post: Any, wanted: str) -> list[list[Any]]:
    line = f"{contract.HEADER_COLLECT}: {wanted}"
    answer = worker.ask(make_post(b"", line, target=contract.ROUTE_KEPT, method="GET"))
    assert answer.status == 200
    return answer.json["answers"]  # type: ignore[no-any-return]


def test_nothing_is_kept_before_a_request_asks_for_it(start: Any, make_post: Any) -> None:
    worker = start(SCRIPT).ready()
    assert worker.score(b"1", "x-request-id: before").status == 200
    assert collect(worker, make_post, "*") == []
    assert worker.score(b"2", "x-request-id: asked", ASKED).body == b"2"
    ((id_, status, ms, length, digest, text),) = collect(worker, make_post, "before,asked,never")
    assert (id_, status, length, base64.b64decode(text)) == ("asked", 200, 1, b"2")
    assert ms > 0
    assert len(digest) == 32
    assert collect(worker, make_post, "*") == [], "handed out once"


def test_what_kinds_of_answers_look_like(worker: Any, make_post: Any) -> None:
    for word in ("stream", "long", "raise"):
        worker.score(json.dumps(word).encode(), f"x-request-id: {word}", ASKED)
    found = {each[0]: each[1:] for each in collect(worker, make_post, "stream,long,raise")}
    status, _, length, digest, text = found["stream"]
    assert (status, length, digest, text) == (200, None, "", None)
    status, _, length, digest, text = found["long"]
    assert (status, length, len(digest), text) == (200, 20002, 32, None)
    status, _, length, _, text = found["raise"]
    assert (status, length) == (500, len(base64.b64decode(text)))


def test_without_the_header_there_is_no_such_route(worker: Any, make_post: Any) -> None:
    assert worker.ask(make_post(b"", target=contract.ROUTE_KEPT, method="GET")).status == 404
    line = contract.HEADER_COLLECT + ": *"
    assert worker.ask(make_post(b"{}", line, target=contract.ROUTE_KEPT)).status == 404
    assert worker.ask(make_post(b"7", line)).body == b"7", "elsewhere it means nothing"


def test_an_answer_is_the_same_whether_it_is_kept_or_not(worker: Any) -> None:
    plain, asked = (worker.score(b"[1, 2]", "x-request-id: a", *lines) for lines in ((), (ASKED,)))
    assert plain.body == asked.body
    names = [[name for name, _ in answer.headers] for answer in (plain, asked)]
    assert names[0] == names[1]


def test_memory_is_bounded() -> None:
    answers = KeptAnswers()
    for n in range(2 * kept.MOST):
        answers.note(b"%d" % n, 200, 1.0, b"x")
    assert len(answers) == kept.MOST
    for n in range(1000):
        answers.note(b"long %d" % n, 200, 1.0, b"x" * kept.BODY_BYTES)
    assert len(answers) == kept.TOTAL_BYTES // kept.BODY_BYTES
    answers.note(b"long 999", 200, 1.0, b"y")
    document = json.loads(answers.take(b"*"))
    assert document["answers"][0][0] == "long 999", "the newest first"
    assert 1 < len(document["answers"]) <= contract.KEPT_AT_ONCE
    assert len(document["answers"]) + document["skipped"] == kept.TOTAL_BYTES // kept.BODY_BYTES
    assert json.loads(answers.take(b"*")) == {"answers": [], "skipped": 0}
    answers.note(b"a", 200, 1.0, b"x" * kept.BODY_BYTES)
    assert len(answers) == 1


def test_all_is_forgotten_a_while_after_the_last_request_that_asked() -> None:
    import asyncio

    from moorings_server.service import Service

    class Swagger:
        pass

    loop = asyncio.new_event_loop()
    service = Service(
        loop, lambda _: None, Swagger(), None, lambda *_: None, wants_headers=False, version_header=False
    )
    timers: list[Any] = []
    loop.call_later = lambda delay, then: timers.append((delay, then))  # type: ignore[assignment, method-assign, return-value]
    service.keep_answers()
    service.keep_answers()
    assert service.kept is not None
    assert [delay for delay, _ in timers] == [kept.KEEP_S]
    timers.pop()[1]()
    assert service.kept is not None
    ((delay, then),) = timers
    assert 0 < delay <= kept.KEEP_S
    service.kept.wanted_at = time.perf_counter() - kept.KEEP_S
    then()
    assert service.kept is None
    loop.close()
