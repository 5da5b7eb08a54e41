"""Where a client of the ecosystem goes astray unless the server answers just so."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

Client = Any

DEPLOY = """
ml_client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name={endpoint!r})).result()
ml_client.online_deployments.begin_create_or_update(
    ManagedOnlineDeployment(
        name={deployment!r},
        endpoint_name={endpoint!r},
        environment=Environment(image="local/base", conda_file="conda.yaml"),
        code_configuration=CodeConfiguration(code="code", scoring_script="score.py"),
        environment_variables={{"CALLS": {calls!r}}},
        instance_type="Standard_DS3_v2",
        instance_count=1,
    )
).result()
endpoint = ml_client.online_endpoints.get({endpoint!r})
endpoint.traffic = {{{deployment!r}: 100}}
ml_client.online_endpoints.begin_create_or_update(endpoint).result()
"""
SCORE = """
import json, os
def init(): ...
def run(data):
    with open(os.environ["CALLS"], "a") as log:
        log.write("call\\n")
    return json.loads(data)["data"][0]
"""


@pytest.fixture(scope="module")
def served(client: Client) -> Client:
    """Endpoints `one` with deployment `blue`, and `two` with `green`."""
    (client.folder / "code").mkdir()
    (client.folder / "code" / "score.py").write_text(SCORE)
    (client.folder / "conda.yaml").write_text("dependencies:\n  - python=3.11\n")
    (client.folder / "good.json").write_text('{"data": [7]}')
    (client.folder / "bad.json").write_text('{"data": []}')
    calls = str(client.folder / "calls")
    client.run(
        DEPLOY.format(endpoint="one", deployment="blue", calls=calls)
        + DEPLOY.format(endpoint="two", deployment="green", calls=calls)
    )
    return client


def test_a_failing_script_runs_once(served: Client) -> None:
    """The client sends a request that was answered with 500, 503 or 504 four times."""
    (served.folder / "calls").unlink(missing_ok=True)
    found = served.value("""
began = time.monotonic()
try:
    ml_client.online_endpoints.invoke("one", request_file="bad.json")
except HttpResponseError as problem:
    give([problem.status_code, str(problem), time.monotonic() - began])
""")
    status, text, seconds = found
    assert status == 424 and "scoring script" in text
    assert (served.folder / "calls").read_text() == "call\n"
    assert seconds < 4


def test_a_deployment_named_once_is_named_to_other_endpoints_too(served: Client) -> None:
    """The client keeps the header for all later requests: an unknown name must be told, not guessed around."""
    found = served.value("""
first = ml_client.online_endpoints.invoke("one", request_file="good.json", deployment_name="blue")
try:
    second = ml_client.online_endpoints.invoke("two", request_file="good.json")
except ResourceNotFoundError as problem:
    second = str(problem)
give([first, second])
""")
    assert found[0] == "7"
    assert "DeploymentNotFound" in found[1] and "azureml-model-deployment" in found[1], found


def test_new_keys_are_new_though_the_client_sends_the_old_one(served: Client) -> None:
    before, after = served.value("""
before = ml_client.online_endpoints.get_keys("one")
ml_client.online_endpoints.begin_regenerate_keys("one", key_type="secondary").result()
after = ml_client.online_endpoints.get_keys("one")
give([vars(before), vars(after)])
""")
    assert before["primary_key"] == after["primary_key"]
    assert before["secondary_key"] != after["secondary_key"]


def test_an_upload_that_was_killed_is_sent_again_as_a_whole(client: Client) -> None:
    content = os.urandom(1 << 20) * 80
    (client.folder / "big").mkdir()
    (client.folder / "big" / "a.bin").write_bytes(content)
    script = client.folder / "register.py"
    script.write_text(
        client.preamble + 'ml_client.models.create_or_update(Model(name="big", version="1", path="big"))\n'
    )
    keep = {k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")}
    running = subprocess.Popen(
        [str(client.python), str(script)],
        cwd=client.folder,
        env={**keep, **client.variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    uploads = Path(client.workspace.home) / "uploads"
    deadline = time.monotonic() + 60
    while not list(uploads.glob("blocks/*/*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert client.workspace.moor("model", "show", "-n", "big", "-v", "1", check=False).returncode == 1
    for _ in range(100):
        if not list(uploads.glob("incoming/*")):
            break
        time.sleep(0.05)
    assert not list(uploads.glob("incoming/*")), "a request that broke off leaves nothing"
    client.run(script)
    client.run('ml_client.models.download("big", "1", download_path="big-down")')
    (found,) = (p for p in (client.folder / "big-down").rglob("*") if p.is_file())
    assert found.read_bytes() == content


def test_what_was_exported_once_opens_nothing_after_the_listener_was_closed(client: Client) -> None:
    """Last in this file: it changes the workspace's secrets."""
    client.workspace.moor("workspace", "env", "--off")
    again = client.workspace.json("workspace", "env")
    assert again["IDENTITY_HEADER"] != client.variables["IDENTITY_HEADER"]
    assert again["AZUREML_DEV_URL_MFE"] == client.variables["AZUREML_DEV_URL_MFE"], "the port stays"
    refused = client.run("list(ml_client.online_endpoints.list())", check=False)
    assert refused.returncode != 0
    client.variables.update(again)
    assert isinstance(client.value("give([e.name for e in ml_client.online_endpoints.list()])"), list)
