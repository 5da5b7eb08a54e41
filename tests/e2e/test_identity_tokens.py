"""A running instance gets tokens for its endpoint's identity with the ecosystem's own library, and nobody else does."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

CONDA = (
    "channels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip\n  - pip: [azure-identity==1.27.0]\n"
)
SCORE = """
import json, os
from azure.identity import ManagedIdentityCredential
def init(): ...
def run(data):
    asked = json.loads(data)
    if asked.get("where"):
        return os.environ["IDENTITY_ENDPOINT"]
    credential = ManagedIdentityCredential(client_id=asked.get("client_id"), retry_total=0)
    try:
        token = credential.get_token(asked["scope"])
    except Exception as problem:
        return {"error": str(problem)}
    return {"token": token.token, "expires_on": token.expires_on}
"""
SCOPE = "https://storage.example/.default"


@pytest.fixture(scope="module")
def shop(workspace: Any) -> Any:
    """`shop` with an identity of its own, `theirs` with the user-assigned `runner`; `tokens` opens with aml_token."""
    (workspace.files / "identity.yaml").write_text(CONDA)
    environment = {"image": "local/base", "conda_file": "identity.yaml"}
    workspace.moor("identity", "create", "-n", "runner")
    for role, scope in (("AcrPull", "registry"), ("Storage Blob Data Reader", "storage")):
        workspace.moor(
            "role", "assignment", "create", "--assignee", "runner", "--role", role, "--scope", scope
        )
    (workspace.files / "theirs.yml").write_text(
        "name: theirs\nidentity: {type: user_assigned, user_assigned_identities: [{resource_id: runner}]}\n"
    )
    (workspace.files / "tokens.yml").write_text("name: tokens\nauth_mode: aml_token\n")
    workspace.endpoint("shop")
    workspace.moor("online-endpoint", "create", "-f", "theirs.yml")
    workspace.moor("online-endpoint", "create", "-f", "tokens.yml")
    code = workspace.script("asks", SCORE)
    settings = {"request_timeout_ms": 60_000}
    for endpoint in ("shop", "theirs"):
        spec = workspace.spec(endpoint, "blue", code, environment=environment, request_settings=settings)
        workspace.deploy(spec, "--all-traffic")
    plain = workspace.script("plain", "def init(): ...\ndef run(data): return 1\n")
    workspace.deploy(workspace.spec("tokens", "blue", plain), "--all-traffic")
    return workspace


def asked(shop: Any, endpoint: str, **wish: Any) -> Any:
    answer = shop.score(endpoint, wish)
    assert answer.status == 200, answer.body
    return answer.json


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_the_library_gets_a_token_of_the_endpoints_own_identity(shop: Any) -> None:
    found = asked(shop, "shop", scope=SCOPE)
    said = claims(found["token"])
    principal = shop.json("online-endpoint", "show", "-n", "shop")["identity"]["principal_id"]
    assert (said["oid"], said["aud"]) == (principal, "https://storage.example")
    assert said["exp"] == found["expires_on"] > time.time() + 3600
    assert asked(shop, "shop", scope=SCOPE)["token"] == found["token"], "kept until half of its life is over"


def test_a_user_assigned_identity_is_asked_for_by_its_client_id(shop: Any) -> None:
    runner = shop.json("identity", "show", "-n", "runner")
    found = asked(shop, "theirs", scope=SCOPE, client_id=runner["clientId"])
    assert claims(found["token"])["oid"] == runner["principalId"]
    other = asked(shop, "shop", scope=SCOPE, client_id=runner["clientId"])
    assert "no identity with client_id" in other["error"]


@pytest.mark.parametrize("headers", [{}, {"X-IDENTITY-HEADER": "guessed"}, {"Metadata": "true"}])
def test_whoever_does_not_know_the_secret_gets_nothing(shop: Any, headers: dict[str, str]) -> None:
    url = asked(shop, "shop", where=True)
    assert url.startswith("http://127.0.0.1:")
    request = urllib.request.Request(f"{url}?api-version=2019-08-01&resource=x", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as answer:
        assert answer.code == 401
        assert b"access_token" not in answer.read()


def test_a_token_of_an_identity_opens_no_endpoint_with_tokens_of_its_own(shop: Any) -> None:
    good = shop.json("online-endpoint", "get-credentials", "-n", "tokens")["accessToken"]
    assert shop.score("tokens", {}, key=good).status == 200
    forged = asked(shop, "shop", scope=claims(good)["aud"])["token"]
    assert claims(forged)["aud"] == claims(good)["aud"]
    assert shop.score("tokens", {}, key=forged).status == 401


SIGNS_IN = """
import json, os, ssl, sys, urllib.error, urllib.request
from azure.identity import ClientSecretCredential, EnvironmentCredential
told, base = json.loads(sys.argv[1]), os.environ["AZUREML_DEV_URL_MFE"]
secret = (told["appId"], told["password"])
first = ClientSecretCredential("local", *secret, authority=base, disable_instance_discovery=True)
os.environ.update(AZURE_AUTHORITY_HOST=base, AZURE_TENANT_ID="adfs")
os.environ.update(AZURE_CLIENT_ID=secret[0], AZURE_CLIENT_SECRET=secret[1])
context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
at = base + "/subscriptions/x/resourceGroups/y/providers/Microsoft.MachineLearningServices/workspaces/z/onlineEndpoints"
for credential in (first, EnvironmentCredential()):
    token = credential.get_token("https://management.azure.com/.default").token
    for verb, path in (("GET", ""), ("DELETE", "/shop")):
        request = urllib.request.Request(at + path, method=verb, headers={"authorization": "Bearer " + token})
        try:
            with urllib.request.urlopen(request, context=context) as answer:
                print(verb, answer.status)
        except urllib.error.HTTPError as problem:
            print(verb, problem.code)
"""


def test_a_service_principal_signs_in_with_the_library_and_does_what_its_role_gives(shop: Any) -> None:
    python = (
        next(shop.home.glob("environments/*/lib/python*/site-packages/azure/identity")).parents[4]
        / "bin/python"
    )
    made = shop.json("ad", "sp", "create-for-rbac", "-n", "ci", "--role", "Reader", "--scopes", "workspace")
    variables = shop.json("workspace", "env")
    done = subprocess.run(
        [str(python), "-c", SIGNS_IN, json.dumps(made)],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split("\n")[:-1] == ["GET 200", "DELETE 403"] * 2, done.stderr
    audited = shop.json("audit", "list", "--who", "ci")
    assert [(r["method"], r["result"]) for r in audited] == [("POST", "succeeded"), ("DELETE", "refused")] * 2
    assert made["password"] not in json.dumps(audited)


def test_without_the_daemon_tokens_from_before_hold_and_others_say_what_to_do(shop: Any) -> None:
    before = asked(shop, "shop", scope=SCOPE)
    shop.kill("daemon")
    assert asked(shop, "shop", scope=SCOPE) == before
    other = asked(shop, "shop", scope="https://other.example/.default")
    assert "moor workspace start" in other["error"]
    shop.moor("workspace", "start")
    assert "token" in asked(shop, "shop", scope="https://other.example/.default")
