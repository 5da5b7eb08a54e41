"""Deployments in containers, as a user has them: a real Docker Engine, the real `moor`, requests through the gateway."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BASE = "moorings.test/python:base"
SCORE = """\
import json, os
MARK = {mark!r}
def init():
    print("init of", MARK, flush=True)
def run(data):
    if json.loads(data) == "env":
        return {{"uid": os.getuid(), "cwd": os.getcwd(), "variables": dict(os.environ), "mounts": open("/proc/mounts").read()}}
    if json.loads(data) == "exit":
        os._exit(9)
    return {{"mark": MARK, "got": json.loads(data), "worker": os.environ["MOORINGS_WORKER_INDEX"]}}
"""
PYTHON = "python={}.{}".format(*sys.version_info)
"""As in the base image, which is made of the Python that runs the tests."""
CONDA = {"dependencies": [PYTHON, {"pip": ["six"]}]}
SERVER = b"""\
import http.server, json, os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        dead = self.path == "/live" and os.path.exists("/tmp/dead")
        self.answer(200 if self.path in ("/live", "/ready") and not dead else 404, {"path": self.path})
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        if self.path == "/die":
            os._exit(3)
        if self.path == "/hang":
            open("/tmp/dead", "w").close()
        models = os.environ.get("MODEL_BASE_PATH")
        self.answer(200, {"path": self.path, "body": body, "model": sorted(os.listdir(models)) if models else None})
    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(data)
print("a server of its own", flush=True)
http.server.ThreadingHTTPServer(("", 8501), Handler).serve_forever()
"""


def settings(dockerd: Any, **more: Any) -> dict[str, Any]:
    return {
        "engine": "docker",
        "docker": {"host": dockerd.host},
        "image_aliases": {"mcr.microsoft.com/*": BASE, "local/base": BASE},
        **more,
    }


@pytest.fixture(scope="module")
def docker_workspace(dockerd: Any, workspace_factory: Any) -> Any:
    return workspace_factory(settings(dockerd))


def deployment(workspace: Any, endpoint: str, name: str = "blue", mark: str = "one", **extra: Any) -> Path:
    code = workspace.script(f"{endpoint}-{name}", SCORE.format(mark=mark))
    environment = {"image": "mcr.microsoft.com/azureml/any:1", "conda_file": CONDA}
    return Path(workspace.spec(endpoint, name, code, **{"environment": environment, **extra}))


def containers(dockerd: Any, endpoint: str) -> list[dict[str, Any]]:
    ids = dockerd.cli("ps", "-aq", "--filter", f"name=-{endpoint}-").stdout.split()
    if not ids:
        return []
    shown = dockerd.cli(
        "inspect", *ids, check=False
    )  # one may have gone since it was listed: the others are shown
    assert all("no such object" in line.lower() for line in shown.stderr.split("\n") if line), shown.stderr
    return list(json.loads(shown.stdout))


def only_running(dockerd: Any, endpoint: str) -> list[dict[str, Any]]:
    """The one container that runs; none while that of the code before is still on its way out."""
    running = [each for each in containers(dockerd, endpoint) if each["State"]["Running"]]
    return running if len(running) == 1 else []


def until(check: Any, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.05)
    return found


def scores(workspace: Any, endpoint: str, body: object = 1, *, seconds: float = 30.0, **kwargs: Any) -> Any:
    """The answer once it is 200."""

    def ask() -> Any:
        answer = workspace.score(endpoint, body, **kwargs)
        return answer if answer.status == 200 else None

    return until(ask, seconds)


TICKS = """
import itertools, threading, time

def init():
    def tick():
        for number in itertools.count():
            print("{mark} tick", number, flush=True)
            time.sleep(0.02)
    threading.Thread(target=tick, daemon=True).start()

def run(data):
    return data
