"""One log for the whole life of a deployment, whatever it writes: through crashes, updates and its deletion."""

from __future__ import annotations

import contextlib
import json
import os
import pty
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
    if "do" in asked:
        exec(asked["do"], {})
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
        found = lines(workspace, *flags)  # a later -e counts
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


def test_whatever_a_script_does_to_its_output_the_log_goes_on(shop: Any) -> None:
    done = {
        "progress": "import os\nfor n in range(5000): os.write(1, b'\\r%04d of 5000' % n)\nos.write(1, b'\\n')",
        "windows": "import os; os.write(1, b'dos line\\r\\n')",
        "nul": "import os; os.write(1, b'nul \\0 here\\n')",
        "program": "import subprocess; subprocess.run(['echo', 'from a program'])",
        "fork": "import os\npid = os.fork()\nif not pid:\n    print('from a child'); os._exit(0)\nos.waitpid(pid, 0)",
        "closed": "import os, sys; kept = os.dup(1); sys.stdout.close(); os.close(1); "
        "print('printed while closed'); os.dup2(kept, 1)",
        "taken": "import os; kept = os.dup(1); os.dup2(os.open(os.devnull, os.O_WRONLY), 1); "
        "print('printed over devnull'); os.dup2(kept, 1)",
    }
    for name, code in done.items():
        answer = shop.score("calm", {"do": code, "say": f"done: {name}"})
        assert answer.status == 200, (name, answer.body)
    deadline = time.monotonic() + 60
    while True:
        texts = [line["text"] for line in lines(shop, endpoint="calm")]
        said = [text.partition("azmlinfsrv.print - ")[2] or text for text in texts]
        if "printed over devnull" in said:
            break
        assert time.monotonic() < deadline, said[-20:]
        time.sleep(0.2)
    assert [text for text in said if "of 5000" in text] == ["4999 of 5000"]
    for text in ("dos line", "nul \0 here", "from a program", "from a child", "printed while closed"):
        assert said.count(text) == 1, (text, said[-40:])
    assert sum("POST /score 200" in text for text in texts) >= len(done) - 1


