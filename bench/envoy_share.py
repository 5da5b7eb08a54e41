"""What each thing the gateway promises costs in Envoy: CPU per request with it left out, one after the other.

`python -m bench.envoy_share` starts one worker (an echo) and an Envoy for each variant of the configuration that a real
endpoint gets, all on the first CPU, and lets the same client on another CPU ask each of them, interleaved. It prints a
table in Markdown. Nothing else should run; it stops what it starts. It must not be taken for a comparison of servers: that
is `python -m bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench import client
from bench.client import Target
from bench.peers import PEERS
from bench.processes import all_cpus, cpus, pinned, wait_until
from bench.workspace import free_port
from moorings.gateway import binary, envoy, envoy_listener, validate
from moorings.gateway.state import DeploymentRoute, EndpointRoute, GatewayState

CLIENTS = 16
KEYS = ("bench-key-one", "bench-key-two")
BODY = b'{"data": [1, 1.5, -2.25, 1000.0]}'
SCRIPT = "import json\n\n\ndef init():\n    pass\n\n\ndef run(data):\n    return json.loads(data)['data']\n"
START_S = 20.0
_FILTER = "envoy.filters.http."


@dataclass(frozen=True)
class Parts:
    """Where the parts of one configuration are: the connection manager, the cluster, and every route table."""

    manager: dict[str, Any]
    cluster: dict[str, Any]

    def tables(self) -> Iterator[dict[str, Any]]:
        for scope in self.manager["scoped_routes"]["scoped_route_configurations_list"][
            "scoped_route_configurations"
        ]:
            yield scope["route_configuration"]

    def hosts(self) -> Iterator[dict[str, Any]]:
        for table in self.tables():
            yield from table["virtual_hosts"]

    def actions(self) -> Iterator[dict[str, Any]]:
        for host in self.hosts():
            yield from (route["route"] for route in host["routes"] if "route" in route)

    def drop(self, *names: str) -> None:
        """Filters, for this endpoint and for all."""
        kept = [each for each in self.manager["http_filters"] if each["name"] not in names]
        self.manager["http_filters"] = kept
        for host in self.hosts():
            for name in names:
                host["typed_per_filter_config"].pop(name, None)


def _nothing(parts: Parts) -> None:
    pass


def _log(parts: Parts) -> None:
    parts.manager.pop("access_log")


def _json(parts: Parts) -> None:
    formatted = parts.manager["access_log"][0]["typed_config"]["log_format"]
    line = " ".join(formatted.pop("json_format").values())
    formatted["text_format_source"] = {"inline_string": f"{line}\n"}


def _keys(parts: Parts) -> None:
    parts.drop(f"{_FILTER}rbac")


def _bodies(parts: Parts) -> None:
    parts.drop(f"{_FILTER}buffer")


def _rate(parts: Parts) -> None:
    parts.drop(f"{_FILTER}local_ratelimit")


def _ids(parts: Parts) -> None:
    parts.drop(f"{_FILTER}header_to_metadata", f"{_FILTER}header_mutation")
    parts.manager.update(generate_request_id=False, always_set_request_id_in_response=False)


def _replies(parts: Parts) -> None:
    parts.drop("model-replies")


def _headers(parts: Parts) -> None:
    for table in parts.tables():
        table.pop("request_headers_to_remove")
        table.pop("response_headers_to_remove")
    for host in parts.hosts():
        for route in host["routes"]:
            route.pop("request_headers_to_remove", None)
            route.pop("response_headers_to_add", None)


def _paths(parts: Parts) -> None:
    parts.manager.update(normalize_path=False, merge_slashes=False)
    parts.manager.pop("path_with_escaped_slashes_action")


def _times(parts: Parts) -> None:
    for name in ("request_headers_timeout", "request_timeout", "stream_idle_timeout"):
        parts.manager[name] = "0s"


def _retries(parts: Parts) -> None:
    for action in parts.actions():
        action.pop("retry_policy")


def _caps(parts: Parts) -> None:
    parts.cluster["circuit_breakers"]["thresholds"][0].pop("track_remaining", None)
    parts.cluster.pop("outlier_detection", None)


def _tables(parts: Parts) -> None:
    first = next(parts.tables())
    parts.manager.pop("early_header_mutation_extensions")
    parts.manager.pop("scoped_routes")
    parts.manager["route_config"] = first


def _all(parts: Parts) -> None:
    for drop in (_log, _keys, _bodies, _rate, _ids, _replies, _headers, _paths, _times, _retries, _caps):
        drop(parts)
    kept = [each for each in parts.manager["http_filters"] if each["name"] == f"{_FILTER}router"]
    parts.manager["http_filters"] = kept
    for host in parts.hosts():
        host["typed_per_filter_config"] = {}
    _tables(parts)


@dataclass(frozen=True)
class Variant:
    """A configuration with something left out."""

    name: str
    title: str
    lost: str
    drop: Callable[[Parts], None]


VARIANTS = (
    Variant("everything", "everything", "", _nothing),
    Variant("log", "without the access log", "log, metrics and queries per request", _log),
    Variant("json", "log lines as plain text", "a quote in a path breaks the line", _json),
    Variant("keys", "without the check of credentials", "401", _keys),
    Variant(
        "bodies", "without reading bodies first", "413 of chunked bodies; slow callers hold slots", _bodies
    ),
    Variant("rate", "without the limit of rates", "429", _rate),
    Variant("ids", "without request ids", "tracing", _ids),
    Variant("replies", "without mapping the model's answers", "424, limit of answers", _replies),
    Variant(
        "headers", "without changes of headers", "key hidden from the script, deployment named", _headers
    ),
    Variant("paths", "without plain paths", "`a/../b` is asked for with the key of a", _paths),
    Variant("times", "without time-outs of callers", "a silent caller stays for ever", _times),
    Variant(
        "retries", "without another try on a dead connection", "no failed request at an update", _retries
    ),
    Variant("caps", "without counting what waits and fails", "429 with the limit, ejection", _caps),
    Variant("tables", "one table of routes", "an endpoint each its own keys and limits", _tables),
    Variant("bare", "without all of these", "everything but forwarding", _all),
)


@dataclass
class Running:
    """One Envoy and what it has cost: microseconds of CPU a request, a figure a round; the worker's beside them."""

    process: subprocess.Popen[bytes]
    target: Target
    envoy_us: list[float] = field(default_factory=list)
    worker_us: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)


