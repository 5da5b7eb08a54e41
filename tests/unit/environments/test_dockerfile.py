from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.environments.dockerfile import aliased, manylinux, venv_config, with_aliases

ALIASES = {
    "mcr.example/azureml/*": "local/any:1",
    "mcr.example/azureml/openmpi*": "local/mpi:1",
    "python:3.12-slim": "local/python:3.12",
    "plain": "local/plain:2",
}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("mcr.example/azureml/minimal:7", "local/any:1"),
        ("mcr.example/azureml/openmpi4.1:7", "local/mpi:1"),
        ("python:3.12-slim", "local/python:3.12"),
        ("python:3.11-slim", "python:3.11-slim"),
        ("plain", "local/plain:2"),
        ("plain:latest", "local/plain:2"),
        ("plain:3", "plain:3"),
        ("plain@sha256:00", "plain@sha256:00"),
    ],
)
def test_what_stands_for_an_image(asked: str, found: str) -> None:
    assert aliased(asked, ALIASES) == found


def test_every_from_of_a_dockerfile() -> None:
    text = "# FROM plain\nFROM plain AS a\r\n  from --platform=linux/amd64 python:3.12-slim\nRUN echo FROM plain\nFROM a"
    assert with_aliases(text, ALIASES) == (
        "# FROM plain\nFROM local/plain:2 AS a\r\n  from --platform=linux/amd64 local/python:3.12\n"
        "RUN echo FROM plain\nFROM a"
    )


@given(st.text())
def test_without_aliases_nothing_changes(text: str) -> None:
    assert with_aliases(text, {}) == text


def test_the_wheels_of_a_c_library() -> None:
    assert manylinux("x86_64", "2.36") == "x86_64-manylinux_2_36"
    assert manylinux("aarch64", "2.5") == "aarch64-manylinux_2_17"
    assert manylinux("x86_64", "2.99") == "x86_64-manylinux_2_40"
    assert manylinux("x86_64", "") == "x86_64-unknown-linux-musl"


def test_the_configuration_of_the_environment() -> None:
    text = venv_config("/usr/local/bin/python3.11", "3.11.7", system_packages=False)
    assert text.splitlines() == [
        "home = /usr/local/bin",
        "include-system-site-packages = false",
        "version = 3.11.7",
    ]