"""


def test_a_log_is_followed_over_restarts_and_an_update_and_kept(docker_workspace: Any) -> None:
    workspace = docker_workspace
    workspace.endpoint("ticks")
    spec = deployment(workspace, "ticks")
    workspace.script("ticks-blue", TICKS.format(mark="one"))
    workspace.deploy(spec)
    argv = ["online-deployment", "get-logs", "-e", "ticks", "-n", "blue"]
    with subprocess.Popen(
        [str(Path(sys.executable).parent / "moor"), *argv, "--follow", "-l", "10"],
        env=workspace.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as follower:
        time.sleep(2)
        workspace.kill("daemon")
        workspace.script("ticks-blue", TICKS.format(mark="two"))
        workspace.deploy(spec, verb="update")
        time.sleep(1)
        workspace.moor("online-deployment", "delete", "-e", "ticks", "-n", "blue", "--yes")
        out, err = follower.communicate(timeout=60)
    assert follower.returncode == 0 and "is deleted" in err, err
    kept = workspace.moor(*argv, "--deleted", "-l", "100000").stdout
    for mark in ("one", "two"):
        seen = [int(number) for number in re.findall(rf"{mark} tick (\d+)$", out, re.M)]
        assert seen == list(range(seen[0], seen[-1] + 1)), "every line once, in order"
        assert [int(n) for n in re.findall(rf"{mark} tick (\d+)$", kept, re.M)] == list(range(seen[-1] + 1))
    assert seen[0] == 0, "a new instance is heard from its beginning"


def test_from_a_spec_to_answers_and_back_to_nothing(docker_workspace: Any, dockerd: Any) -> None:
    workspace = docker_workspace
    workspace.endpoint("life")
    before = {kind: dockerd.cli(kind, "ls", "-q").stdout for kind in ("network", "volume")}
    variables = {"WORKER_COUNT": "2", "MINE": "yes"}
    spec = deployment(
        workspace,
        "life",
        environment_variables=variables,
        request_settings={"max_concurrent_requests_per_instance": 5},
    )
    workspace.deploy(spec, "--all-traffic")
    assert scores(workspace, "life").json["mark"] == "one"
    inside = scores(workspace, "life", "env").json
    assert inside["uid"] != 0
    assert inside["cwd"].startswith("/var/azureml-app/")
    assert inside["variables"]["MINE"] == "yes"
    assert str(workspace.home) not in json.dumps(inside["variables"])
    assert "docker.sock" not in inside["mounts"]

    [container] = containers(dockerd, "life")
    assert container["Config"]["Labels"]["moorings.owner"] == "life/blue"
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert container["HostConfig"]["Memory"] == 14 * 2**30
    assert container["HostConfig"]["CpuQuota"] == 4 * container["HostConfig"]["CpuPeriod"]
    writable = {m["Destination"] for m in container["Mounts"] if m["RW"]}
    assert writable == {"/run/moorings"}
    seen = {scores(workspace, "life").json["worker"] for _ in range(20)}
    assert seen == {"0", "1"}

    def logs(container_name: str) -> str:
        argv = ("-e", "life", "-n", "blue", "-c", container_name)
        return str(workspace.moor("online-deployment", "get-logs", *argv).stdout)

    assert "init of one" in logs("inference-server")
    assert "score.py" in logs("storage-initializer")
    assert "init of one" in dockerd.cli("logs", container["Id"]).stdout

    workspace.moor("online-endpoint", "delete", "-n", "life", "--yes")
    assert containers(dockerd, "life") == []
    after = {kind: dockerd.cli(kind, "ls", "-q").stdout for kind in ("network", "volume")}
    assert after == before
    assert not list((workspace.home / "containers").glob("life.*"))


def test_a_change_of_code_alone_uses_the_image_again_and_loses_nothing(
    docker_workspace: Any, dockerd: Any
) -> None:
    workspace = docker_workspace
    workspace.endpoint("change")
    workspace.deploy(deployment(workspace, "change"), "--all-traffic")
    image = containers(dockerd, "change")[0]["Image"]
    built = dockerd.cli("image", "inspect", "-f", "{{.Created}}", image).stdout
    key = workspace.key("change")
    spec = deployment(workspace, "change", mark="two")
    began = time.monotonic()
    update = subprocess.Popen(
        [str(Path(sys.executable).parent / "moor"), "online-deployment", "update", "-f", str(spec)],
        env=workspace.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while (answer := workspace.score("change", 1, key=key)).json.get("mark") != "two":
        assert answer.status == 200, answer.body
        assert time.monotonic() - began < 60
        time.sleep(0.02)
    took_s = time.monotonic() - began
    _, said = update.communicate(timeout=60)
    assert update.returncode == 0, said
    print(f"update of code only: {took_s:.2f} s to the first new answer")
    assert took_s < 20
    [container] = until(lambda: only_running(dockerd, "change"))
    assert container["Image"] == image
    assert dockerd.cli("image", "inspect", "-f", "{{.Created}}", image).stdout == built
    shown = workspace.json("online-deployment", "show", "-e", "change", "-n", "blue")
    assert "reused" in json.dumps(shown)
    workspace.moor("online-endpoint", "delete", "-n", "change", "--yes")


def test_the_local_cycle_in_containers(docker_workspace: Any, dockerd: Any) -> None:
    """Every verb with --local, as published scripts have it; then what was built is shown, and pruned when unused."""
    workspace = docker_workspace
    workspace.moor("online-endpoint", "create", "--local", "-n", "near")
    conda = {"dependencies": [PYTHON, {"pip": ["six==1.15.0"]}]}
    environment = {"image": "mcr.microsoft.com/azureml/any:1", "conda_file": conda}
    spec = deployment(workspace, "near", environment=environment)
    workspace.deploy(spec, "--local")
    assert workspace.score("near", 1, key="").json["mark"] == "one", "traffic and no key, from this machine"
    assert workspace.score("near", 1, key="wrong").status == 401
    deployment(workspace, "near", mark="two", environment=environment)
    workspace.moor("online-deployment", "update", "--local", "-f", str(spec))
    request = workspace.files / "near.json"
    request.write_text("1")
    said = workspace.moor("online-endpoint", "invoke", "--local", "-n", "near", "-r", str(request)).stdout
    assert "two" in said
    one = ("-e", "near", "-n", "blue")
    assert "init of two" in workspace.moor("online-deployment", "get-logs", "--local", *one).stdout
    assert "near" in [e["name"] for e in workspace.json("online-endpoint", "list", "--local")]

    [build] = [b for b in workspace.json("environment", "list-builds") if b["usedBy"] == ["near/blue"]]
    [container] = containers(dockerd, "near")
    assert (
        dockerd.cli("image", "inspect", "-f", "{{.Id}}", build["location"]).stdout.strip()
        == container["Image"]
    )
    kept = workspace.json("environment", "prune", "--yes")["kept"]
    assert build["key"] in [k["key"] for k in kept]
    assert workspace.score("near", 1, key="").status == 200

    workspace.moor("online-deployment", "delete", "--local", *one, "--yes")
    workspace.moor("online-endpoint", "delete", "--local", "-n", "near", "--yes")
    assert containers(dockerd, "near") == []
    removed = workspace.json("environment", "prune", "--yes")["removed"]
    assert build["key"] in [r["key"] for r in removed]
    assert dockerd.cli("image", "inspect", build["location"], check=False).returncode != 0


def test_it_heals_and_is_found_again(docker_workspace: Any, dockerd: Any) -> None:
    """A worker that ends, a daemon that is killed, an engine that is started anew."""
    workspace = docker_workspace
    workspace.endpoint("heal")
    workspace.deploy(deployment(workspace, "heal"), "--all-traffic")
    before = containers(dockerd, "heal")[0]
    workspace.score("heal", "exit")
    assert scores(workspace, "heal").json["mark"] == "one"
    said = workspace.moor("online-deployment", "get-logs", "-e", "heal", "-n", "blue").stdout
    assert "worker 0 ended (exit code 9); it starts again" in said

    workspace.kill("daemon")
    assert workspace.score("heal", 1).status == 200, "the data plane needs no daemon"
    workspace.moor("workspace", "start")
    after = containers(dockerd, "heal")[0]
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
    assert workspace.score("heal", 1).status == 200

    workspace.kill("daemon")
    dockerd.stop()
    dockerd.start()
    # An engine that starts looks at everything it had first: on a busy machine that takes long.
    healed = scores(workspace, "heal", seconds=150)
    assert healed.json["mark"] == "one", "with no daemon of ours: the engine restarts it"
    workspace.moor("workspace", "start")
    assert scores(workspace, "heal").json["mark"] == "one"
    assert [c["Id"] for c in containers(dockerd, "heal")] == [before["Id"]]
    workspace.moor("online-endpoint", "delete", "-n", "heal", "--yes")
    assert containers(dockerd, "heal") == []


def test_a_server_of_its_own_is_run_as_it_is(docker_workspace: Any, dockerd: Any) -> None:
    workspace = docker_workspace
    context = workspace.files / "context"
    context.mkdir()
    (context / "server.py").write_bytes(SERVER)
    dockerfile = (
        'FROM mcr.microsoft.com/any/base:2\nCOPY server.py /srv/\nCMD ["python", "-u", "/srv/server.py"]\n'
    )
    (context / "Dockerfile").write_text(dockerfile)
    (workspace.files / "weights").mkdir()
    (workspace.files / "weights" / "w.bin").write_bytes(b"1234")
    route = {name: {"path": f"/{name}", "port": 8501} for name in ("live", "ready")}
    environment = {
        "build": {"path": str(context)},
        "inference_config": {
            "liveness_route": route["live"],
            "readiness_route": route["ready"],
            "scoring_route": {"path": "/v1/score", "port": 8501},
        },
    }
    probe = {"initial_delay": 1, "period": 1, "timeout": 1, "failure_threshold": 2}
    workspace.endpoint("custom")
    spec = deployment(
        workspace,
        "custom",
        environment=environment,
        code_configuration=None,
        model={"name": "half", "version": "3", "path": str(workspace.files / "weights")},
        model_mount_path="/var/models",
        environment_variables={"MODEL_BASE_PATH": "/var/models/half/3/weights"},
        liveness_probe=probe,
    )
    workspace.deploy(spec, "--all-traffic")
    for path in ("v1/score", "v2/models/half/infer", "v1/models/half:predict"):
        answer = scores(workspace, "custom", {"x": 1}, path=path)
        assert answer.json == {"path": f"/{path}", "body": '{"x": 1}', "model": ["w.bin"]}
    shown = workspace.json("online-endpoint", "show", "-n", "custom")
    assert shown["scoring_uri"].endswith("/custom/v1/score")
    assert workspace.score("custom", 1, key="").status == 401
    said = workspace.moor("online-deployment", "get-logs", "-e", "custom", "-n", "blue").stdout
    assert "a server of its own" in said
    instance = containers(dockerd, "custom")[0]["Config"]["Labels"]["moorings.instance"]
    beside = dockerd.cli("ps", "-q", "--filter", f"label=moorings.companion={instance}").stdout.strip()
    ports = json.loads(dockerd.cli("inspect", beside).stdout)[0]["NetworkSettings"]["Ports"]["8501/tcp"]
    assert [p["HostIp"] for p in ports] == ["127.0.0.1"], "of the network both are in"

    assert workspace.score("custom", 1, path="die").status == 502
    assert scores(workspace, "custom", path="v1/score")
    begun = containers(dockerd, "custom")[0]["State"]["StartedAt"]
    workspace.score("custom", 1, path="hang")
    until(lambda: containers(dockerd, "custom")[0]["State"]["StartedAt"] != begun)
    assert scores(workspace, "custom", path="v1/score")
    workspace.moor("online-endpoint", "delete", "-n", "custom", "--yes")
    assert containers(dockerd, "custom") == []


def failing(workspace: Any, spec: Path, code: str) -> str:
    done = workspace.moor("online-deployment", "create", "-f", str(spec), check=False)
    assert done.returncode != 0
    assert re.search(rf"\({code}[,)]", done.stderr), done.stderr
    return str(done.stderr)


def test_images_that_cannot_be_had_or_built(docker_workspace: Any, dockerd: Any) -> None:
    """Each with its own code and the words of the engine; and the deployment is created once the cause is gone."""
    workspace = docker_workspace
    workspace.endpoint("images")
    context = workspace.files / "broken"
    context.mkdir()

    def spec(**environment: Any) -> Path:
        workspace.moor("online-deployment", "delete", "-e", "images", "-n", "blue", "--yes", check=False)
        return deployment(workspace, "images", environment=environment)

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    said = failing(
        workspace, spec(image=f"127.0.0.1:{port}/gone/image:7", conda_file=CONDA), "RegistryUnreachable"
    )
    assert "connection refused" in said
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo fine\nRUN echo is it here && ls /nowhere\n")
    said = failing(workspace, spec(build={"path": str(context)}), "ImageBuildFailure")
    assert "step 3 of 3 (RUN echo is it here && ls /nowhere)" in said
    assert "/nowhere" in said.split("Evidence")[1]
    (context / "Dockerfile").write_text(f"FROM 127.0.0.1:{port}/gone:1\n")
    failing(workspace, spec(build={"path": str(context)}), "RegistryUnreachable")
    failing(workspace, spec(image=BASE, conda_file={"dependencies": ["python=3.9"]}), "ImagePythonMissing")
    left = dockerd.cli("image", "ls", "-q", "--filter", "dangling=true").stdout.split()
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo fine\nRUN mkdir /here && ls /here\n")
    workspace.moor("online-deployment", "delete", "-e", "images", "-n", "blue", "--yes", check=False)
    workspace.deploy(
        deployment(workspace, "images", environment={"build": {"path": str(context)}}), "--all-traffic"
    )
    assert scores(workspace, "images").json["mark"] == "one"
    assert len(left) <= 4, "layers of failed builds"
    workspace.moor("online-endpoint", "delete", "-n", "images", "--yes")


def test_an_engine_that_goes_away_in_the_middle_of_a_create(docker_workspace: Any, dockerd: Any) -> None:
    workspace = docker_workspace
    workspace.endpoint("middle")
    context = workspace.files / "slow"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN sleep 4\n")
    spec = deployment(workspace, "middle", environment={"build": {"path": str(context)}})
    result: list[Any] = []
    create = threading.Thread(
        target=lambda: result.append(
            workspace.moor("online-deployment", "create", "-f", str(spec), check=False)
        )
    )
    create.start()
    until(lambda: "sleep 4" in str(dockerd.cli("ps", "--no-trunc", check=False).stdout))
    dockerd.stop()
    try:
        create.join(60)
        assert "(DockerEngineNotAvailable)" in result[0].stderr, result[0].stderr
        again = workspace.moor("online-deployment", "update", "-f", str(spec), check=False)
        assert "(DockerEngineNotAvailable)" in again.stderr, again.stderr
    finally:
        dockerd.start()
    workspace.deploy(spec, verb="update")
    workspace.moor("online-endpoint", "update", "-n", spec.stem.partition("-")[0], "--traffic", "blue=100")
    assert scores(workspace, "middle").json["mark"] == "one"
    assert len(containers(dockerd, "middle")) == 1
    workspace.moor("online-endpoint", "delete", "-n", "middle", "--yes")


def test_the_engine_of_a_workspace_is_fixed_while_it_has_instances(
    docker_workspace: Any, dockerd: Any
) -> None:
    workspace = docker_workspace
    refused = workspace.moor("workspace", "start", "--engine", "process", check=False)
    assert "(WorkspaceEngineFixed)" in refused.stderr
    workspace.endpoint("fixed")
    workspace.deploy(deployment(workspace, "fixed"), "--all-traffic")
    workspace.moor("workspace", "stop")
    states = [c["State"]["Status"] for c in containers(dockerd, "fixed")]
    assert states == ["exited"], "a workspace that is stopped runs nothing"
    refused = workspace.moor("workspace", "start", "--engine", "process", check=False)
    assert "(WorkspaceEngineFixed)" in refused.stderr
    workspace.moor("workspace", "start")
    assert scores(workspace, "fixed").json["mark"] == "one"
    workspace.moor("online-endpoint", "delete", "-n", "fixed", "--yes")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk with little room."""
    disk = Path(tempfile.mkdtemp(prefix="mdisk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=180m", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((m for m in mounts if m.startswith(str(disk))), reverse=True):
            subprocess.run(["umount", "-l", place], check=False)
        disk.rmdir()


def test_a_disk_that_is_full_during_a_build(small_disk: Path, new_dockerd: Any, new_workspace: Any) -> None:
    dockerd = new_dockerd(data_root=small_disk / "data")
    workspace = new_workspace(settings(dockerd))
    workspace.endpoint("full")
    context = workspace.files / "large"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN dd if=/dev/zero of=/large bs=1M count=300\n")
    spec = deployment(workspace, "full", environment={"build": {"path": str(context)}})
    failing(workspace, spec, "DockerDiskFull")
    subprocess.run(["mount", "-o", "remount,size=1g", str(small_disk)], check=True)
    workspace.deploy(spec, verb="update")
    workspace.moor("online-endpoint", "update", "-n", spec.stem.partition("-")[0], "--traffic", "blue=100")
    assert scores(workspace, "full").json["mark"] == "one"
    workspace.moor("online-endpoint", "delete", "-n", "full", "--yes")


ASKS = """\
import json, os, urllib.request
def init():
    print("the password is", os.environ["PASSWORD"], flush=True)
def run(data):
    if json.loads(data) == "password":
        return os.environ["PASSWORD"]
    request = urllib.request.Request(
        os.environ["IDENTITY_ENDPOINT"] + "?api-version=2019-08-01&resource=https://x",
        headers={"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())["client_id"]
"""


def test_a_container_has_its_secrets_and_its_identity_and_nobody_sees_them(
    docker_workspace: Any, dockerd: Any
) -> None:
    workspace, password = docker_workspace, "tr0ub4dor&3-horse"
    (workspace.files / "password").write_text(password)
    workspace.endpoint("secrets")
    identity = workspace.json("online-endpoint", "show", "-n", "secrets")["identity"]["principal_id"]
    grant = ("role", "assignment", "create", "--assignee", identity, "--role", "Key Vault Secrets User")
    workspace.moor(*grant, "--scope", "keyvault/local")
    workspace.moor("keyvault", "secret", "set", "--vault-name", "local", "-n", "db", "--file", "password")
    variables = {"PASSWORD": "${{keyvault:https://local.vault.azure.net/secrets/db}}"}
    spec = deployment(workspace, "secrets", environment_variables=variables)
    workspace.script("secrets-blue", ASKS)
    workspace.deploy(spec, "--all-traffic")
    assert scores(workspace, "secrets", "password").json == password
    client_id = scores(workspace, "secrets").json
    (container,) = only_running(dockerd, "secrets")
    assert password not in json.dumps(container)
    assert "the password is ***" in dockerd.cli("logs", container["Id"]).stdout
    # It starts again by itself, with all it had, while nobody of ours runs.
    workspace.kill("daemon")
    dockerd.cli("restart", "-t", "5", container["Id"])
    assert scores(workspace, "secrets", "password").json == password
    workspace.moor("workspace", "start")
    assert scores(workspace, "secrets").json == client_id
