"""Containers with a server of their own get tokens for their endpoint's identity too, and nobody else gets them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

BASE = "moorings.test/python:base"
PASSWORD = "tr0ub4dor&3-horse"
SERVER = b"""\
import http.server, json, os, signal, sys, urllib.error, urllib.request
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
def ask(resource, header=None):
    request = urllib.request.Request(
        os.environ["IDENTITY_ENDPOINT"] + "?api-version=2019-08-01&resource=" + resource,
        headers={"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"] if header is None else header},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as problem:
        return {"status": problem.code}
FIRST = ask("https://at.start")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked == "die":
            os._exit(3)
        if asked == "first":
            return self.answer(FIRST)
        if asked == "where":
            return self.answer([os.environ["IDENTITY_ENDPOINT"], os.environ["IDENTITY_HEADER"]])
        if asked == "all":
            print("all of it:", dict(os.environ), flush=True)
            return self.answer({name: os.environ.get(name) for name in ("PASSWORD", "MINE")})
        if asked == "wrong":
            return self.answer(ask("https://x", "guessed"))
        self.answer(ask(asked))
    def answer(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
print("a server of its own", flush=True)
http.server.ThreadingHTTPServer(("", 8501), Handler).serve_forever()
"""
DOCKERFILE = 'FROM local/base\nCOPY server.py /srv/\nCMD ["python", "-u", "/srv/server.py"]\n'


def until(check: Any, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def shop(dockerd: Any, workspace_factory: Any) -> Any:
    """`one` and `two`, each with a server of its own; `one` is given a secret."""
    settings = {"engine": "docker", "docker": {"host": dockerd.host}, "image_aliases": {"local/base": BASE}}
    workspace = workspace_factory(settings)
    context = workspace.files / "context"
    context.mkdir()
    (context / "server.py").write_bytes(SERVER)
    (context / "Dockerfile").write_text(DOCKERFILE)
    routes = {
        f"{name}_route": {"path": f"/{name}", "port": 8501} for name in ("liveness", "readiness", "scoring")
    }
    environment = {"build": {"path": str(context)}, "inference_config": routes}
    (workspace.files / "password").write_text(PASSWORD)
    workspace.moor("keyvault", "secret", "set", "--vault-name", "local", "-n", "db", "--file", "password")
    for name in ("one", "two"):
        workspace.endpoint(name)
        variables = {"MINE": "yes"}
        if name == "one":
            grant = ("role", "assignment", "create", "--assignee", name, "--role", "Key Vault Secrets User")
            workspace.moor(*grant, "--scope", "keyvault/local")
            variables["PASSWORD"] = "${{keyvault:https://local.vault.azure.net/secrets/db}}"
        more = {"environment": environment, "environment_variables": variables, "code_configuration": None}
        spec = Path(workspace.spec(name, "blue", workspace.script("none", ""), **more))
        workspace.deploy(spec, "--all-traffic")
    return workspace


def asked(shop: Any, endpoint: str, wish: str) -> Any:
    def ask() -> Any:
        answer = shop.score(endpoint, wish)
        return [answer.json] if answer.status == 200 else None

    return until(ask)[0]


def who(token: dict[str, Any]) -> str:
    assert "access_token" in token, token
    part = token["access_token"].split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["oid"])


def principal(shop: Any, endpoint: str) -> str:
    return str(shop.json("online-endpoint", "show", "-n", endpoint)["identity"]["principal_id"])


def inspected(dockerd: Any, *filters: str) -> list[dict[str, Any]]:
    found = dockerd.cli(
        "ps", "-aq", *(word for each in filters for word in ("--filter", each))
    ).stdout.split()
    return list(json.loads(dockerd.cli("inspect", *found).stdout)) if found else []


def server_of(dockerd: Any, endpoint: str) -> dict[str, Any]:
    [found] = inspected(dockerd, f"label=moorings.owner={endpoint}/blue", "status=running")
    return found


def companion_of(dockerd: Any, server: dict[str, Any]) -> dict[str, Any]:
    [found] = inspected(
        dockerd, f"label=moorings.companion={server['Config']['Labels']['moorings.instance']}"
    )
    return found


def test_a_server_of_its_own_gets_tokens_of_its_endpoints_identity_from_its_start_on(shop: Any) -> None:
    for endpoint in ("one", "two"):
        assert who(asked(shop, endpoint, "first")) == principal(shop, endpoint)
        assert who(asked(shop, endpoint, "https://storage.example")) == principal(shop, endpoint)
    assert asked(shop, "one", "wrong") == {"status": 401}


def test_nobody_else_reaches_the_address_with_whatever_secret(shop: Any, dockerd: Any) -> None:
    url, header = asked(shop, "one", "where")
    port = url.split(":")[2].split("/")[0]
    server = server_of(dockerd, "one")
    beside = companion_of(dockerd, server)
    [network] = beside["NetworkSettings"]["Networks"].values()
    query = "/msi/token?api-version=2019-08-01&resource=x"
    for host in ("127.0.0.1", network["IPAddress"]):
        request = urllib.request.Request(
            f"http://{host}:{port}{query}", headers={"X-IDENTITY-HEADER": header}
        )
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(request, timeout=10)
    ask = (
        "import sys, urllib.request as u\n"
        "try:\n    u.urlopen(u.Request(sys.argv[1], headers={'X-IDENTITY-HEADER': sys.argv[2]}), timeout=5)\n"
        "except OSError as problem:\n    print('refused' in str(problem))"
    )
    other = server_of(dockerd, "two")["Id"]
    neighbour = dockerd.cli(
        "exec", other, "python", "-c", ask, f"http://{network['IPAddress']}:{port}{query}", header
    )
    assert neighbour.stdout.strip() == "True", neighbour
    # The other instance has an address of the same name: there is its own identity, and this secret opens nothing.
    foreign = dockerd.cli("exec", other, "python", "-c", ask, url, header)
    assert foreign.stdout.strip() == "False", foreign
    assert set(beside["NetworkSettings"]["Ports"]) == {"8501/tcp"}


def test_what_is_beside_has_no_rights_and_no_secrets_of_the_server(shop: Any, dockerd: Any) -> None:
    beside = companion_of(dockerd, server_of(dockerd, "one"))
    config = beside["HostConfig"]
    assert (config["ReadonlyRootfs"], config["CapDrop"]) == (True, ["ALL"])
    assert beside["Config"]["User"].split(":")[0] != "0"
    assert "docker.sock" not in json.dumps(beside)
    assert PASSWORD not in json.dumps(beside)
    top = dockerd.cli("top", beside["Id"], "-eo", "pid,args").stdout
    assert PASSWORD not in top
    assert asked(shop, "one", "where")[1] not in top
    for mount in beside["Mounts"]:
        if mount["Destination"] == "/run/moorings":
            told = Path(mount["Source"]) / "private.json"
            assert told.stat().st_mode & 0o077 == 0
            assert PASSWORD not in told.read_text()


def test_a_server_that_dies_and_a_companion_that_dies_get_their_tokens_again(shop: Any, dockerd: Any) -> None:
    before = companion_of(dockerd, server_of(dockerd, "one"))
    shop.kill("daemon")
    shop.score("one", "die")
    assert who(asked(shop, "one", "first")), "kept by what is beside, with no daemon of ours"
    shop.moor("workspace", "start")
    assert companion_of(dockerd, server_of(dockerd, "one"))["Id"] == before["Id"]
    dockerd.cli("restart", "-t", "0", before["Id"])
    until(lambda: shop.score("one", "first").status == 200)
    assert who(asked(shop, "one", "https://again.example"))
    dockerd.cli("rm", "-f", before["Id"])
    assert who(asked(shop, "one", "https://another.example")) == principal(shop, "one")


def test_after_the_engine_was_away_all_is_there_again(shop: Any, dockerd: Any) -> None:
    dockerd.stop()
    dockerd.start()
    assert who(asked(shop, "one", "https://after.example")) == principal(shop, "one")
    assert who(asked(shop, "two", "https://after.example")) == principal(shop, "two")


def followed(shop: Any) -> str:
    """What `--follow` shows, up to the line with all variables."""
    command = [str(Path(sys.executable).parent / "moor"), "online-deployment", "get-logs", "--follow"]
    with subprocess.Popen(
        [*command, "-e", "one", "-n", "blue"], env=shop.env, stdout=subprocess.PIPE, text=True
    ) as follows:
        assert follows.stdout is not None
        asked(shop, "one", "all")
        found = []
        for line in follows.stdout:
            found.append(line)
            if sum("all of it" in each for each in found) > 1:
                break
        follows.kill()
    return "".join(found)


def test_what_a_server_prints_of_its_secrets_is_in_no_log_of_ours(shop: Any, dockerd: Any) -> None:
    assert asked(shop, "one", "all") == {"PASSWORD": PASSWORD, "MINE": "yes"}
    header = asked(shop, "one", "where")[1]

    def said(*more: str) -> str:
        one = ("-e", "one", "-n", "blue")
        return str(shop.moor("online-deployment", "get-logs", *one, *more, check=False).stdout)

    until(lambda: "all of it" in said())
    told = [said(), said("--container", "inference-server"), followed(shop)]
    shop.moor("online-endpoint", "delete", "-n", "one", "--yes")
    kept = b"".join(p.read_bytes() for p in (shop.home / "logs").rglob("*.log*"))
    assert b"all of it" in kept
    for text in (*told, said("--deleted"), kept.decode()):
        assert PASSWORD not in text
        assert header not in text
    for path in shop.home.rglob("*"):
        if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
            assert PASSWORD.encode() not in path.read_bytes(), path


def test_nothing_is_left(shop: Any, dockerd: Any) -> None:
    shop.moor("online-endpoint", "delete", "-n", "two", "--yes")
    until(lambda: not inspected(dockerd, "label=moorings.companion"))
