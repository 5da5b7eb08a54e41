"""Credentials and limits as users handle them: the commands, a switch of the mode under load, what `show` says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest


def test_each_mode_gives_its_own_credentials(site):
    keys = site.workspace.json("online-endpoint", "get-credentials", "-n", "conf")
    assert set(keys) == {"primaryKey", "secondaryKey"}
    token = site.workspace.json("online-endpoint", "get-credentials", "-n", "strict")
    assert set(token) == {"accessToken", "expiryTimeUtc", "refreshAfterTimeUtc", "tokenType"}
    assert token["tokenType"] == "Bearer"
    now = time.time()
    assert now < token["refreshAfterTimeUtc"] < token["expiryTimeUtc"] <= now + 3601


def test_invoke_gets_itself_a_token(site):
    request = Path(site.workspace.files) / "request.json"
    request.write_text("[1, 2]")
    done = site.workspace.moor("online-endpoint", "invoke", "-n", "strict", "-r", str(request))
    assert json.loads(done.stdout) in ([1, 2], "[1, 2]")


def test_keys_of_an_endpoint_with_tokens_are_refused(site):
    done = site.workspace.moor("online-endpoint", "regenerate-keys", "-n", "strict", check=False)
    assert done.returncode != 0
    assert "NotKeyAuth" in done.stderr


def test_show_says_which_limits_hold(site):
    shown = site.workspace.json("online-endpoint", "show", "-n", "strict")
    assert shown["properties"]["moorings"] == {"max_request_bytes": 1000}
    assert shown["limits"] == {
        "rate_limit_per_s": 1_000_000,
        "max_request_bytes": 1000,
        "max_response_bytes": 1_572_864,
    }


def test_a_limit_changes_on_a_live_endpoint_and_out_of_range_is_refused(site):
    update = ("online-endpoint", "update", "-n", "strict", "--set")
    site.workspace.moor(*update, "properties.moorings.max_request_bytes=2000")
    body = b"[1]" + b" " * 1500
    assert site.workspace.score("strict", body, key=site.target.token).status == 200
    site.workspace.moor(*update, "properties.moorings.max_request_bytes=1000")
    assert site.workspace.score("strict", body, key=site.target.token).status == 413
    done = site.workspace.moor(*update, "properties.moorings.rate_limit_per_s=0", check=False)
    assert done.returncode != 0
    assert "properties.moorings.rate_limit_per_s" in done.stderr


def test_a_switch_of_the_mode_refuses_nobody_who_goes_over_in_time(site):
    """One client holds a key all the time, another goes over to a token as soon as it can have one."""
    key = site.target.key
    held = {"key": key, "new": key}
    seen: dict[str, list[int]] = {"key": [], "new": []}
    stop = threading.Event()

    def client(name: str) -> None:
        while not stop.is_set():
            seen[name].append(site.workspace.score("conf", [1], key=held[name]).status)

    threads = [threading.Thread(target=client, args=(name,)) for name in seen]
    for thread in threads:
        thread.start()
    try:
        site.workspace.moor("online-endpoint", "update", "-n", "conf", "--set", "auth_mode=aml_token")
        token = site.workspace.json("online-endpoint", "get-credentials", "-n", "conf")["accessToken"]
        held["new"] = token
        time.sleep(0.5)
        site.workspace.moor("online-endpoint", "update", "-n", "conf", "--set", "auth_mode=key")
        time.sleep(0.5)
        held["new"] = key
        time.sleep(0.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {status for statuses in seen.values() for status in statuses} == {200}
    assert min(len(statuses) for statuses in seen.values()) > 50


def test_a_token_does_not_outlive_its_endpoint(site):
    """Made again under its name, it is another endpoint."""
    make = ("online-endpoint", "create", "-n", "fleeting", "--auth-mode", "aml_token")
    site.workspace.moor(*make)
    token = site.workspace.json("online-endpoint", "get-credentials", "-n", "fleeting")["accessToken"]
    assert site.workspace.score("fleeting", [1], key=token).status == 404
    site.workspace.moor("online-endpoint", "delete", "-n", "fleeting", "--yes")
    site.workspace.moor(*make)
    assert site.workspace.score("fleeting", [1], key=token).status == 401
    site.workspace.moor("online-endpoint", "delete", "-n", "fleeting", "--yes")


@pytest.mark.parametrize("only", ["credentials: "])
def test_the_standalone_runner_runs_the_same_table(site, only):
    target = site.target
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).parent / "run.py"),
            f"http://{target.host}",
            *("--key", target.key, "--token", target.token, "--idle-key", target.idle_key),
            *("--home-key", target.home_key, "--only", only),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "rows as expected" in done.stdout
