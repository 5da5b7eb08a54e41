"""Settings: file and environment, what wins, and what is refused with the key named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.environments.solving import SOLVERS
from moorings.errors.exceptions import MooringsError
from moorings.settings import CONDA_SOLVERS, LONGEST_SOCKET_NAME, Settings, choose_engine


def load(home: Path, content: Any = None, **variables: str) -> Settings:
    if content is not None:
        home.mkdir(exist_ok=True)
        (home / "settings.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return Settings.load({"MOORINGS_HOME": str(home), **variables})


def refusal(home: Path, content: Any = None, **variables: str) -> str:
    with pytest.raises(MooringsError) as caught:
        load(home, content, **variables)
    assert caught.value.failure.code == "SettingsInvalid"
    return caught.value.failure.message


def test_without_a_file_there_are_defaults_and_nothing_is_made(tmp_path: Path) -> None:
    found = load(tmp_path / "home")
    assert found.home == tmp_path / "home"
    assert found.gateway_url == f"http://127.0.0.1:{found.gateway.port}"
    assert not found.home.exists()


def test_the_home_is_below_the_users_unless_named(tmp_path: Path) -> None:
    assert Settings.load({"HOME": str(tmp_path)}).home == tmp_path / ".moorings"
    assert Settings.load({"HOME": str(tmp_path), "MOORINGS_HOME": ""}).home == tmp_path / ".moorings"
    assert Settings.load({"MOORINGS_HOME": "relative"}).home == Path.cwd() / "relative"


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    given = {"gateway": {"port": 1234, "rate_limit_per_s": 500}, "controller": {"resync_s": 2}}
    found = load(tmp_path, given)
    assert (found.gateway.port, found.gateway.rate_limit_per_s, found.controller.resync_s) == (1234, 500, 2)
    found = load(tmp_path, given, MOORINGS_GATEWAY_PORT="4321")
    assert (found.gateway.port, found.gateway.rate_limit_per_s) == (4321, 500)


@pytest.mark.parametrize("bind, shown", [("0.0.0.0", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")])
def test_the_url_is_one_that_can_be_called(tmp_path: Path, bind: str, shown: str) -> None:
    assert load(tmp_path, {"gateway": {"bind": bind, "port": 1}}).gateway_url == f"http://{shown}:1"


@pytest.mark.parametrize(
    "content, named",
    [
        ("{", "settings.json"),
        ("[]", "settings.json"),
        ({"gatway": {}}, "gatway"),
        ({"gateway": 3}, "gateway"),
        ({"gateway": {"prt": 1}}, "gateway.prt"),
        ({"gateway": {"port": "8650"}}, "gateway.port"),
        ({"gateway": {"port": True}}, "gateway.port"),
        ({"gateway": {"port": 1.5}}, "gateway.port"),
        ({"gateway": {"port": 0}}, "gateway.port"),
        ({"gateway": {"port": 65536}}, "gateway.port"),
        ({"gateway": {"rate_limit_per_s": 0}}, "gateway.rate_limit_per_s"),
        ({"gateway": {"local_requires_key": 1}}, "gateway.local_requires_key"),
        ({"controller": {"resync_s": 0}}, "controller.resync_s"),
        ({"controller": {"busy_s": -1}}, "controller.busy_s"),
        ('{"controller": {"resync_s": NaN}}', "controller.resync_s"),
        ({"controller": {"progress_deadline_s": -1}}, "controller.progress_deadline_s"),
        ({"capacity": {"cpu_overcommit": 0}}, "capacity.cpu_overcommit"),
        ({"capacity": {"memory_overcommit": -1}}, "capacity.memory_overcommit"),
        ('{"capacity": {"cpu_overcommit": NaN}}', "capacity.cpu_overcommit"),
        ('{"capacity": {"vcpus": Infinity}}', "capacity.vcpus"),
        ({"capacity": {"memory_gib": -1}}, "capacity.memory_gib"),
        ({"capacity": {"gpus": -2}}, "capacity.gpus"),
        ({"capacity": {"gpus": 1.5}}, "capacity.gpus"),
        ({"environments": {"allow_python_download": 1}}, "environments.allow_python_download"),
        ({"environments": {"conda_solver": "mamba"}}, "environments.conda_solver"),
        ({"state": {"url": 5}}, "state.url"),
        ({"state": {"url": "mysql://h/d"}}, "state.url"),
    ],
)
def test_a_wrong_value_is_refused_and_named(tmp_path: Path, content: Any, named: str) -> None:
    assert named in refusal(tmp_path, content)


def test_where_the_state_is_and_that_its_password_is_not_shown(tmp_path: Path) -> None:
    home = {"MOORINGS_HOME": str(tmp_path)}
    assert Settings.load(home).state_place == tmp_path / "state.db"
    url = "postgresql://u:geheim7word@h/d"
    (tmp_path / "settings.json").write_text(json.dumps({"state": {"url": "postgresql://other/d"}}))
    assert Settings.load(home).state_place == "postgresql://other/d"
    settings = Settings.load({**home, "MOORINGS_STATE_URL": url})
    assert settings.state_place == url and "geheim7word" not in repr(settings)
    with pytest.raises(MooringsError) as caught:
        Settings.load({**home, "MOORINGS_STATE_URL": "mysql://u:geheim7word@h/d"})
    assert "geheim7word" not in str(caught.value.failure.to_json())


def test_the_solvers_are_those_that_the_builder_knows() -> None:
    assert CONDA_SOLVERS == SOLVERS


@pytest.mark.parametrize("content", [b"\xff\xfe", b""])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "settings.json").write_bytes(content)
    assert "settings.json" in refusal(tmp_path)


@pytest.mark.parametrize("port", ["", "0", "65536", "-1", "x", "²", "80 "])
def test_a_wrong_port_in_the_environment_is_refused(tmp_path: Path, port: str) -> None:
    assert "MOORINGS_GATEWAY_PORT" in refusal(tmp_path, MOORINGS_GATEWAY_PORT=port)


@given(st.text("abcé", min_size=1, max_size=120))
def test_sockets_fit_whatever_the_home_and_each_home_has_its_own_folder(name: str) -> None:
    found = Settings.load({"MOORINGS_HOME": f"/somewhere/{name}"})
    assert len(str(found.run_dir).encode()) + LONGEST_SOCKET_NAME <= 107
    other = Settings.load({"MOORINGS_HOME": f"/somewhere/{name}d"})
    assert other.run_dir != found.run_dir
    assert Settings.load({"MOORINGS_HOME": f"/somewhere/{name}"}).run_dir == found.run_dir


def test_the_engine_is_kept_and_cannot_change_under_instances(tmp_path: Path) -> None:
    env = {"MOORINGS_HOME": str(tmp_path), "DOCKER_HOST": "unix:///there.sock"}
    before = Settings.load(env)
    assert (before.engine, before.docker.host) == ("process", "unix:///there.sock")
    (tmp_path / "settings.json").write_text('{"gateway": {"port": 4711}}')
    choose_engine(before, "docker")
    after = Settings.load(env)
    assert (after.engine, after.gateway.port) == ("docker", 4711)
    (after.instances_root("docker") / "shop.blue").mkdir(parents=True)
    choose_engine(after, "docker")
    with pytest.raises(MooringsError) as caught:
        choose_engine(after, "process")
    assert caught.value.failure.code == "WorkspaceEngineFixed"
    assert Settings.load(env).engine == "docker"


@pytest.mark.parametrize(
    "text",
    [
        '{"engine": "podman"}',
        '{"engine": 1}',
        '{"image_aliases": ["a"]}',
        '{"image_aliases": {"a": 1}}',
        '{"docker": {"host": 1}}',
        '{"registry": {"token": "x"}}',
    ],
)
def test_settings_of_containers_that_cannot_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(MooringsError) as caught:
        Settings.load({"MOORINGS_HOME": str(tmp_path)})
    assert caught.value.failure.code == "SettingsInvalid"
