"""The same deployments on processes and in containers give the same answers: status, headers, body."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)  # the sample's environment is built twice
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
PYTHON = "{}.{}".format(*sys.version_info)
"""Of both engines: the base image has the Python that runs the tests, and so have processes one of that version."""
SCORE = """\
import json, os, sys, time
from moorings_server.aml import AMLResponse

def init():
    global model
    model = open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "weights", "w.txt")).read()

def run(data):
    asked = json.loads(data)
    kind = asked.get("kind") if isinstance(asked, dict) else None
    if kind == "raise":
        raise ValueError(asked["text"])
    if kind == "answer":
        return AMLResponse(asked["body"], asked["status"], asked.get("headers"), json_str=True)
    if kind == "sleep":
        time.sleep(asked["s"])
    if kind == "bytes":
        return AMLResponse(bytes(range(256)), 200)
    if kind == "none":
        return None
    if kind == "unserialisable":
        return object()
    if kind == "generator":
        return {"sum": sum(range(asked["n"]))}
    if kind == "large":
        return "x" * asked["n"]
    return {"echo": asked, "model": model, "script": os.path.basename(__file__)}
"""
RAW = """\
from moorings_server.aml import AMLResponse, rawhttp

def init():
    pass

@rawhttp
def run(request):
    if request.method == "GET":
        return AMLResponse({"arguments": dict(request.args)}, 200, json_str=True)
    found = {"method": request.method, "length": len(request.get_data()), "type": request.content_type}
    return AMLResponse(found, 200, json_str=True)
