"""Tokens at the gateway: who gets in, rotation of the signer's keys, a switch of the mode under load."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
import time

import pytest

from moorings.gateway.state import TOKENS
from moorings.lib.timing import ManualClock
from moorings.security.tokens import LIFETIME_S, TokenIssuer

KEYS = ("key-one", "key-two")


def issuer_at(folder, offset_s: float = 0.0) -> TokenIssuer:
    return TokenIssuer(folder / "token-keys.json", ManualClock(time.time() + offset_s))


@pytest.fixture(scope="module")
def worker(kit):
    return kit.backends.start("guarded", gate=50)


@pytest.fixture
def issuer(tmp_path, shared, kit, worker):
    """Endpoints `vault` (tokens only) and `both` (a grace: keys and tokens)."""
    found = issuer_at(tmp_path)
    publish_keys(shared, kit, found)
    shared.put(
        kit.endpoint("vault", kit.route("blue", worker, mc=50), keys=(), token_audience="endpoint:a"),
        kit.endpoint("both", kit.route("blue", worker, mc=50), token_audience="endpoint:b"),
    )
    yield found
    shared.drop("vault")
    shared.drop("both")


def publish_keys(shared, kit, issuer: TokenIssuer) -> None:
    shared.token_keys = issuer.public_keys()
    version = shared.publish([])[TOKENS]
    kit.until(lambda: shared.status.accepted.get(TOKENS) == version, say=lambda: shared.status)


def test_a_token_opens_its_own_endpoint_and_no_other(shared, issuer):
    mine, theirs = issuer.issue("endpoint:a", "vault").text, issuer.issue("endpoint:b", "both").text
    assert shared.score("vault", key=mine).status == 200
    assert shared.score("vault", key=theirs).status == 401
    assert shared.score("both", key=theirs).status == 200
    assert shared.score("vault", key="key-one").status == 401


def test_the_worker_never_sees_the_token(shared, issuer, worker):
    worker.seen.clear()
    assert shared.score("vault", key=issuer.issue("endpoint:a", "vault").text).status == 200
    assert all("authorization" not in headers for _, headers, _ in worker.seen)


def test_what_is_wrong_with_a_token_is_401(shared, issuer, tmp_path):
    token = issuer.issue("endpoint:a", "vault").text
    head, body, signature = token.split(".")
    forged = dict(json.loads(base64.urlsafe_b64decode(body + "==")), aud="endpoint:a", exp=9999999999)
    forged_body = base64.urlsafe_b64encode(json.dumps(forged).encode()).rstrip(b"=").decode()
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    elsewhere = TokenIssuer(tmp_path / "other.json", ManualClock(time.time()))
    expired = issuer_at(tmp_path, -LIFETIME_S - 5)
    wrong = {
        "changed payload": f"{head}.{forged_body}.{signature}",
        "unsigned": f"{unsigned}.{forged_body}.",
        "no signature": f"{head}.{body}",
        "another signer": elsewhere.issue("endpoint:a", "vault").text,
        "expired": expired.issue("endpoint:a", "vault").text,
        "empty": "",
        "twice": f"{token}, Bearer {token}",
    }
    for what, text in wrong.items():
        answer = shared.score("vault", key=text)
        assert (answer.status, answer.code) == (401, "Unauthorized"), what
        assert answer.headers["www-authenticate"] == "Bearer"
    assert shared.score("vault", key=token).status == 200


def test_a_token_in_the_query_opens_nothing(shared, issuer):
    token = issuer.issue("endpoint:a", "vault").text
    path = f"/api/v1/endpoint/vault/score?access_token={token}"
    assert shared.ask(path, None).status == 401


def test_new_keys_of_the_signer_are_taken_without_a_restart_and_old_tokens_live_on(shared, kit, issuer):
    pid = shared.status.envoy_pid
    old = issuer.issue("endpoint:a", "vault").text
    issuer.rotate()
    publish_keys(shared, kit, issuer)
    issuer._clock.advance(700)
    new = issuer.issue("endpoint:a", "vault").text
    kids = {json.loads(base64.urlsafe_b64decode(t.split(".")[0] + "=="))["kid"] for t in (old, new)}
    assert len(kids) == 2
    assert [shared.score("vault", key=t).status for t in (old, new)] == [200, 200]
    assert shared.status.envoy_pid == pid


def test_a_switch_of_the_mode_under_load_fails_no_request_of_who_has_both(shared, kit, worker, issuer):
    """Each client goes over to the other credential at a moment of its own, before the grace ends."""
    route = kit.endpoint("moving", kit.route("blue", worker, mc=50))
    shared.put(route)
    token = issuer.issue("endpoint:m", "moving").text
    now = {"credential": "key-one"}
    with kit.load(shared, "moving", lambda: now["credential"]) as load:
        kit.until(lambda: load.total > 50)
        # Keys to tokens: the grace, then the clients, then the end of the grace.
        shared.put(dataclasses.replace(route, token_audience="endpoint:m"))
        now["credential"] = token
        seen = load.total
        kit.until(lambda: load.total > seen + 50)
        shared.put(dataclasses.replace(route, keys=(), token_audience="endpoint:m"))
        seen = load.total
        kit.until(lambda: load.total > seen + 50)
        assert shared.score("moving", key="key-one").status == 401
        # And back.
        shared.put(dataclasses.replace(route, token_audience="endpoint:m"))
        now["credential"] = "key-two"
        seen = load.total
        kit.until(lambda: load.total > seen + 50)
        shared.put(route)
        seen = load.total
        kit.until(lambda: load.total > seen + 50)
    assert load.failures == {}
    assert shared.score("moving", key=token).status == 401
    shared.drop("moving")


def test_rotation_under_load_fails_no_request(shared, kit, issuer):
    token = issuer.issue("endpoint:a", "vault").text
    with kit.load(shared, "vault", lambda: token) as load:
        for _ in range(3):
            issuer.rotate()
            publish_keys(shared, kit, issuer)
            seen = load.total
            kit.until(lambda seen=seen: load.total > seen + 30)
    assert load.failures == {}


def test_a_restart_of_envoy_keeps_the_keys_of_tokens(shared, kit, issuer):
    import os
    import signal

    token = issuer.issue("endpoint:a", "vault").text
    pid = shared.status.envoy_pid
    os.kill(pid, signal.SIGKILL)
    kit.until(lambda: shared.status.ready and shared.status.envoy_pid not in (None, pid))
    kit.until(lambda: all(shared.status.healthy.get(c) for c in ("vault~blue", "both~blue")))
    assert shared.score("vault", key=token).status == 200
    assert threading.active_count() < 50
