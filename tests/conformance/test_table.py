"""Every row of the table against the process engine, through the real gateway; then what is left behind."""

from __future__ import annotations

import concurrent.futures
import json
import re
import time

import pytest
from case import LIMIT, Case
from judge import differences_of, run_case
from table import table
from wire import Answer, Outcome, exchange

ROWS = table()


@pytest.fixture(scope="module")
def seen() -> list[tuple[Case, Outcome]]:
    """What came back, row by row, in the order of the run."""
    return []


@pytest.fixture(scope="module", autouse=True)
def log_start(site) -> int:
    """Bytes of the access log that earlier tests wrote; it is flushed once a second."""
    before, size = -1, 0
    while size != before:
        time.sleep(1.3)
        before, size = size, site.access_log.stat().st_size if site.access_log.exists() else 0
    return size


def test_the_table_is_long_enough_to_be_a_contract():
    assert len(ROWS) >= 300


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_row(site, seen, row):
    outcome, differences = run_case(row, site.target, site.address)
    seen.append((row, outcome))
    assert not differences, "\n".join(differences)


def test_no_slot_is_held_and_no_worker_was_lost(site, seen):
    """As many requests as may run and wait, at once, are all answered."""
    case = Case("all slots", body=json.dumps({"do": "sleep", "ms": 100}).encode())
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: run_case(case, site.target, site.address)[0], range(8)))
    assert [a.status for o in outcomes for a in o.answers] == [200] * 8
    restarts = [p for p in site.workspace.processes() if p["role"].startswith("worker")]
    assert len(restarts) >= 3


def test_the_access_log_accounts_for_every_request(site, seen, log_start):
    """Each answer's id is in the log once, with its status; a request that got no answer is in it at most once."""
    answers = {
        a.headers["x-request-id"]: a for _, o in seen for a in o.answers if "x-request-id" in a.headers
    }
    deadline = time.monotonic() + 10
    while True:
        written = site.access_log.read_bytes()[log_start:].decode().splitlines()
        lines = [json.loads(line) for line in written if line.endswith("}")]
        logged = {line["request_id"]: line for line in lines}
        if answers.keys() <= logged.keys() or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert answers.keys() - logged.keys() == set()
    assert {i: a.status for i, a in answers.items()} == {i: logged[i]["code"] for i in answers}
    assert len(lines) >= sum(len(o.answers) for _, o in seen if o.answers)
    unanswered = [line for line in lines if line["request_id"] not in answers]
    quiet = sum(row.answers if not o.answers else 1 for row, o in seen if o.closed)
    # Eight are those of the test before this one.
    assert len(unanswered) <= quiet + 8 + sum(
        1 for _, o in seen for a in o.answers if "x-request-id" not in a.headers
    )


def test_nothing_secret_is_in_the_access_log(site, seen):
    text = site.access_log.read_text()
    for secret in (site.target.key, site.target.token, site.target.idle_key, site.target.home_key):
        assert secret not in text
    assert not re.search(r"access_token", text)


def test_slow_senders_hold_no_slot(site):
    """More callers than there are slots, each with half a body: the next one is answered at once."""
    import socket

    head = Case("slow", headers=(("X-A", "b"),), body=b"x" * LIMIT).parts(site.target)[0]
    assert isinstance(head, bytes)
    callers = [socket.create_connection(site.address, timeout=10) for _ in range(20)]
    try:
        for caller in callers:
            caller.sendall(head[: len(head) - LIMIT // 2])
        began_s = time.monotonic()
        _, differences = run_case(Case("quick", body=b"[1]", answer=[1]), site.target, site.address)
        assert not differences
        assert time.monotonic() - began_s < 5
    finally:
        for caller in callers:
            caller.close()


def test_the_runner_says_what_differs(site):
    """The same judge finds a wrong status, body and header."""
    wrong = (
        Case("wrong status", status=(404,)),
        Case("wrong body", body=b"[1]", answer=[2]),
        Case("wrong header", has=(("azureml-model-deployment", "other"),)),
        Case("wrong code", credential=None, status=(401,), code="NoTraffic"),
        Case("too few", answers=2),
    )
    for row in wrong:
        outcome = exchange(site.address, row.parts(site.target), wait_for=row.answers, limit_s=1.0)
        assert isinstance(outcome.answers[0], Answer)
        assert list(differences_of(row, outcome)), row.name
