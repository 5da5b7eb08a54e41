"""How requests spread: the split between deployments, and mirroring, which costs the live request nothing."""

from __future__ import annotations

import dataclasses
import http.client
import re
import socket
import statistics
import time

REQUESTS = 100_000
"""Half a per cent of a 90:10 split is 5 standard deviations of this number."""


class Caller:
    """One keep-alive connection, as fast as this language allows."""

    def __init__(self, port: int, path: str, **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._path = path
        self._headers = {"Authorization": "Bearer key-one"}
        self._headers.update({k.replace("_", "-"): v for k, v in headers.items()})

    def ask(self) -> tuple[int, str | None, bytes]:
        self._connection.request("POST", self._path, b"{}", self._headers)
        response = self._connection.getresponse()
        return response.status, response.getheader("azureml-model-deployment"), response.read()

    def close(self) -> None:
        self._connection.close()


def pipelined(port: int, path: str, count: int, pipe: int = 50) -> dict[bytes, int]:
    """Which deployment answered, of `count` requests sent `pipe` at a time on one connection."""
    head = f"POST {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer key-one\r\nContent-Length: 0\r\n\r\n"
    batch, found, data = head.encode() * pipe, {}, b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for _ in range(count // pipe):
            connection.sendall(batch)
            seen = 0
            while seen < pipe:
                piece = connection.recv(262144)
                assert piece, "the gateway closed the connection"
                data += piece
                names = re.findall(rb"\r\nazureml-model-deployment: ([a-z]+)\r\n", data)
                # The rest may hold the beginning of the next answer's headers.
                cut = data.rfind(b"\r\nazureml-model-deployment: ")
                if names and cut >= 0:
                    end = data.find(b"\r\n", cut + 2)
                    data = data[end:] if end >= 0 else data[cut:]
                seen += len(names)
                for name in names:
                    found[name] = found.get(name, 0) + 1
    return found


def test_the_split_is_within_half_a_per_cent_and_as_the_answers_say(shared, kit):
    blue, green = kit.backends.start("blue", gate=200), kit.backends.start("green", gate=200)
    both = (kit.route("blue", blue, mc=200), kit.route("green", green, mc=200))
    shared.put(kit.endpoint("split", *both, traffic={"blue": 90, "green": 10}))
    found = pipelined(shared.settings.port, "/api/v1/endpoint/split/score", REQUESTS)
    assert found == {b"blue": len(blue.seen), b"green": len(green.seen)}
    assert sum(found.values()) == REQUESTS
    assert abs(found[b"blue"] / REQUESTS - 0.9) < 0.005, found
    shared.drop("split")


def test_a_mirror_gets_its_share_of_shared_requests_and_none_of_named_ones(shared, kit):
    main, mirror = kit.backends.start("main", gate=50), kit.backends.start("mirror", gate=200)
    shared.put(
        kit.endpoint(
            "copied",
            kit.route("blue", main, mc=50),
            kit.route("next", mirror, mc=200),
            traffic={"blue": 100},
            mirror={"next": 50},
        )
    )
    named = Caller(shared.settings.port, "/api/v1/endpoint/copied/score", azureml_model_deployment="blue")
    assert {named.ask()[0] for _ in range(200)} == {200}
    named.close()
    time.sleep(0.3)
    assert mirror.seen == []
    shares = Caller(shared.settings.port, "/api/v1/endpoint/copied/score")
    assert {shares.ask()[:2] for _ in range(1000)} == {(200, "blue")}
    shares.close()
    kit.until(lambda: len(mirror.seen) >= 400)
    time.sleep(0.3)
    assert 400 <= len(mirror.seen) <= 600
    shared.drop("copied")


def test_a_hung_or_dead_mirror_costs_the_live_request_nothing(shared, kit):
    """Rounds of one connection on one gateway, in turn without a mirror and with one that hangs or is dead."""
    main = kit.backends.start("live", gate=50)
    hung, dead = kit.backends.start("hung", gate=0), kit.backends.start("dead", gate=1)
    route = kit.endpoint(
        "costs",
        kit.route("blue", main, mc=50),
        kit.route("hung", hung, mc=50, timeout_ms=60_000),
        kit.route("dead", dead, mc=50),
        traffic={"blue": 100},
    )
    shared.put(route)
    kit.backends.stop(dead)
    took: dict[str, list[float]] = {"none": [], "hung": [], "dead": []}
    for _ in range(3):
        for mirror, samples in took.items():
            mirrored = {mirror: 50} if mirror != "none" else {}
            versions = shared.put(dataclasses.replace(route, mirror=mirrored), wait=False)
            kit.until(lambda v=versions: shared.status.accepted.get("costs") == v["costs"])
            caller = Caller(shared.settings.port, "/api/v1/endpoint/costs/score")
            for _ in range(300):
                began_s = time.perf_counter()
                status, _, body = caller.ask()
                samples.append(time.perf_counter() - began_s)
                assert (status, body) == (200, b"live")
            caller.close()
    assert hung.running == 0
    p99 = {name: statistics.quantiles(samples, n=100)[98] for name, samples in took.items()}
    # The clients, the gateway and the backends share two cores; a mirror that held the request up would show
    # as seconds.
    assert p99["hung"] < 5 * p99["none"] + 0.005, p99
    assert p99["dead"] < 5 * p99["none"] + 0.005, p99
    shared.drop("costs")
