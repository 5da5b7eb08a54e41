"""A Docker Engine that is not there, or not of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from moorings.containers.host import DockerHost
from moorings.errors.exceptions import MooringsError


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("unix://{folder}/docker.sock", "DockerEngineNotAvailable"),
        ("tcp://10.0.0.1:2375", "DockerHostRemote"),
        ("ssh://somewhere", "DockerHostRemote"),
    ],
)
def test_an_engine_that_cannot_be_used(tmp_path: Path, host: str, code: str) -> None:
    engine = DockerHost(host.format(folder=tmp_path), lambda _registry: None)
    for ask in (
        engine.check,
        lambda: engine.containers({}),
        lambda: engine.image("a"),
        lambda: engine.remove("a"),
    ):
        with pytest.raises(MooringsError) as caught:
            ask()
        assert caught.value.failure.code == code
        assert "docker" in caught.value.failure.fix


def test_a_file_that_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "docker.sock").write_text("")
    with pytest.raises(MooringsError) as caught:
        DockerHost(f"unix://{tmp_path}/docker.sock", lambda _registry: None).check()
    assert caught.value.failure.code == "DockerEngineNotAvailable"
