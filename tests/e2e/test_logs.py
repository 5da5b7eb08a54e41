"""One log for the whole life of a deployment, whatever it writes: through crashes, updates and its deletion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from moorings.engines.logintake import LINE_BYTES

SCRIPT = """
import json, os, threading

def init():
    print("init of VERSION")

def flood(size):
    line = b"a line of a library that says too much about every single thing it does\\n"
    chunk = line * (65536 // len(line))
    while size > 0:
        size -= os.write(1, chunk)
    os.write(1, b"the flood is over\\n")

def run(data):
    asked = json.loads(data)
    if "line_mb" in asked:
        for _ in range(asked["line_mb"]):
            left = 1000000
            while left:
                left -= os.write(1, b"z" * left)
        os.write(1, b"\\nafter the line\\n")
    if "flood_mb" in asked:
        threading.Thread(target=flood, args=(asked["flood_mb"] * 1000000,)).start()
    if "say" in asked:
        print(asked["say"])
    if "bytes" in asked:
        os.write(1, bytes(asked["bytes"]) + b"\\n")
    if "exit" in asked:
        print("about to exit", flush=True)
        os._exit(asked["exit"])
    return "VERSION"
"""
SETTINGS = {"logs": {"instance_bytes": 1024 * 1024, "instance_bytes_per_s": 256 * 1024}}


@pytest.fixture(scope="module")
def shop(workspace_factory: Any) -> Any:
    workspace = workspace_factory(SETTINGS)
    for name in ("logs", "calm"):
        workspace.endpoint(name)
        code = workspace.script(f"{name}-code", SCRIPT.replace("VERSION", "v1"))
        variables = {"STORE_PASSWORD": "correct-horse-battery"}
        workspace.deploy(workspace.spec(name, "blue", code, environment_variables=variables), "--all-traffic")
    return workspace


def lines(
    workspace: Any, *flags: str, endpoint: str = "logs", deployment: str = "blue"
) -> list[dict[str, str]]:
    found = workspace.json("online-deployment", "get-logs", "-e", endpoint, "-n", deployment, *flags)
    assert isinstance(found, list)
    return found


def until(workspace: Any, text: str, *flags: str) -> list[dict[str, str]]:
    deadline = time.monotonic() + 60
    while True:
        found = lines(workspace, *flags)
        if any(text in line["text"] for line in found):
            return found
        assert time.monotonic() < deadline, f"{text!r} is not in {[line['text'] for line in found][-20:]}"
        time.sleep(0.2)


def test_every_phase_is_in_one_stream_in_order(shop: Any) -> None:
    assert shop.score("logs", {}).status == 200
    found = until(shop, "POST /score 200")
    assert [line["time"] for line in found] == sorted(line["time"] for line in found)
    order = list(dict.fromkeys(line["phase"] for line in found))
    assert order[:2] == ["plan", "build"] and order[-1] == "serve"
    assert {"plan", "build", "initialise", "boot", "probe", "serve"} <= set(order)
    texts = "\n".join(f"{line['phase']} {line['text']}" for line in found)
    for expected in (
        "plan generation 1 accepted",
        "build Resolved 3 packages",
        "probe the readiness probe succeeds",
    ):
        assert expected in texts
    text = shop.moor("online-deployment", "get-logs", "-e", "logs", "-n", "blue").stdout
    assert re.search(r"^\d{4}-\d\d-\d\dT[\d:.]{12} boot +[0-9a-f]{12}-0 \| .*init of v1$", text, re.M)
    bare = shop.moor(
        "online-deployment", "get-logs", "-e", "logs", "-n", "blue", "-c", "inference-server"
    ).stdout
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} I ", bare)


def test_a_request_is_found_by_either_of_its_ids(shop: Any) -> None:
    answer = shop.score("logs", {"say": "a word of order 66"}, headers={"x-ms-client-request-id": "order-66"})
    request_id = {k.lower(): v for k, v in answer.headers.items()}["x-request-id"]
    for id_ in ("order-66", request_id):
        found = until(shop, "client_request_id=order-66", "--request-id", id_)
        while not any(line["container"] == "inference-server" for line in found):
            found = lines(shop, "--request-id", id_)
        assert {line["container"] for line in found} == {"gateway", "inference-server"}
        assert any("a word of order 66" in line["text"] for line in found), found
    assert lines(shop, "--request-id", "nobody-asked") == []


def test_a_refused_request_is_found_though_no_instance_has_seen_it(shop: Any) -> None:
    answer = shop.score("logs", {}, key="wrong", headers={"x-ms-client-request-id": "stranger-1"})
    assert answer.status == 401
    found = until(shop, "stranger-1", "--request-id", "stranger-1")
    assert [line["container"] for line in found] == ["gateway"]
    assert " 401 " in found[0]["text"]


def test_since_leaves_out_what_is_older(shop: Any) -> None:
    shop.score("logs", {"say": "a while ago"})
    until(shop, "a while ago")
    time.sleep(1.1)
    assert not [line for line in lines(shop, "--since", "1s") if "a while ago" in line["text"]]
    done = shop.moor(
        "online-deployment", "get-logs", "-e", "logs", "-n", "blue", "--since", "yesterday", check=False
    )
    assert done.returncode == 1 and "RequestInvalid" in done.stderr and "10m" in done.stderr


def test_secrets_do_not_get_into_the_log(shop: Any) -> None:
    key = shop.key("logs")
    told = {
        "say": f"correct-horse-battery {key} Authorization: Bearer {key} postgres://scott:tiger@db/x AKIAIOSFODNN7EXAMPLE "
        "done telling"
    }
    shop.score("logs", told)
    said = [line["text"] for line in until(shop, "done telling") if "done telling" in line["text"]]
    assert len(said) == 1
    assert said[0].endswith("*** *** Authorization: Bearer *** postgres://***@db/x *** done telling")
    kept = b"".join(p.read_bytes() for p in (shop.home / "logs" / "deployments").rglob("*.log"))
    for secret in (b"correct-horse-battery", b"tiger", b"AKIAIOSFODNN7EXAMPLE", b"Bearer " + key.encode()):
        assert secret not in kept


def test_bytes_of_no_encoding_are_shown(shop: Any) -> None:
    shop.score("logs", {"bytes": [*b"latin-1: ", 0xE9, 0xFF, 0, *b" end"]})
    assert until(shop, "latin-1")[-1]["text"].startswith("latin-1: \ufffd\ufffd\x00 end") or any(
        line["text"] == "latin-1: \ufffd\ufffd\x00 end" for line in lines(shop)
    )


def test_a_line_of_200_mb_is_cut_and_disturbs_nothing(shop: Any) -> None:
    supervisor = next(p for p in shop.processes() if p["role"] == "supervisor")["pid"]
    answer = shop.score("logs", {"line_mb": 200})
    assert answer.status == 200, answer.body
    found = until(shop, "after the line", "-c", "inference-server")
    assert max(len(line["text"]) for line in found) < LINE_BYTES + 100
    assert any("were dropped" in line["text"] or "line cut" in line["text"] for line in found)
    assert shop.score("logs", {}).status == 200
    peak_kib = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{supervisor}/status").read_text())[1])
    assert peak_kib < 64 * 1024


def test_a_flood_takes_no_more_disk_than_it_may_and_blocks_nobody(shop: Any) -> None:
    assert shop.score("logs", {"flood_mb": 500}).status == 200
    answers = []
    for _ in range(50):
        answers += [shop.score(name, {}).status for name in ("logs", "calm")]
    assert answers == [200] * 100
    found = until(shop, "the flood is over", "-c", "inference-server", "-l", "100000")
    notices = [line["text"] for line in found if "bytes of output" in line["text"]]
    assert notices, "what was dropped is said"
    for folder in (shop.home / "logs" / "deployments").glob("logs.blue/*"):
        sizes = [p.stat().st_size for p in folder.glob("inference-server.log*")] if folder.is_dir() else []
        assert sum(sizes) <= SETTINGS["logs"]["instance_bytes"]


def test_following_shows_a_crash_an_update_and_the_end(shop: Any) -> None:
    shop.endpoint("life")
    code = shop.script("life-code", SCRIPT.replace("VERSION", "v1"))
    shop.deploy(shop.spec("life", "blue", code))
    argv = ["online-deployment", "get-logs", "-e", "life", "-n", "blue", "--follow", "-o", "json"]
    follower = subprocess.Popen(
        [str(Path(sys.executable).parent / "moor"), *argv],
        env=shop.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        shop.moor("online-endpoint", "update", "-n", "life", "--traffic", "blue=100")
        assert shop.score("life", {"exit": 3}).status != 200
        deadline = time.monotonic() + 60
        while not [line for line in lines(shop, endpoint="life") if "init of v1" in line["text"]][1:]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        shop.kill("daemon")  # a stream that breaks goes on
        shop.script("life-code", SCRIPT.replace("VERSION", "v2"))
        shop.deploy(shop.spec("life", "blue", code), verb="update")
        shop.moor("online-endpoint", "update", "-n", "life", "--traffic", "blue=0")
        time.sleep(2)
        shop.moor("online-deployment", "delete", "-e", "life", "-n", "blue", "--yes")
        out, err = follower.communicate(timeout=60)
    finally:
        follower.kill()
    assert follower.returncode == 0 and "is deleted" in err, err
    seen = [json.loads(line)["text"] for line in out.splitlines()]
    for text in ("about to exit", "generation 2 accepted"):
        assert sum(text in said for said in seen) == 1, (text, seen)
    assert any("init of v2" in said for said in seen)
    assert sum("init of v1" in said for said in seen) == 2
    done = shop.moor("online-deployment", "get-logs", "-e", "life", "-n", "blue", check=False)
    assert done.returncode == 1 and "get-logs -e life -n blue --deleted" in done.stderr
    kept = [line["text"] for line in lines(shop, "--deleted", endpoint="life")]
    for text in ("about to exit", "generation 2 accepted", "deleted"):
        assert sum(text in said for said in kept) == 1, (text, kept)
    assert {said for said in seen if "init of" in said} <= set(kept)
    graves = list((shop.home / "logs" / "deployments").glob("life.blue~*"))
    assert len(graves) == 1
    for path in [*graves[0].rglob("*"), graves[0]]:
        os.utime(path, (time.time() - 31 * 86400,) * 2)
    shop.kill("daemon")
    assert lines(shop), "what lives is kept"
    deadline = time.monotonic() + 60
    while graves[0].exists():
        assert time.monotonic() < deadline, "what is older than the settings allow goes"
        time.sleep(0.2)


def test_a_deployment_that_fails_before_its_container_tells_all(shop: Any) -> None:
    shop.endpoint("early")
    conda = shop.files / "nosuch.yaml"
    conda.write_text("dependencies: [python=3.11, pip, {pip: [moorings-no-such-package-1==1]}]\n")
    code = shop.script("early-code", SCRIPT)
    spec = shop.spec("early", "blue", code, environment={"image": "local/base", "conda_file": str(conda)})
    create = ("online-deployment", "create", "-f", str(spec), "--skip-checks")
    assert shop.moor(*create, check=False).returncode == 1
    found = lines(shop, endpoint="early")
    assert any(line["phase"] == "build" and line["text"].startswith("FAILED ") for line in found)
    told = shop.moor(
        "online-deployment", "get-logs", "-e", "early", "-n", "blue", "-c", "inference-server"
    ).stdout
    assert "was never up" in told and "--local" in told