def test_what_a_script_writes_cannot_drive_the_terminal(shop: Any) -> None:
    attack = "\x1b]0;owned\x07\x1b[2J\x9b2Jred \x1b[31mred\x1b[0m turned \u202eback the attack ends"
    shop.score("calm", {"do": f"import os; os.write(1, {attack.encode()!r} + b'\\n')"})
    deadline = time.monotonic() + 60
    while not any("the attack ends" in line["text"] for line in lines(shop, endpoint="calm")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for argv in ((), ("-o", "json"), ("-o", "table"), ("--container", "inference-server")):
        out = on_a_terminal(shop, "online-deployment", "get-logs", "-e", "calm", "-n", "blue", *argv)
        shown = next(line for line in out.splitlines() if "the attack ends" in line or "ends" in line)
        for bad in ("\x1b]0", "\x07", "\x1b[2J", "\x9b", "\u202e"):
            assert bad not in out, (argv, bad)
        if argv in ((), ("--container", "inference-server")):
            assert "\x1b[31mred\x1b[0m" in shown, "colours are no harm"


def on_a_terminal(workspace: Any, *argv: str) -> str:
    """What `moor` writes to a real terminal."""
    ours, theirs = pty.openpty()
    program = str(Path(sys.executable).parent / "moor")
    process = subprocess.Popen([program, *argv], env=workspace.env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # a terminal whose other end is closed
        while data := os.read(ours, 65536):
            said += data
    os.close(ours)
    assert process.wait(30) == 0, said
    return said.decode()


def test_last_words_without_a_line_end_are_kept_whoever_is_killed(shop: Any) -> None:
    shop.endpoint("ends")
    code = shop.script("ends-code", SCRIPT.replace("VERSION", "v1"))
    shop.deploy(shop.spec("ends", "blue", code), "--all-traffic")
    kill = "import os; os.write(1, b'last words of the worker'); os.kill(os.getpid(), 9)"
    assert shop.score("ends", {"do": kill}).status != 200
    found = until(shop, "ended (signal SIGKILL)", "-e", "ends")
    texts = [line["text"] for line in found]
    at = texts.index("last words of the worker")
    assert "ended (signal SIGKILL)" in texts[at + 1]
    deadline = time.monotonic() + 60
    while shop.score("ends", {"say": "before the supervisor"}).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    until(shop, "before the supervisor", "-e", "ends")
    supervisors = [p["pid"] for p in shop.processes() if p["role"] == "supervisor"]
    mine = [
        pid
        for pid in supervisors
        if b"ends/blue" in Path(f"/proc/{pid}/environ").read_bytes()
        or b"ends.blue" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(mine) == 1
    os.kill(mine[0], 9)
    deadline = time.monotonic() + 60
    while [line["text"].count("init of v1") for line in lines(shop, endpoint="ends")].count(1) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    texts = [line["text"] for line in lines(shop, endpoint="ends")]
    for text in ("last words of the worker", "before the supervisor"):
        assert sum(text in said for said in texts) == 1
    modes = {path: path.stat().st_mode & 0o777 for path in (shop.home / "logs").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}, modes


def test_following_ends_with_the_deployment_and_not_with_its_name(shop: Any) -> None:
    shop.endpoint("again")
    code = shop.script("again-code", SCRIPT.replace("VERSION", "v1"))
    spec = shop.spec("again", "blue", code)
    shop.deploy(spec)
    argv = ["online-deployment", "get-logs", "-e", "again", "-n", "blue", "--follow"]
    program = str(Path(sys.executable).parent / "moor")
    follower = subprocess.Popen(
        [program, *argv], env=shop.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        time.sleep(2)
        shop.moor("online-deployment", "delete", "-e", "again", "-n", "blue", "--yes")
        shop.deploy(spec)
        _, err = follower.communicate(timeout=60)
    finally:
        follower.kill()
    assert follower.returncode == 0 and "is deleted" in err, err


LATIN = """# -*- coding: latin-1 -*-
def init():
    raise ValueError("le mod\u00e8le n'est pas l\u00e0")
def run(data): pass
"""
BROKEN = {
    "latin": (LATIN.encode("latin-1"), "le mod\u00e8le n'est pas l\u00e0"),
    "halves": (
        b"def init(): raise ValueError('caf\\udce9 \\0 zu \\x1b]0;owned\\x07')\ndef run(data): pass\n",
        "zu",
    ),
    "mute": (
        b"class Mute(Exception):\n    def __str__(self): raise KeyError('x')\n"
        b"def init(): raise Mute()\ndef run(data): pass\n",
        "Mute",
    ),
    "chain": (
        b"def init():\n    e = None\n    for n in range(100000):\n        f = ValueError('link %d' % n)\n"
        b"        f.__cause__ = e; e = f\n    raise e\ndef run(data): pass\n",
        "link 99999",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_strange_failure_of_init_is_one_verdict(shop: Any, kind: str) -> None:
    script, words = BROKEN[kind]
    name = f"odd-{kind}"
    shop.endpoint(name)
    code = shop.script(f"{name}-code", "")
    (code / "score.py").write_bytes(script)
    spec = str(shop.spec(name, "blue", code))
    done = shop.moor("online-deployment", "create", "-f", spec, "--skip-checks", check=False)
    assert (
        done.returncode == 1 and "Traceback (most recent call last)" not in done.stderr.partition("ERROR")[0]
    )
    assert words in done.stderr and "score.py" in done.stderr, done.stderr
    assert "\x1b]0" not in done.stderr and "\0" not in done.stderr
    found = shop.json("diagnose", "-e", name, "-n", "blue")
    assert found["verdict"]["code"] == "UserScriptInitFailed", found
    assert any(words in line["text"] for line in lines(shop, endpoint=name))


def test_a_failing_deployment_is_mended_and_broken_again(shop: Any) -> None:
    name = "mended"
    shop.endpoint(name)
    bad = "def init(): raise ValueError('no luck today')\ndef run(data): return 'bad'\n"
    code = shop.script("mended-code", bad)
    spec = shop.spec(name, "blue", code)

    def state() -> tuple[str, Any]:
        shown = shop.json("online-deployment", "show", "-e", name, "-n", "blue")
        found = shop.json("diagnose", "-e", name, "-n", "blue")
        return shown["provisioning_state"], (found["verdict"] or {}).get("code")

    for verb in ("create", "update"):
        shop.script("mended-code", bad)
        done = shop.moor("online-deployment", verb, "-f", str(spec), "--skip-checks", check=False)
        assert done.returncode == 1 and "no luck today" in done.stderr
        assert state() == ("Failed", "UserScriptInitFailed")
        if verb == "update":
            assert shop.score(name, {}).json == "good", "what served goes on"
        shop.script("mended-code", SCRIPT.replace("VERSION", "good"))
        shop.deploy(spec, verb="update")
        assert state() == ("Succeeded", None)
        shop.moor("online-endpoint", "update", "-n", name, "--traffic", "blue=100")
        assert shop.score(name, {}).json == "good"
    texts = [line["text"] for line in lines(shop, endpoint=name)]
    assert sum("no luck today" in text and text.startswith("FAILED") for text in texts) == 2
    assert sum(re.match(r"generation \d accepted", text) is not None for text in texts) == 4


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
