"""A workspace in memory behind the transport protocol, and `moor` run against it in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from moorings.cli.main import run
from moorings.cli.session import Session
from moorings.client.transport import Answer
from moorings.environments.interpreters import Interpreter, Interpreters
from moorings.preflight import index

WS = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local"
    "/providers/Microsoft.MachineLearningServices/workspaces/local"
)


@dataclass
class MemoryWorkspace:
    """Stores what is PUT; every change becomes an operation that ends at its second poll."""

    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    operation_error: dict[str, Any] | None = None
    failing: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What operations about the resource of this name fail with."""
    diagnosis: dict[str, Any] = field(default_factory=dict)
    """What is wrong with every deployment."""
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    """What every log holds; without any a line that says what was asked."""
    streams: list[list[Any]] = field(default_factory=list)
    """What each following stream says: lines, None for an empty one, or how it breaks."""
    _polls: dict[str, int] = field(default_factory=dict)

    def send(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, timeout_s: float | None = 60.0
    ) -> Answer:
        below = path.partition("?")[0].removeprefix(WS)
        self.requests.append((method, below, json.loads(json.dumps(body)) if body is not None else None))
        given = self.answers.get((method, below))
        if given is not None:
            return given
        if below.startswith("/operations/"):
            return self._operation(below)
        return getattr(self, f"_{method.lower()}")(below, body)

    @property
    def changes(self) -> list[tuple[str, str]]:
        """The requests that change something."""
        return [(m, p) for m, p, _ in self.requests if m != "GET" and not p.endswith("/checkQuota")]

    def sent(self, method: str, ending: str) -> Any:
        """The body of the last request of that kind."""
        return [b for m, p, b in self.requests if m == method and p.endswith(ending)][-1]

    def _get(self, path: str, body: Any) -> Answer:
        if path.endswith(("/deployments", "/onlineEndpoints")):
            depth = path.count("/") + 1
            if path.endswith("/deployments") and path.rpartition("/")[0] not in self.resources:
                return missing(path)
            found = [v for k, v in self.resources.items() if k.startswith(path) and k.count("/") == depth]
            return answer(200, {"value": found})
        if path.endswith("/versions"):
            return answer(200, {"value": [v for k, v in self.resources.items() if k.startswith(path + "/")]})
        found = self.resources.get(path)
        return answer(200, found) if found is not None else missing(path)

    def stream(self, path: str, body: Any, heard: Callable[[bytes], None]) -> Answer:
        self.requests.append(("POST", path.partition("?")[0].removeprefix(WS), body))
        for piece in self.streams.pop(0):
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, Answer):
                return piece
            heard(json.dumps(piece).encode() + b"\n" if piece else b"\n")
        return Answer(200, {}, b"")

    def _put(self, path: str, body: Any) -> Answer:
        document = json.loads(json.dumps(body))
        document |= {"id": WS + path, "name": path.rpartition("/")[2]}
        properties = document["properties"]
        status = 200 if path in self.resources else 201
        self.resources[path] = document
        if "/versions/" in path:
            return answer(status, document)
        properties["provisioningState"] = "Succeeded"
        if "/deployments/" not in path:
            properties["scoringUri"] = f"http://127.0.0.1:8650/api/v1/endpoint/{document['name']}/score"
        elif document["name"] in self.failing:
            properties["provisioningState"] = "Failed"
        return answer(status, document, operation=document["name"])

    def _delete(self, path: str, body: Any) -> Answer:
        if self.resources.pop(path, None) is None:
            return Answer(204, {}, b"")
        for below in [k for k in self.resources if k.startswith(path + "/")]:
            del self.resources[below]
        return answer(202, None, operation=True)

    def _post(self, path: str, body: Any) -> Answer:
        if path.endswith("/versions"):
            return self._put(f"{path}/{sum(k.startswith(path) for k in self.resources) + 1}", body)
        if path.endswith("/listKeys"):
            return answer(200, {"primaryKey": "first-key", "secondaryKey": "second-key"})
        if path.endswith("/regenerateKeys"):
            return answer(202, None, operation=True)
        if path.endswith("/getLogs"):
            text = f"last {body['tail']} of {body['containerType']}"
            line = {"time": "2026-11-25T16:46:52.123456Z", "phase": "serve", "container": "inference-server"}
            lines = self.lines or [{**line, "instance": "shop-blue-abc-0", "text": text}]
            return answer(200, {"content": "", "lines": lines})
        if path.endswith("/diagnose") and path.rpartition("/")[0] in self.resources:
            return answer(200, self.diagnosis)
        return missing(path)

    def _operation(self, path: str) -> Answer:
        count = self._polls[path] = self._polls.get(path, 0) + 1
        problem = self.failing.get(path.rpartition("/")[2]) or self.operation_error
        status = "InProgress" if count % 2 else ("Failed" if problem else "Succeeded")
        environment = {"name": "environment", "status": "running", "startedAt": 1.0, "message": "resolving"}
        if status != "InProgress":
            environment |= {"status": "done", "endedAt": 3.5}
        document: dict[str, Any] = {
            "name": "op1",
            "status": status,
            "properties": {"phases": [environment], "waitingFor": "the environment"},
        }
        if status == "Failed":
            document["error"] = problem
        return answer(200, document, hint="20")