def configuration(variant: Variant, port: int, socket: Path, log: Path) -> dict[str, Any]:
    """What a gateway with one endpoint of one deployment gets, with the variant's part left out."""
    deployment = DeploymentRoute("blue", (str(socket),), 1, 64, 60_000)
    endpoint = EndpointRoute("bench", KEYS, (deployment,), {"blue": 100}, rate_limit_per_s=1_000_000)
    found = validate.candidate(list(envoy.resources(GatewayState((endpoint,))).values()))
    found = json.loads(json.dumps(found))  # parts that are the same object must not be edited twice
    manager = found["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["access_log"] = envoy_listener.connection_manager({}, {}, access_log=str(log))["access_log"]
    found["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port
    cluster = found["static_resources"]["clusters"][0]
    hosts = [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}}]
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": hosts}]
    full = envoy_listener.bootstrap(
        envoy_listener.ListenerSettings("127.0.0.1", port, "/none", "/none", str(log), "/none"), "bench"
    )
    found["stats_config"] = full["stats_config"]
    variant.drop(Parts(manager, cluster))
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--variants", default=",".join(each.name for each in VARIANTS))
    options = parser.parse_args()
    client.need_wrk()
    wanted = [each for each in VARIANTS if each.name in options.variants.split(",")]
    with tempfile.TemporaryDirectory(prefix="moor-share-") as folder, contextlib.ExitStack() as stack:
        _measure(Path(folder), stack, wanted, options.rounds, options.seconds)


def _measure(
    folder: Path, stack: contextlib.ExitStack, wanted: list[Variant], rounds: int, seconds: int
) -> None:
    server_on, client_on = cpus(all_cpus(), 1)
    socket = folder / "worker.sock"
    worker = _worker(folder, socket, server_on)
    stack.callback(_end, worker)
    running = {each: _envoy(folder, each, socket, server_on, stack) for each in wanted}
    for each in running.values():
        _await(each.target)
    of_worker = psutil.Process(worker.pid)
    for number in range(rounds):
        for variant, one in running.items():
            of_envoy = psutil.Process(one.process.pid)
            before = _spent(of_envoy), _spent(of_worker)
            found = client.load(one.target, BODY, CLIENTS, seconds, client_on, folder)
            if found["non_2xx"] or found["socket_errors"]:
                raise SystemExit(f"{variant.name}: not every answer was right: {found}")
            if number:  # the first is for warming up
                count = found["requests"]
                one.envoy_us.append((_spent(of_envoy) - before[0]) / count * 1e6)
                one.worker_us.append((_spent(of_worker) - before[1]) / count * 1e6)
                one.per_s.append(count / found["seconds"])
    _print(running)


def _worker(folder: Path, socket: Path, on: list[int]) -> subprocess.Popen[bytes]:
    (folder / "score.py").write_text(SCRIPT)
    env = {
        **os.environ,
        "MOORINGS_SOCKET": str(socket),
        "MOORINGS_MAX_CONCURRENT": "9",
        "AZUREML_ENTRY_SCRIPT": str(folder / "score.py"),
    }
    argv = [sys.executable, "-m", "moorings_server", "--worker"]
    return _started(folder, "worker", pinned(argv, on), env)


def _envoy(
    folder: Path, variant: Variant, socket: Path, on: list[int], stack: contextlib.ExitStack
) -> Running:
    port, file = free_port(), folder / f"{variant.name}.json"
    file.write_text(json.dumps(configuration(variant, port, socket, folder / f"{variant.name}.access")))
    argv = [str(binary.find()), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    argv = pinned([*argv, "--file-flush-interval-msec", "1000"], on)
    process = _started(folder, variant.name, argv, dict(os.environ))
    stack.callback(_end, process)
    protocol = PEERS["moorings"].protocol
    return Running(process, Target(port, "/api/v1/endpoint/bench/score", protocol, KEYS[0]))


def _started(folder: Path, name: str, argv: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(argv, env=env, cwd=folder, stdout=log, stderr=log)


def _await(target: Target) -> None:
    said = b""
    for _ in wait_until(START_S):
        status, said = client.ask(target, BODY)
        if status == 200:
            return
    raise SystemExit(f"no answer at {target.url}: {said[:300]!r}")


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def _print(running: dict[Variant, Running]) -> None:
    print("| Envoy | us CPU a request | difference | requests/s | what is lost |")
    print("|---|---|---|---|---|")
    base: float | None = None
    for variant, one in running.items():
        cost = statistics.median(one.envoy_us)
        base = cost if base is None else base
        spread = f"{min(one.envoy_us):.1f}-{max(one.envoy_us):.1f}"
        print(
            f"| {variant.title} | {cost:.1f} [{spread}] | {cost - base:+.1f} | {statistics.median(one.per_s):,.0f} "
            f"| {variant.lost} |"
        )
    worker = statistics.median([figure for one in running.values() for figure in one.worker_us])
    load = os.getloadavg()[0]
    print(
        f"\nThe worker beside it: {worker:.1f} us a request. Load average {load:.1f}, {time.strftime('%Y-%m-%d')}."
    )


if __name__ == "__main__":
    main()
