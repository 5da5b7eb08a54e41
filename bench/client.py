"""The clients: wrk for load, a checking client for right answers, and one that times the first byte of a stream."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.plan import Protocol, Workload, body, right
from bench.processes import pinned

LUA = Path(__file__).with_name("post.lua")
TIMEOUT_S = 30


class ClientMissingError(RuntimeError):
    """wrk is not installed and could not be; the message says what to type."""


def need_wrk() -> str:
    """The version of wrk; installs Debian's package where that is allowed. Raises ClientMissingError."""
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for argv in (["update", "-qq"], ["install", "-y", "-qq", "wrk"]):  # a new machine has no lists yet
            subprocess.run(["apt-get", *argv], capture_output=True, check=False)
    if shutil.which("wrk") is None:
        raise ClientMissingError(
            "the load client wrk is not installed. Install it: sudo apt-get update && sudo apt-get install -y wrk"
        )
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).splitlines()[0].partition(" Copyright")[0]


@dataclass(frozen=True)
class Target:
    """Where a server answers. `key`: its credential, if it wants one."""

    port: int
    path: str
    protocol: Protocol
    key: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def headers(self) -> dict[str, str]:
        own = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return {"Content-Type": "application/json", **own}


def ask(
    target: Target, sent: bytes, connection: http.client.HTTPConnection | None = None
) -> tuple[int, bytes]:
    """One request; (0, reason) when there was no answer."""
    used = connection or http.client.HTTPConnection("127.0.0.1", target.port, timeout=TIMEOUT_S)
    try:
        used.request("POST", target.path, sent, target.headers())
        answer = used.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as problem:
        return 0, repr(problem).encode()
    finally:
        if connection is None:
            used.close()


def check(target: Target, workload: Workload, cases: list[list[Any]], at_once: int) -> tuple[int, str]:
    """Different inputs, `at_once` of them together: how many answers were wrong, and the first of them."""

    def one(case: list[Any]) -> str:
        status, answer = ask(target, body(target.protocol, workload, case[0]))
        if status == 200 and right(target.protocol, workload, answer, case[1]):
            return ""
        return f"{status}: {answer[:200]!r}"

    with ThreadPoolExecutor(at_once) as pool:
        wrong = [each for each in pool.map(one, cases) if each]
    return len(wrong), wrong[0] if wrong else ""


def load(
    target: Target, sent: bytes, clients: int, seconds: float, on: list[int], scratch: Path
) -> dict[str, Any]:
    """wrk for `seconds`: requests, seconds, non_2xx, socket_errors, timeouts, p50_ms, p99_ms, max_ms."""
    file = scratch / "body"
    file.write_bytes(sent)
    env = {**os.environ, "BENCH_BODY": str(file)}
    env.pop("BENCH_KEY", None)
    if target.key:
        env["BENCH_KEY"] = target.key
    argv = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_S}s"]
    argv = pinned([*argv, "-s", str(LUA), target.url], on)
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=seconds + 90, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("BENCH "):
            found: dict[str, Any] = json.loads(line[6:].replace("-nan", "0").replace("nan", "0"))
            return found
    raise RuntimeError(f"wrk said nothing: {(done.stdout + done.stderr)[-300:]}")


def first_bytes(target: Target, sent: bytes, count: int) -> dict[str, Any]:
    """`count` streams one after the other: ms from the script's first yield, and from the request, to the first
    byte here; `wrong` are those whose parts were not all there."""
    after_yield, after_request, wrong = [], [], 0
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=TIMEOUT_S)
        try:
            asked = time.monotonic_ns()
            connection.request("POST", target.path, sent, target.headers())
            answer = connection.getresponse()
            first = answer.read(1)
            came = time.monotonic_ns()
            lines = [line for line in (first + answer.read()).decode().split("\n") if line]
            values = [
                int(line.removeprefix("data:").strip().strip('"').removesuffix("\\n")) for line in lines
            ]
            if answer.status != 200 or values[1:] != [0, 1, 2]:
                raise ValueError(lines)
            after_yield.append((came - values[0]) / 1e6)
            after_request.append((came - asked) / 1e6)
        except (OSError, http.client.HTTPException, ValueError, IndexError):
            wrong += 1
        finally:
            connection.close()
    return {
        "requests": count,
        "wrong": wrong,
        "first_byte_ms": statistics.median(after_yield) if after_yield else None,
        "first_byte_p99_ms": sorted(after_yield)[int(len(after_yield) * 0.99)] if after_yield else None,
        "request_to_first_byte_ms": statistics.median(after_request) if after_request else None,
    }
