"""Secrets and identities from outside: a secret reaches the script and nothing else, a missing role is named with the
command that gives it, and applying a workspace again takes nothing away."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "tr0ub4dor&3-horse-battery"
KEY = "sk-0123456789-abcdef"
SCORE = """
import logging, os
def init():
    print("the password is", os.environ["DB_PASSWORD"], flush=True)
    logging.warning("all of it: %s", dict(os.environ))
def run(data):
    return [os.environ["DB_PASSWORD"], os.environ["API_KEY"]]
"""
RAISES = """
import os
def init():
    raise RuntimeError("cannot log in with " + os.environ["DB_PASSWORD"])
def run(data): ...
"""
VARIABLES = {
    "DB_PASSWORD": "${{keyvault:https://local.vault.azure.net/secrets/db-password}}",
    "API_KEY": "${{azureml://connections/billing/credentials/key}}",
}


@pytest.fixture(scope="module")
def shop(workspace: Any) -> Any:
    """An endpoint whose identity may read the vault (which goes by access policies) and the connections; it serves."""
    (workspace.files / "password").write_text(PASSWORD)
    (workspace.files / "connection.yml").write_text(
        f"name: billing\ntype: custom\ntarget: https://b\ncredentials: {{key: {KEY}}}\n"
    )
    workspace.endpoint("shop")
    code = workspace.script("blue", SCORE)
    spec = workspace.spec("shop", "blue", code, environment_variables=VARIABLES)
    workspace.moor(
        "keyvault", "secret", "set", "--vault-name", "local", "-n", "db-password", "--file", "password"
    )
    workspace.moor("connection", "create", "-f", "connection.yml")
    workspace.moor("keyvault", "create", "-n", "local", "--enable-rbac-authorization", "false")
    refused = workspace.moor("online-deployment", "create", "-f", str(spec), check=False)
    assert "(SecretsInjectionError)" in refused.stderr
    for command in fixes(refused.stderr):
        workspace.moor(*command)
    workspace.moor("online-deployment", "update", "-f", str(spec))
    return workspace


def fixes(text: str) -> list[list[str]]:
    """The commands of the last `Fix:` that give something."""
    last = text.rpartition("Fix: ")[2].partition("; then:")[0].splitlines()[0]
    return [shlex.split(command)[1:] for command in last.split(" && ")]


def test_a_secret_reaches_the_script(shop: Any) -> None:
    answer = shop.score("shop", {}, headers={"azureml-model-deployment": "blue"})
    assert answer.json == [PASSWORD, KEY]


def test_a_secret_is_nowhere_else(shop: Any) -> None:
    failing = shop.script("failing", RAISES)
    spec = shop.spec("shop", "green", failing, environment_variables=VARIABLES)
    failed = shop.moor(
        "online-deployment", "create", "-f", str(spec), "--skip-checks", "--debug", check=False
    )
    assert "cannot log in with ***" in failed.stdout + failed.stderr
    told = [failed.stdout, failed.stderr]
    for deployment in ("blue", "green"):
        told.append(shop.moor("online-deployment", "show", "-e", "shop", "-n", deployment, "--debug").stderr)
        told.append(shop.moor("online-deployment", "get-logs", "-e", "shop", "-n", deployment).stdout)
    assert "the password is ***" in told[-3]
    told += [shop.moor("keyvault", "secret", "list", "--vault-name", "local", "--debug").stderr]
    told += [shop.moor("connection", "show", "-n", "billing", "--populate-secrets", "--debug").stderr]
    told += api_answers(shop)
    told += subprocess.run(["ps", "auxww"], capture_output=True, text=True, check=True).stdout.splitlines()
    told += [(p / "cmdline").read_bytes().decode(errors="replace") for p in processes(shop)]
    for secret in (PASSWORD, KEY, PASSWORD.encode().hex()):
        assert [text[:300] for text in told if secret in text] == []
    # Whatever is on disk, whoever may read it; the scripts and the user's own files are not below the home.
    roots = [shop.home, Path(socket_folder(shop))]
    found = [
        path
        for root in roots
        for path in root.rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in (PASSWORD, KEY))
    ]
    assert found == []


def test_the_processes_that_hold_it_are_closed_to_others(shop: Any) -> None:
    holders = [p for p in processes(shop) if PASSWORD.encode() in (p / "environ").read_bytes()]
    assert holders, "the worker has it: else this test shows nothing"
    for process in holders:
        assert (process / "environ").stat().st_mode & 0o077 == 0
    if os.getuid() == 0:
        peek = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", f"{holders[0]}/environ"]
        assert subprocess.run(peek, capture_output=True).returncode != 0


def test_a_worker_that_is_killed_gets_it_again_without_the_daemon(shop: Any) -> None:
    shop.kill("daemon")
    worker = next(
        p for p in processes(shop) if b"MOORINGS_ROLE=worker-0" in (p / "environ").read_bytes().split(b"\0")
    )
    os.kill(int(worker.name), 9)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = shop.score("shop", {}, headers={"azureml-model-deployment": "blue"}, key=shop.key("shop"))
        if answer.status == 200:
            break
        time.sleep(0.1)
    assert answer.json == [PASSWORD, KEY]


def test_applying_the_workspace_again_keeps_every_access_policy(shop: Any) -> None:
    before = shop.json("keyvault", "show", "-n", "local")
    assert before["properties"]["accessPolicies"]
    for _ in range(2):
        shop.moor("workspace", "create", "-n", "local")
        shop.moor("keyvault", "create", "-n", "local")
    shop.moor("workspace", "stop")
    shop.moor("workspace", "create")
    assert shop.json("keyvault", "show", "-n", "local") == before


def test_a_new_version_comes_with_the_next_update_and_not_before(shop: Any) -> None:
    (shop.files / "password").write_text("the-second-password")
    shop.moor("keyvault", "secret", "set", "--vault-name", "local", "-n", "db-password", "--file", "password")
    blue = {"azureml-model-deployment": "blue"}
    shop.moor("online-deployment", "update", "-e", "shop", "-n", "blue", "--set", "tags.a=b")
    assert shop.score("shop", {}, headers=blue).json[0] == PASSWORD
    shop.moor("online-deployment", "update", "-f", str(shop.files / "shop-blue.yml"))
    assert shop.score("shop", {}, headers=blue).json[0] == "the-second-password"


def test_a_user_assigned_identity_needs_its_roles_first(shop: Any) -> None:
    shop.moor("identity", "create", "-n", "runner")
    (shop.files / "endpoint.yml").write_text(
        "name: theirs\nidentity:\n  type: user_assigned\n  user_assigned_identities:\n    - resource_id: runner\n"
    )
    shop.moor("online-endpoint", "create", "-f", "endpoint.yml")
    shown = shop.json("online-endpoint", "show", "-n", "theirs")["identity"]
    principal = shown["user_assigned_identities"][0]["object_id"]
    assert principal == shop.json("identity", "show", "-n", "runner")["principalId"]
    code = shop.script("plain", "def init(): ...\ndef run(data): return 1\n")
    spec = shop.spec("theirs", "blue", code)
    codes = []
    for verb in ("create", "update", "update"):
        done = shop.moor("online-deployment", verb, "-f", str(spec), check=False)
        found = re.search(r"ERROR: \((\w+), ERR_\d+\)", done.stderr)
        codes.append(found[1] if found else "")
        if found:
            shop.moor(*fixes(done.stderr)[0])
    assert codes == ["IdentityCannotPull", "IdentityCannotRead", ""]
    listed = shop.json("role", "assignment", "list", "--assignee", "runner")
    assert sorted(a["roleDefinitionName"] for a in listed) == ["AcrPull", "Storage Blob Data Reader"]


def processes(workspace: Any) -> list[Path]:
    marker = f"MOORINGS_HOME={workspace.home}".encode()
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            try:
                if marker in (path / "environ").read_bytes().split(b"\0"):
                    found.append(path)
            except OSError:
                continue
    return found


def socket_folder(workspace: Any) -> str:
    from moorings.settings import Settings

    return str(Settings.load(workspace.env).run_dir)


def api_answers(workspace: Any) -> list[str]:
    """Everything the API answers to GET about what there is."""
    path = f"{socket_folder(workspace)}/api.sock"
    base = json.loads(workspace.moor("workspace", "show", "-o", "json").stdout)["id"]
    group = base.partition("/providers/")[0]
    vaults = f"{group}/providers/Microsoft.KeyVault/vaults"
    paths = [
        base,
        f"{base}/connections",
        f"{base}/connections/billing",
        f"{base}/onlineEndpoints",
        f"{base}/onlineEndpoints/shop",
        f"{base}/onlineEndpoints/shop/deployments",
        *(f"{base}/onlineEndpoints/shop/deployments/{name}" for name in ("blue", "green")),
        vaults,
        *(
            f"{vaults}/local{rest}"
            for rest in ("", "/secrets", "/secrets/db-password", "/secrets/db-password/versions")
        ),
    ]
    answers = []
    for each in paths:
        connection = http.client.HTTPConnection("moorings")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(path)
        try:
            connection.request("GET", each)
            answer = connection.getresponse()
            answers.append(answer.read().decode())
            assert answer.status == 200, (each, answers[-1])
        finally:
            connection.close()
    return answers
