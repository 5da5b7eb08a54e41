"""Input that is wrong or hostile, through the real command line and the real API: one coded error each, nothing made.

A failing command may take a moment, end with 1 or 2, and show a person what is wrong; it never shows a traceback,
leaves a resource behind or disturbs what serves.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moorings.errors.catalogue import CATALOGUE
from moorings.settings import Settings

GOOD = "def init(): pass\ndef run(data): return 'fine'\n"
SHOWN = re.compile(r"^ERROR: \((\w+)", re.MULTILINE)


@pytest.fixture(scope="module")
def bad(workspace: Any) -> Iterator[Any]:
    """A workspace with one good deployment that must stay as it is."""
    workspace.endpoint("good")
    workspace.deploy(workspace.spec("good", "blue", workspace.script("good", GOOD)), "--all-traffic")
    yield workspace
    assert workspace.score("good", 1).json == "fine"
    assert [d["name"] for d in workspace.json("online-deployment", "list", "-e", "good")] == ["blue"]
    assert [e["name"] for e in workspace.json("online-endpoint", "list")] == ["good"]
    assert not list((workspace.home / "assets" / "incoming").iterdir())
    assert not list((workspace.home / "logs").glob("cli-crash*"))
    log = (workspace.home / "logs" / "daemon.log").read_text()
    assert "Traceback" not in log, log[-5000:]


def refused(workspace: Any, *argv: str, code: str | None = None, timeout_s: float = 30) -> str:
    """Run a command that must fail; its words. With `code`, that must be among the codes it shows."""
    done: subprocess.CompletedProcess[str] = workspace.moor(*argv, check=False, timeout_s=timeout_s)
    print(f"$ moor {' '.join(argv)[:200]}\n{done.stderr[:3000]}")
    assert done.returncode in (1, 2), (done.returncode, done.stdout, done.stderr)
    assert done.stderr.strip() and "Traceback" not in done.stderr, done.stderr
    assert len(done.stderr) < 20_000
    if done.returncode == 1:
        shown = SHOWN.search(done.stderr)
        assert shown and shown[1] in CATALOGUE, done.stderr
        assert shown[1] not in ("InternalError", "InternalServerError"), done.stderr
        assert "Fix:" in done.stderr, done.stderr
    if code is not None:
        assert f"({code}" in done.stderr, done.stderr
    return str(done.stderr)


def create(workspace: Any, spec: Path, *argv: str, code: str | None = None, timeout_s: float = 30) -> str:
    before = _names(workspace)
    said = refused(
        workspace, "online-deployment", "create", "-f", str(spec), *argv, code=code, timeout_s=timeout_s
    )
    assert _names(workspace) == before
    return said


def _names(workspace: Any) -> list[str]:
    return [d["name"] for d in ask(workspace, "GET", "/onlineEndpoints/good/deployments")[1]["value"]]


# --- names --------------------------------------------------------------------------------------------------

NAMES = {
    "escape": "../../etc",
    "slash": "a/b",
    "dots": "...",
    "newline": "blue\nred",
    "trailing-newline": "blue\n",
    "look-alike": "bluе",  # the last letter is Cyrillic
    "full-width": "ｂｌｕｅ",
    "arabic-digits": "blue١",
    "zero-width": "bl\u200bue",
    "long": "a" * 33,
    "short": "ab",
    "leading-digit": "1blue",
    "trailing-hyphen": "blue-",
    "percent": "blue%2f..",
    "space": "blue red",
    "empty": "",
    "escape-code": "blue\x1b[31m",
    "shell": "$(id)",
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_deployments(bad: Any, kind: str) -> None:
    spec = bad.spec("good", "placeholder", bad.script("good", GOOD))
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "name": NAMES[kind]}))
    said = create(bad, spec)
    assert "\x1b" not in said


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_endpoints(bad: Any, kind: str) -> None:
    said = refused(bad, "online-endpoint", "create", "-n", NAMES[kind])
    assert "\x1b" not in said


@pytest.mark.parametrize("name", ["../../etc", "a\nb", "%2e%2e", "bluе", "x" * 300, "..", "."])
def test_names_that_are_asked_for(bad: Any, name: str) -> None:
    refused(bad, "online-deployment", "show", "-e", "good", "-n", name)
    refused(bad, "online-deployment", "get-logs", "-e", "good", "-n", name)
    refused(bad, "online-endpoint", "show", "-n", name)
    refused(bad, "online-endpoint", "invoke", "-n", name)


def test_a_name_with_nul_in_a_file(bad: Any) -> None:
    spec = bad.spec("good", "placeholder", bad.script("good", GOOD))
    spec.write_text(spec.read_text().replace("placeholder", "blue\\u0000"))
    create(bad, spec)
    spec.write_bytes(b"name: blue\0\nendpoint_name: good\n")
    create(bad, spec, code="SpecNotYaml")


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", ["/etc/passwd", "../other/score.py", "score.py\0", "a\nb.py", "", ".", "x" * 5000]
)
def test_scoring_scripts_outside_the_code(bad: Any, script: str) -> None:
    spec = bad.spec("good", "other", "x")
    document = json.loads(spec.read_text())
    document["code_configuration"] = {"code": str(bad.script("good", GOOD)), "scoring_script": script}
    spec.write_text(json.dumps(document))
    create(bad, spec)


def test_a_huge_spec_is_refused_unread(bad: Any) -> None:
    spec = bad.files / "huge.yml"
    with spec.open("wb") as handle:
        handle.truncate(100 * 1024 * 1024)
    began = time.monotonic()
    refused(bad, "online-deployment", "create", "-f", str(spec), code="SpecTooLarge")
    assert time.monotonic() - began < 5
    spec.unlink()


def test_aliases_that_multiply(bad: Any) -> None:
    spec = bad.files / "bomb.yml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    spec.write_text("\n".join(lines))
    create(bad, spec, code="SpecTooLarge")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"{a: " * 5_000,
        b"\xff\xfe\x00",
        b"!!python/object/apply:os.system [id]",
        b"&a [*a]",
        b"- a\n- b\n",
        b"",
        b"name: a\n---\nname: b\n",
        b"name: [\n",
        b"\xed\xa0\x80",
    ],
)
def test_texts_that_are_no_spec(bad: Any, content: bytes) -> None:
    spec = bad.files / "no.yml"
    spec.write_bytes(content)
    create(bad, spec)


@pytest.mark.parametrize("path", ["/", "/dev/zero", "/dev/stdin", "missing.yml", "x" * 300, "/proc/self/mem"])
def test_spec_files_that_are_none(bad: Any, path: str) -> None:
    refused(bad, "online-deployment", "create", "-f", path)
    refused(bad, "online-endpoint", "create", "-f", path)


def _link(folder: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(folder / "pipe")
    elif kind == "device":
        os.mknod(folder / "null", 0o600 | 0o020000, os.makedev(1, 3))
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(folder / "s"))
    else:
        (folder / "link").symlink_to(
            {"absolute": "/etc", "passwd": "/etc/passwd", "up": "..", "loop": "link", "broken": "nowhere"}[
                kind
            ]
        )


KINDS = {
    "absolute": "AssetLinkEscapes",
    "passwd": "AssetLinkEscapes",
    "up": "AssetLinkEscapes",
    "loop": "AssetLinkBroken",
    "broken": "AssetLinkBroken",
    "fifo": "AssetNotAFile",
    "device": "AssetNotAFile",
    "socket": "AssetNotAFile",
}


@pytest.mark.parametrize("where", ["model", "code"])
@pytest.mark.parametrize("kind", KINDS)
def test_folders_that_hold_more_than_files(bad: Any, kind: str, where: str, tmp_path: Path) -> None:
    if kind == "device" and os.geteuid() != 0:
        kind = "fifo"  # only root makes devices
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.bin").write_bytes(b"1")
    (model / "score.py").write_text(GOOD)
    _link(model, kind)
    code = model if where == "code" else bad.script("good", GOOD)
    extra = {"model": {"path": str(model)}} if where == "model" else {}
    create(bad, bad.spec("good", "links", code, **extra), code=KINDS[kind])


@pytest.mark.parametrize("path", ["/", "/proc", "/dev/zero", "HOME", "/etc/passwd/x", "~nobody-there/x"])
def test_models_from_odd_places(bad: Any, path: str) -> None:
    path = str(bad.home) if path == "HOME" else path
    create(bad, bad.spec("good", "odd", bad.script("good", GOOD), model={"path": path}))


def test_names_of_files_that_are_hard(bad: Any, tmp_path: Path) -> None:
    """What the file system takes, the store takes: 255 bytes, line breaks, no UTF-8."""
    folder = tmp_path / "hard"
    folder.mkdir()
    (folder / "score.py").write_text(GOOD)
    (folder / ("n" * 255)).write_text("long")
    (folder / "line\nbreak").write_text("odd")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).write_text("no utf-8")
    bad.deploy(bad.spec("good", "hard", folder))
    bad.moor("online-deployment", "delete", "-e", "good", "-n", "hard", "--yes")
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 100, dir_fd=fd)
        deeper = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    create(bad, bad.spec("good", "deep", folder))
    subprocess.run(["rm", "-rf", str(folder)], check=True)


# --- environments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conda", "code"),
    [
        ("- numpy\n- pandas\n", None),
        ("just text", None),
        ("dependencies: numpy\n", None),
        ("channels: [no-such-channel]\ndependencies: [python=3.11, no-such-channel::thing]\n", None),
        ("dependencies: [python=9.9]\n", "PythonNotFound"),
        ("dependencies: [python=2.7]\n", "PythonUnsupported"),
        ("dependencies: ['python=banana']\n", None),
        ("dependencies: [python=3.11, pip: ['--index-url http://127.0.0.1:1/']]\n", None),
        ("dependencies: [python=3.11, {pip: ['-e .']}]\n", None),
        ("dependencies: [python=3.11, {pip: ['-r /etc/passwd']}]\n", None),
        ("dependencies: [python=3.11, {pip: ['x @ file:///nowhere/x.whl']}]\n", None),
        ("dependencies: [python=3.11, {pip: ['numpy==2.0; rm -rf /']}]\n", None),
        ("dependencies: [python=3.11, {pip: ['a\\nb']}]\n", None),
    ],
)
def test_conda_files(bad: Any, conda: str, code: str | None) -> None:
    (bad.files / "bad.yaml").write_text(conda)
    environment = {"image": "local/base", "conda_file": "bad.yaml"}
    spec = bad.spec("good", "conda", bad.script("good", GOOD), environment=environment)
    refused(bad, "online-deployment", "create", "-f", str(spec), code=code, timeout_s=120)
    bad.moor("online-deployment", "delete", "-e", "good", "-n", "conda", "--yes")


# --- flags and requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    ["nonsense", "=", "=1", "a.b.c=1", "name=../x", "instance_count=-1", "instance_count=many", "tags[0]=x",
     "instance_count=1e99", "code_configuration=1", "request_settings.max_concurrent_requests_per_instance=true",
     "x" * 20_000 + "=1", "[", "a[999999999]=1"],
)  # fmt: skip
def test_set_expressions(bad: Any, expression: str) -> None:
    create(bad, bad.spec("good", "other", bad.script("good", GOOD)), "--set", expression)


@pytest.mark.parametrize(
    "expression", ["nonsense", "instance_count=-1", "name=green", "environment=azureml:no:1"]
)
def test_set_expressions_of_an_update(bad: Any, expression: str) -> None:
    refused(bad, "online-deployment", "update", "-e", "good", "-n", "blue", "--set", expression)


@pytest.mark.parametrize(
    "traffic", ["blue", "blue=101", "blue=-1", "green=100", "blue=50", "blue=1e2", "=100", "a=b=c"]
)
def test_traffic(bad: Any, traffic: str) -> None:
    refused(bad, "online-endpoint", "update", "-n", "good", "--traffic", traffic)


def test_request_files(bad: Any) -> None:
    (bad.files / "no.json").write_text("{'a': 1}")
    refused(bad, "online-endpoint", "invoke", "-n", "good", "-r", "no.json", code="RequestNotJson")
    (bad.files / "no.json").write_bytes(b"\xff\xfe")
    refused(bad, "online-endpoint", "invoke", "-n", "good", "-r", "no.json")
    (bad.files / "deep.json").write_text("[" * 200_000)
    refused(bad, "online-endpoint", "invoke", "-n", "good", "-r", "deep.json")
    refused(
        bad, "online-endpoint", "invoke", "-n", "good", "-r", "missing.json", code="RequestFileUnreadable"
    )
    refused(bad, "online-endpoint", "invoke", "-n", "good", "-r", "/")
    (bad.files / "big.json").write_text(json.dumps("x" * 10_000_000))
    refused(bad, "online-endpoint", "invoke", "-n", "good", "-r", "big.json")
    refused(bad, "online-endpoint", "invoke", "-n", "good", "-d", "no-such", "-r", "big.json")


@pytest.mark.parametrize("query", ["[", "a.b.", "@@", "length(1)"])
def test_queries(bad: Any, query: str) -> None:
    refused(bad, "online-endpoint", "list", "--query", query, code="QueryInvalid")


# --- the API ------------------------------------------------------------------------------------------------


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("moorings", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def ask(
    workspace: Any,
    method: str,
    path: str,
    body: bytes | None = None,
    content_type: str | None = "application/json",
) -> tuple[int, Any]:
    """Status and JSON of one request; what is refused carries a code of the catalogue."""
    settings = Settings.load(workspace.env)
    prefix = "" if path.startswith("/subscriptions") or path == "/" else settings.workspace.path
    connection = _Unix(settings.api_socket)
    try:
        connection.request(
            method,
            f"{prefix}{path}",
            body=body,
            headers={"Content-Type": content_type} if content_type else {},
        )
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
    finally:
        connection.close()
    print(method, path[:100], status, text[:300])
    assert b"Traceback" not in text
    document = json.loads(text) if text else {}
    if status >= 400:
        code = document["error"]["code"]
        assert code in CATALOGUE, document
        assert status < 500 or (status != 500 and status == CATALOGUE[code].http_status), document
        assert len(text) < 50_000
    return status, document


DEEP = b'{"properties": ' + b'{"a": ' * 50_000 + b"1" + b"}" * 50_000 + b"}"
ENDPOINT = json.dumps({"location": "local", "properties": {"authMode": "Key"}}).encode()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff\xfe", b"{}" * 2, DEEP, b"[" * 100_000, b'{"properties": []}',
     b'{"properties": {"authMode": "None"}}', b'{"properties": {"traffic": {"blue": "x"}}}',
     b'{"properties": {"traffic": {"blue": 1e999}}}', b'{"properties": NaN}', b'{"tags": {"a": 1}, "properties": 5}',
     b'{"properties": {"description": "\\ud800"}}',
     json.dumps({"properties": {"authMode": "x" * 10_000_000}}).encode()],
)  # fmt: skip
def test_bodies(bad: Any, body: bytes) -> None:
    paths = ["/onlineEndpoints/other", "/codes/other/versions/1"]
    if len(body) > 5_000_000 or (
        b"authMode" not in body and b"traffic" not in body
    ):  # which deployments do not know
        paths.append("/onlineEndpoints/good/deployments/other")
    for path in paths:
        status, _ = ask(bad, "PUT", path, body)
        assert 400 <= status < 500, (path, body[:100])
    status, _ = ask(bad, "PATCH", "/onlineEndpoints/good/deployments/blue", body)
    if body not in (b'{"properties": []}',) and b"properties" not in body:
        assert 400 <= status < 500


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/xml", "multipart/form-data; boundary=x"]
)
def test_content_types(bad: Any, content_type: str | None) -> None:
    """Taken for JSON or refused; never half of each."""
    status, _ = ask(bad, "PUT", "/onlineEndpoints/other", b"<a/>", content_type)
    assert 400 <= status < 500


@pytest.mark.parametrize(
    "path",
    [
        "/onlineEndpoints/..%2f..%2fetc",
        "/onlineEndpoints/%2e%2e",
        "/onlineEndpoints/good%2fdeployments%2fother",
        "/onlineEndpoints/good/deployments/a%2fb",
        "/onlineEndpoints/a%00b",
        "/onlineEndpoints/a%0ab",
        "/onlineEndpoints/blu%d0%b5",
        "/onlineEndpoints/%ff%fe",
        "/onlineEndpoints/" + "x" * 5000,
        "/onlineEndpoints//deployments/x",
        "/models/..%2f..%2f/versions/1",
        "/models/x/versions/..%2f..",
        "/codes/a%00/versions/1",
        "/environments/%0a/versions/1",
        "/subscriptions/other/resourceGroups/local/providers/Microsoft.MachineLearningServices/workspaces/other"
        "/onlineEndpoints/elsewhere",
        "/",
    ],
)
def test_api_paths(bad: Any, path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    uri = (tmp_path / "file").as_uri()
    asset = json.dumps({"properties": {"codeUri": uri, "modelUri": uri, "image": "a"}}).encode()
    body = ENDPOINT if "onlineEndpoints" in path else asset
    for method in ("GET", "PUT", "DELETE", "POST"):
        status, _ = ask(bad, method, path, body if method in ("PUT", "POST") else None)
        assert status >= 400 or (method, status) == ("DELETE", 204), (method, path, status)
    assert "elsewhere" not in json.dumps(bad.json("online-endpoint", "list"))


@pytest.mark.parametrize(
    "uri",
    ["file:///etc/shadow/x", "file://other/x", "http://127.0.0.1:1/x", "x", "../x", "", "file:///%00", "file:///dev/zero",
     "azureml://x", "file:///" + "x" * 5000, "file:///proc/1/environ/x", 5, None, ["x"]],
)  # fmt: skip
def test_asset_addresses(bad: Any, uri: object) -> None:
    for kind, key in (("codes", "codeUri"), ("models", "modelUri")):
        status, _ = ask(
            bad, "PUT", f"/{kind}/asset/versions/1", json.dumps({"properties": {key: uri}}).encode()
        )
        assert status >= 400
        assert ask(bad, "GET", f"/{kind}/asset/versions/1")[0] == 404


@pytest.mark.parametrize(
    "body", [b'{"tail": -1}', b'{"tail": 1e400}', b'{"containerType": "../x"}', b'{"containerType": 5}']
)
def test_log_requests(bad: Any, body: bytes) -> None:
    status, _ = ask(bad, "POST", "/onlineEndpoints/good/deployments/blue/getLogs", body)
    assert status == 200 or 400 <= status < 500


@pytest.mark.parametrize("capacity", [-1, 0, 10**30, "x", True, [], {"a": 1}, 1.5])
def test_capacities(bad: Any, capacity: object) -> None:
    body = json.dumps({"sku": {"capacity": capacity}}).encode()
    status, _ = ask(bad, "PATCH", "/onlineEndpoints/good/deployments/blue", body)
    assert 400 <= status < 500
    assert ask(bad, "PATCH", "/onlineEndpoints/good/deployments/blue", b'{"sku": 5}')[0] == 400
    assert ask(bad, "PATCH", "/onlineEndpoints/none/deployments/blue", body)[0] == 404


def test_raw_bytes_on_the_socket(bad: Any) -> None:
    settings = Settings.load(bad.env)
    for data in (
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"A" * 200_000,
    ):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(5)
            raw.connect(str(settings.api_socket))
            try:
                raw.sendall(data)
                raw.shutdown(socket.SHUT_WR)
                raw.recv(1000)
            except OSError:
                pass
    assert ask(bad, "GET", "/onlineEndpoints")[0] == 200
