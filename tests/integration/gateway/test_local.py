"""Endpoints made with `--local`: who gets in without a key, and who does not although it looks like it."""

from __future__ import annotations

import fcntl
import http.client
import socket
import struct
import subprocess
import time
from dataclasses import replace

import pytest

from moorings.gateway.control import GatewayControl
from moorings.lib.timing import ManualClock
from moorings.security.tokens import TokenIssuer

SIOCGIFADDR = 0x8915
SPARE_ADDRESS = "198.51.100.77"


@pytest.fixture(scope="module")
def worker(kit):
    return kit.backends.start("at-home", gate=50)


@pytest.fixture
def home(shared, kit, worker):
    """The local endpoint `home` and, beside it, the usual endpoint `away`."""
    blue = kit.route("blue", worker, mc=50)
    shared.put(kit.endpoint("home", blue, keyless_on_loopback=True), kit.endpoint("away", blue))
    yield shared
    shared.drop("home")
    shared.drop("away")


def test_a_program_on_this_machine_needs_no_key(home):
    answer = home.score("home", key=None)
    assert (answer.status, answer.body) == (200, b"at-home")
    assert answer.headers["azureml-model-deployment"] == "blue"


def test_a_good_key_is_as_good_as_none(home):
    assert home.score("home", key="key-two").status == 200


@pytest.mark.parametrize("text", ["Bearer wrong", "Bearer ", "", "Basic dXNlcjpwYXNz", "key-one"])
def test_a_wrong_credential_is_refused_all_the_same(home, text):
    answer = home.score("home", key=None, Authorization=text)
    assert (answer.status, answer.code) == (401, "Unauthorized")


def test_two_headers_of_which_one_is_right_are_refused(home):
    connection = http.client.HTTPConnection("127.0.0.1", home.settings.port, timeout=20)
    connection.putrequest("POST", "/api/v1/endpoint/home/score")
    for value in ("Bearer key-one", "Bearer wrong"):
        connection.putheader("Authorization", value)
    connection.putheader("Content-Length", "2")
    connection.endheaders(b"{}")
    assert connection.getresponse().status == 401
    connection.close()


def test_other_endpoints_are_not_opened_by_it(home):
    assert home.score("away", key=None).status == 401
    assert home.ask("/api/v1/endpoint/home/../away/score", key=None).status == 401
    assert home.ask("/score", key=None, host="away.localhost").status == 401


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8650", "home.localhost", "127.0.0.1", "127.1.2.3", "[::1]"]
)
def test_every_name_of_this_machine_will_do(home, host):
    path = "/score" if host == "home.localhost" else "/api/v1/endpoint/home/score"
    assert home.ask(path, key=None, host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-For": ""},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"X-Forwarded-Host": "localhost"},
    ],
    ids=lambda headers: ", ".join(f"{k} {v}".strip() for k, v in headers.items()),
)
def test_what_a_proxy_on_this_machine_passes_on_needs_a_key(home, headers):
    spelled = {name.replace("-", "_"): value for name, value in headers.items()}
    expected = 200 if headers == {"X-Forwarded-For": ""} else 401
    assert home.score("home", key=None, **spelled).status == expected
    assert home.score("home", key="key-one", **spelled).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://news.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "rebound.example"},
        {"Host": "localhost.example"},
        {"Host": "127.0.0.1.example"},
    ],
    ids=lambda headers: ", ".join(f"{k} {v}" for k, v in headers.items()),
)
def test_a_page_in_a_browser_on_this_machine_needs_a_key(home, headers):
    """Else every web site could use the models of whoever looks at it."""
    spelled = {name.replace("-", "_"): value for name, value in headers.items()}
    host = spelled.pop("Host", None)
    for method in ("POST", "GET"):
        assert (
            home.ask("/api/v1/endpoint/home/score", None, method=method, host=host, **spelled).status == 401
        )


def test_limits_hold_without_a_key(home, kit, worker):
    home.put(
        kit.endpoint(
            "home", kit.route("blue", worker, mc=50), keyless_on_loopback=True, rate=3, max_request_bytes=100
        )
    )
    assert home.score("home", key=None, body=b"x" * 101).status == 413
    statuses = [home.score("home", key=None).status for _ in range(6)]
    assert statuses.count(429) >= 2
    assert home.score("home", key=None, azureml_model_deployment="nobody").status in (404, 429)


def test_the_mode_that_takes_tokens_is_open_too_and_still_refuses_bad_ones(home, kit, worker, tmp_path):
    issuer = TokenIssuer(tmp_path / "token-keys.json", ManualClock(time.time()))
    home.token_keys = issuer.public_keys()
    blue = kit.route("blue", worker, mc=50)
    home.put(kit.endpoint("home", blue, keys=(), token_audience="endpoint:h", keyless_on_loopback=True))
    token = issuer.issue("endpoint:h", "home").text
    kit.until(lambda: home.score("home", key=token).status == 200)
    assert home.score("home", key=None).status == 200
    assert home.score("home", key=token[:-4] + "AAAA").status == 401
    assert home.score("home", key="key-one").status == 401


def test_it_is_switched_off_and_on_while_requests_run(home, kit, worker):
    blue = kit.route("blue", worker, mc=50)
    with kit.load(home, "home") as load:
        for local in (False, True, False):
            home.put(kit.endpoint("home", blue, keyless_on_loopback=local))
            kit.until(lambda: home.score("home", key=None).status == (200 if local else 401))  # noqa: B023
    assert load.total > 0
    assert not load.failures


def test_without_any_credential_of_its_own_it_is_open_to_this_machine_only(home, kit, worker):
    home.put(kit.endpoint("home", kit.route("blue", worker, mc=50), keys=(), keyless_on_loopback=True))
    assert home.score("home", key=None).status == 200
    assert home.score("home", key="").status == 401


def test_a_gateway_that_listens_everywhere_answers_nobody_else_without_a_key(gateway, kit, worker):
    gateway.settings = replace(gateway.settings, bind="0.0.0.0")
    gateway.control = GatewayControl(gateway.settings)
    gateway.control.ensure_agent()
    gateway.put(kit.endpoint("home", kit.route("blue", worker, mc=50), keyless_on_loopback=True))
    assert gateway.score("home", key=None).status == 200
    outside = own_address()
    assert ask_from(outside, outside, gateway.settings.port).status == 401
    assert ask_from(outside, outside, gateway.settings.port, Host="localhost").status == 401
    assert (
        ask_from(
            outside, outside, gateway.settings.port, Host="localhost", X_Forwarded_For="127.0.0.1"
        ).status
        == 401
    )
    assert ask_from(outside, outside, gateway.settings.port, Authorization="Bearer key-one").status == 200


def ask_from(source: str, address: str, port: int, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, port, timeout=20, source_address=(source, 0))
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/api/v1/endpoint/home/score", body=b"{}", headers=sent)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def own_address() -> str:
    """An address of this machine that is not loopback; one is made where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                packed = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            found = socket.inet_ntoa(packed[20:24])
            if not found.startswith("127."):
                return found
    subprocess.run(["ip", "addr", "replace", f"{SPARE_ADDRESS}/32", "dev", "lo"], check=True)
    return SPARE_ADDRESS
