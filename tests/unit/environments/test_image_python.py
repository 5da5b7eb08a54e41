"""Which Pythons an image has, where there is no shell to ask with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moorings.environments.image_python import choose_python, pythons_of
from moorings.errors.exceptions import MooringsError, error


class Host:
    """A Docker Engine that cannot start what is asked for."""

    def __init__(self, message: str) -> None:
        self.message = message

    def run(self, image: str, command: Any, **_: Any) -> tuple[int, str]:
        raise error("ContainerCannotStart", f"the container cannot be started: {self.message}")


def test_an_image_without_a_shell_has_no_python(tmp_path: Path) -> None:
    host: Any = Host('exec: "/bin/sh": stat /bin/sh: no such file or directory')
    assert pythons_of(host, "sha256:1", tmp_path) == []
    with pytest.raises(MooringsError, match="no Python at all"):
        choose_python([], ">=3.8", "scratch")


def test_another_refusal_stays_one(tmp_path: Path) -> None:
    host: Any = Host("no space left on device")
    with pytest.raises(MooringsError, match="no space"):
        pythons_of(host, "sha256:1", tmp_path)
