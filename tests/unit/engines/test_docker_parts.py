"""What a container is created with, and what is made of what is seen of one."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from moorings.engines import docker_config as cfg
from moorings.engines.base import (
    ContainerTemplate,
    InstanceTemplate,
    ModelMount,
    Phase,
    ProbeTimes,
    Routes,
)
from moorings.engines.docker_look import Liveness, look

SITE = cfg.Site("w" * 32, "h" * 16, "65532:65532", "bridge", 100, 2, "/home/supervisor.pyz", "/home/runtime")
ROUTES = Routes("/live", 8501, "/ready", 8502, "/v1/score", 8501)


def data(tmp_path: Path, *, routes: Routes | None = None, mount: str | None = None) -> dict[str, Any]:
    template = InstanceTemplate(
        endpoint="shop",
        deployment="blue",
        python="/opt/moorings/env/bin/python",
        environment_key="k",
        code_digest="c",
        code_folder="src",
        scoring_script="score.py",
        model=ModelMount("d", "half", "3"),
        environment_variables={"SECRET": "x"},
        max_concurrent_requests=4,
        request_timeout_ms=5000,
        liveness=ProbeTimes(10, 10, 2, 1, 3),
        cpus=4.0,
        memory_bytes=2**30,
        container=ContainerTemplate("a:1", "sha256:1", routes, mount),
    )
    return {
        "id": "shop-blue-0-0",
        "owner": "shop/blue",
        "revision": "0" * 12,
        "ordinal": 0,
        "created_at": 5.0,
        "workspace_id": "w" * 32,
        "grace_s": 10.0,
        "worker_argv": ["-m", "moorings_server", "--worker"],
        "sockets": [] if routes else [str(tmp_path / "0.sock")],
        "inside_sockets": cfg.sockets(0 if routes else 1),
        "ports": {"8501": 4001, "8502": 4002} if routes else {},
        "run_folder": str(tmp_path),
        "store_root": "/home/store",
        "template": asdict(template),
    }


def config(tmp_path: Path, **kwargs: Any) -> dict[str, Any]:
    return cfg.config_of(SITE, data(tmp_path, **kwargs), folder="/i", run_folder=str(tmp_path))


def test_a_container_of_ours_is_not_root_and_may_write_to_one_folder(tmp_path: Path) -> None:
    made = config(tmp_path)
    assert made["User"] == "65532:65532"
    assert made["HostConfig"]["CapDrop"] == ["ALL"]
    mounts = {m["Target"]: (m["Source"], m["ReadOnly"]) for m in made["HostConfig"]["Mounts"]}
    assert mounts == {
        "/var/azureml-app/src": ("/i/app/src", True),
        "/var/azureml-app/azureml-models/half/3": ("/i/app/azureml-models/half/3", True),
        "/run/moorings": (str(tmp_path), False),
        "/opt/moorings/supervisor.pyz": ("/home/supervisor.pyz", True),
    }
    assert made["HostConfig"]["Memory"] == made["HostConfig"]["MemorySwap"] == 2**30
    assert made["HostConfig"]["CpuQuota"] == 4 * made["HostConfig"]["CpuPeriod"]
    assert "PortBindings" not in made["HostConfig"]
    assert "SECRET" not in json.dumps(made), (
        "`docker inspect` shows the environment to everybody in its group"
    )


def test_what_goes_inside_names_nothing_of_this_machine(tmp_path: Path) -> None:
    text = json.dumps(cfg.inside(data(tmp_path)))
    assert str(tmp_path) not in text
    assert "/home" not in text


def test_a_server_of_its_own_is_published_on_loopback_alone(tmp_path: Path) -> None:
    made = config(tmp_path, routes=ROUTES, mount="/models")
    assert made["HostConfig"]["PortBindings"] == {
        "8501/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4001"}],
        "8502/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4002"}],
    }
    assert "AZUREML_MODEL_DIR=/models/half/3" in made["Env"]
    assert not {"User", "Entrypoint", "Cmd", "WorkingDir"} & set(made), "it is run as it is"


def container(**state: Any) -> dict[str, Any]:
    usual = {
        "Running": True,
        "Restarting": False,
        "StartedAt": "2026-01-02T03:04:05.5Z",
        "Pid": 7,
        "ExitCode": 0,
    }
    return {"State": {**usual, **state}, "RestartCount": 2, "HostConfig": {"Memory": 1, "CpuQuota": 1}}


def write(tmp_path: Path, status: object) -> None:
    (tmp_path / "status.json").write_text(json.dumps(status))


def test_the_supervisors_word_is_the_phase(tmp_path: Path) -> None:
    write(tmp_path, {"phase": "running", "restarts": 3, "workers": [{"index": 0, "pid": 12}]})
    seen = look(data(tmp_path), container(), {}, locked=False).instance
    assert seen.phase is Phase.RUNNING
    assert seen.restarts == 5
    assert seen.pids == {"container": 7, "worker-0": 12}
    assert seen.limits == {"memory": "cgroup", "cpu": "cgroup"}
    assert seen.started_at == pytest.approx(1767323045.5)


@pytest.mark.parametrize(
    "status",
    ["text", [1], {"phase": "nonsense"}, {"phase": ["a"]}, {"workers": 7}, {"exit": {"bad": 1}}, None],
)
def test_a_status_that_somebody_else_wrote_breaks_nothing(tmp_path: Path, status: object) -> None:
    write(tmp_path, status)
    assert look(data(tmp_path), container(), {}, locked=False).phase is Phase.STARTING


def test_links_out_of_the_container_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text('{"phase": "failed"}')
    (tmp_path / "status.json").symlink_to(outside)
    assert look(data(tmp_path), container(), {}, locked=False).phase is Phase.STARTING
    (tmp_path / "status.json").unlink()
    write(tmp_path, {"phase": "running"})
    (tmp_path / "0.sock").symlink_to("/run/somebody.sock")
    assert look(data(tmp_path), container(), {}, locked=False).phase is Phase.STARTING


def test_a_pipe_instead_of_a_status_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "status.json")
    assert look(data(tmp_path), container(), {}, locked=False).phase is Phase.STARTING


@pytest.mark.parametrize(
    ("seen", "notes", "locked", "stopping", "phase"),
    [
        (None, {}, False, False, Phase.GONE),
        (None, {}, True, False, Phase.STARTING),
        (None, {"phase": "failed"}, False, False, Phase.FAILED),
        (container(Running=False), {}, False, False, Phase.GONE),
        (container(Restarting=True), {}, False, False, Phase.BACKOFF),
        (container(), {}, False, True, Phase.STOPPING),
        (None, {}, True, True, Phase.STOPPING),
    ],
)
def test_phases(tmp_path: Path, seen: Any, notes: Any, locked: bool, stopping: bool, phase: Phase) -> None:
    assert look(data(tmp_path), seen, notes, locked=locked, stopping=stopping).phase is phase


def test_a_server_of_its_own_runs_as_soon_as_its_container_does(tmp_path: Path) -> None:
    seen = look(data(tmp_path, routes=ROUTES), container(), {}, locked=False).instance
    assert seen.phase is Phase.RUNNING
    assert seen.addresses == ("127.0.0.1:4001",)
    assert seen.probes == {"127.0.0.1:4001": "127.0.0.1:4002/ready"}


def test_a_server_of_its_own_that_was_killed(tmp_path: Path) -> None:
    ended = container(Restarting=True, ExitCode=137, OOMKilled=True, FinishedAt="2026-01-02T03:04:05.5Z")
    seen = look(data(tmp_path, routes=ROUTES), ended, {}, locked=False).instance
    assert seen.exit is not None
    assert (seen.exit.code, seen.exit.signal, seen.exit.oom) == (None, 9, True)


def test_of_a_server_that_runs_again_docker_does_not_say_what_it_ended_with(tmp_path: Path) -> None:
    again = container(Running=True, ExitCode=0, FinishedAt="2026-01-02T03:04:05.5Z")
    seen = look(data(tmp_path, routes=ROUTES), again, {}, locked=False).instance
    assert seen.exit is not None
    assert (seen.exit.code, seen.exit.signal) == (None, None)


PROBE = {"initial_delay_s": 0, "period_s": 0, "timeout_s": 0.1, "failure_threshold": 2}


def test_liveness_counts_failures_in_a_row_of_one_start() -> None:
    answers = iter([False, True, False, False, False, False])
    liveness = Liveness(lambda _address, _timeout_s: next(answers), lambda work: work())
    first, second = container(), container(StartedAt="2026-01-02T03:05:05Z")

    def looks(state: dict[str, Any], count: int) -> list[bool]:
        return [liveness.is_dead("i", state, "nobody:9/live", PROBE) for _ in range(count)]

    assert looks(first, 6) == [False] * 5 + [True], (
        "the first look begins the count, a good answer begins it anew"
    )
    assert looks(second, 4) == [False] * 3 + [True]


def test_a_server_that_hangs_makes_no_look_wait() -> None:
    asked: list[Any] = []
    liveness = Liveness(lambda _address, _timeout_s: False, asked.append)
    assert not any(liveness.is_dead("i", container(), "nobody:9/live", PROBE) for _ in range(50))
    assert len(asked) == 1, "one question at a time, and it is asked elsewhere"