"""
OWN = ("date", "x-request-id", "x-ms-request-id", "content-length", "x-ms-run-fn-exec-ms")
"""Headers that differ from request to request; the length is compared with the body."""
WORKER_BUSY_S = 3.0
"""How long a worker may go on with a request that was given up: the next one would wait for it, or not, by chance."""
DEPLOYMENTS = {
    "kinds": "blue",
    "raw": "blue",
    "diabetes-blue": "blue",
    "mlflow-sklearn": "sklearn-deployment",
}
Case = tuple[str, str, bytes, Mapping[str, str]]


def cases() -> list[Case]:
    """(endpoint, path, body, headers)."""

    def post(body: object, endpoint: str = "kinds", path: str = "score", **headers: str) -> Case:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return endpoint, path, body if isinstance(body, bytes) else json.dumps(body).encode(), named

    found = [
        post(value) for value in (1, -2.5, "text", "ünï", None, True, [], {}, [1, [2]], {"a": {"b": [None]}})
    ]
    found += [
        post({"kind": "answer", "status": status, "body": {"s": status}})
        for status in (200, 201, 204, 400, 404, 418, 429, 500, 503)
    ]
    found += [
        post(
            {
                "kind": "answer",
                "status": 200,
                "body": "plain",
                "headers": {"x-mine": "1", "content-type": "text/plain"},
            }
        ),
        post({"kind": "answer", "status": 404, "body": {"why": "no"}, "headers": {"x-mine": "2"}}),
        post({"kind": "raise", "text": "no"}),
        post({"kind": "raise", "text": "ünï\nlines"}),
        post({"kind": "bytes"}),
        post({"kind": "none"}),
        post({"kind": "unserialisable"}),
        post({"kind": "generator", "n": 1000}),
        post({"kind": "sleep", "s": 0.05}),
        post({"kind": "sleep", "s": 2}),
        post({"kind": "large", "n": 100_000}),
        post({"kind": "large", "n": 2_000_000}),
        post(b""),
        post(b"not json"),
        post(b"{"),
        post(b"\xff\xfe"),
        post(b"x" * 2_000_000),
        post(1, path="other"),
        post(1, path="swagger.json"),
        post(1, path=""),
        post(1, path="score?x=1"),
        post(1, Content_Type="text/plain"),
        post(1, Content_Type="application/json; charset=utf-8"),
        post(1, Accept="application/xml"),
        post(1, X_Request_Id="mine-1"),
        post(1, azureml_model_deployment="nobody"),
        post(1, azureml_model_deployment="blue"),
        post(1, Authorization="Bearer wrong"),
        post(1, Authorization=""),
        post({"a": 1}, "raw"),
        post(b"\x00\x01\x02", "raw", Content_Type="application/octet-stream"),
        post(b"", "raw"),
        post(1, "raw", "score?a=1&b=2"),
    ]
    request = json.loads((SAMPLES / "diabetes-blue" / "sample-request.json").read_text())
    rows = request["data"]
    wrapped = json.loads((SAMPLES / "mlflow-sklearn" / "sample-request.json").read_text())
    found += [
        post(request, "diabetes-blue"),
        post({"data": rows[:1]}, "diabetes-blue"),
        post({"data": rows * 50}, "diabetes-blue"),
        post({"data": []}, "diabetes-blue"),
        post({"data": [[1, 2]]}, "diabetes-blue"),
        post({"wrong": rows}, "diabetes-blue"),
        post({"data": "text"}, "diabetes-blue"),
        post(b"[", "diabetes-blue"),
        post(wrapped, "mlflow-sklearn"),
        post({"input_data": wrapped["input_data"]["data"]}, "mlflow-sklearn"),
        post({"input_data": {"columns": [0], "data": [["text"]]}}, "mlflow-sklearn"),
        post({"input_data": 1}, "mlflow-sklearn"),
        post({"wrong": 1}, "mlflow-sklearn"),
        post(b"{", "mlflow-sklearn"),
    ]
    return found


def sample(name: str, folder: Path, endpoint: str) -> Path:
    """A sample for an endpoint of this name, on the Python that both engines have."""
    shutil.copytree(SAMPLES / name, folder)
    for path in folder.rglob("*"):
        if path.suffix in (".yml", ".yaml"):
            text = path.read_text()
            changed = re.sub(r"python=3\.\d+", f"python={PYTHON}", text).replace("my-endpoint", endpoint)
            path.write_text(changed)
    return folder


def prepare(workspace: Any) -> None:
    """The same endpoints and deployments for each."""
    (workspace.files / "conda.yaml").write_text(f"dependencies:\n  - python={PYTHON}\n")
    (workspace.files / "weights").mkdir()
    (workspace.files / "weights" / "w.txt").write_text("0.5")
    for endpoint, script in (("kinds", SCORE), ("raw", RAW)):
        code = workspace.script(endpoint, script)
        spec = workspace.spec(
            endpoint,
            "blue",
            code,
            model={"path": str(workspace.files / "weights")},
            request_settings={"request_timeout_ms": 1000},
        )
        workspace.endpoint(endpoint)
        workspace.deploy(spec, "--all-traffic")
    for name, file in {
        "diabetes-blue": "blue-deployment.yml",
        "mlflow-sklearn": "deployment.yml",
    }.items():
        folder = sample(name, workspace.files / name, name)
        workspace.moor("online-endpoint", "create", "-f", str(folder / "endpoint.yml"))
        created = ("online-deployment", "create", "-f", str(folder / file), "--all-traffic")
        workspace.moor(*created, timeout_s=600)


@pytest.fixture(scope="module")
def pair(dockerd: Any, workspace_factory: Any) -> dict[str, Any]:
    """Two workspaces that differ in the engine alone, with the same endpoints."""
    aliases = dict.fromkeys(("mcr.microsoft.com/*", "python:*", "local/base"), "moorings.test/python:base")
    docker = {"engine": "docker", "docker": {"host": dockerd.host}, "image_aliases": aliases}
    made = {"process": workspace_factory(), "docker": workspace_factory(docker)}
    with ThreadPoolExecutor() as pool:  # at once: the larger part is uv's and Docker's work
        list(pool.map(prepare, made.values()))
    return made


def test_processes_and_containers_answer_alike(pair: dict[str, Any]) -> None:
    asked = cases()
    assert len(asked) >= 50
    different = []
    statuses = set()
    for case in asked:
        answers = {name: ask(workspace, case) for name, workspace in pair.items()}
        statuses.add(answers["process"][0])
        if answers["process"][0] == 408:
            time.sleep(WORKER_BUSY_S)
        if answers["process"] != answers["docker"]:
            one, two = answers["process"], answers["docker"]
            headers = {
                n: (one[1].get(n), two[1].get(n))
                for n in {*one[1], *two[1]}
                if one[1].get(n) != two[1].get(n)
            }
            body = "" if one[2] == two[2] else f"{one[2][:200]!r} {two[2][:200]!r}"
            different.append(f"{case[0]}/{case[1]} {case[2][:60]!r}: {one[0]} {two[0]} {headers} {body}")
    assert not different, "\n".join(different)
    assert {200, 401, 404, 408, 413, 424} <= statuses, f"the requests are not of all kinds: {statuses}"


@pytest.mark.parametrize(("endpoint", "deployment"), list(DEPLOYMENTS.items()))
def test_the_same_lock_gives_the_venv_and_the_image(
    pair: dict[str, Any], endpoint: str, deployment: str
) -> None:
    """The same key, where the Python is the same to its patch release."""
    found = {}
    for name, workspace in pair.items():
        shown = json.dumps(workspace.json("online-deployment", "show", "-e", endpoint, "-n", deployment))
        key = re.search(r'"([0-9a-f]{16}): (?:built|reused)', shown)
        assert key, shown
        found[name] = key[1]
    versions = {name: pythons(workspace) for name, workspace in pair.items()}
    assert len(versions["process"]) == 1
    if versions["process"] == versions["docker"]:
        assert found["process"] == found["docker"]


def pythons(workspace: Any) -> set[str]:
    """The Pythons of the environments, as their build logs name them."""
    logs = [path.read_text() for path in (workspace.home / "environments" / "logs").glob("*.log")]
    found = [set(re.findall(r"^Python ([\d.]+)", text, re.MULTILINE)) for text in logs]
    assert all(found), logs
    return set().union(*found)


def ask(workspace: Any, case: Case) -> tuple[int, dict[str, str], Any]:
    """What must be equal: the status, the headers but for those of each request, the body without its own id."""
    endpoint, path, body, headers = case
    given = dict(headers)
    key = given.pop("Authorization", None)
    key = None if key is None else key.removeprefix("Bearer ")
    answer = workspace.score(endpoint, body, path=path, headers=given, key=key)
    kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in OWN}
    text = re.sub(r'"request_id": ?"[^"]*"', '"request_id":""', answer.body)
    # The last bit of a sum depends on where an array lies in memory.
    text = re.sub(r"\d+\.\d{10,}", lambda number: f"{float(number[0]):.12g}", text)
    return answer.status, kept, text.replace(str(workspace.port), "PORT")