def answer(status: int, body: Any, *, operation: bool | str = False, hint: str | None = None) -> Answer:
    headers = {}
    if operation:
        name = operation if isinstance(operation, str) else "op1"
        headers["azure-asyncoperation"] = f"http://moorings{WS}/operations/{name}?api-version=x"
        hint = "20"
    if hint:
        headers["x-ms-retry-after-ms"] = hint
    return Answer(status, headers, b"" if body is None else json.dumps(body).encode())


def missing(path: str) -> Answer:
    kind, name = path.split("/")[-2:]
    code = {"onlineEndpoints": "EndpointNotFound", "deployments": "DeploymentNotFound"}.get(
        kind, "AssetNotFound"
    )
    info = {
        "title": "It is not there",
        "cause": "No.",
        "fix": f"Create it first: moor {name}",
        "evidence": [],
    }
    body = {
        "code": code,
        "message": f"{kind} {name} does not exist",
        "additionalInfo": [{"type": "moorings", "info": info}],
    }
    return Answer(404, {}, json.dumps({"error": body}).encode())


@dataclass
class Moor:
    """`moor(...)` returns exit code, stdout and stderr."""

    workspace: MemoryWorkspace
    home: Path
    capture: Callable[[], Any]

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        environ = {"MOORINGS_HOME": str(self.home)}
        code = run(argv, Session(environ=environ, transport=self.workspace))
        shown = self.capture()
        return code, shown.out, shown.err

    def json(self, *argv: str) -> Any:
        code, out, err = self(*argv)
        assert code == 0, err
        return json.loads(out)


@pytest.fixture(autouse=True)
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started or asked outside of this process: the package index is silent, and there is no Python."""
    monkeypatch.setattr(index.Index, "ask", lambda self, requirements, python: index.Answer(note="not asked"))
    monkeypatch.setattr(index.Index, "channels_problem", lambda self, channels: None)
    found = [Interpreter(Path("/usr/bin/python3.12"), "3.12.1")]
    monkeypatch.setattr(Interpreters, "find", lambda self: found)


@pytest.fixture
def workspace() -> MemoryWorkspace:
    return MemoryWorkspace()


@pytest.fixture
def moor(workspace: MemoryWorkspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Moor:
    return Moor(workspace, tmp_path / "home", capsys.readouterr)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a deployment file, its script and its model."""
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "score.py").write_text("def init():\n    pass\n\n\ndef run(data):\n    return data\n")
    (folder / "model").mkdir()
    (folder / "model" / "weights.bin").write_bytes(b"1")
    (folder / "conda.yml").write_text("dependencies:\n- python=3.12\n- pip:\n  - six\n")
    (folder / "blue.yml").write_text(
        "name: blue\nendpoint_name: shop\nmodel:\n  path: ./model\n"
        "code_configuration:\n  code: ./src\n  scoring_script: score.py\n"
        "environment:\n  conda_file: ./conda.yml\n  image: base:1\n"
        "instance_type: Standard_DS3_v2\ninstance_count: 1\n"
    )
    return folder
