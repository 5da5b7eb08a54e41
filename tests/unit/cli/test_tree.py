"""The tree of commands: help everywhere, and a start that imports little."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from moorings.cli.main import run
from moorings.cli.tree import build

HEAVY = ("pydantic", "httpx", "rich", "yaml", "jmespath", "fastapi", "sqlalchemy", "grpc")


def leaves(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None, (path, name)
            yield from leaves(below, (*path, name))
    else:
        yield path, command


def test_every_command_is_there_and_explains_itself() -> None:
    found = dict(leaves(build()))
    names = {" ".join(path) for path in found if path[0] != "ml"}
    assert {
        "online-endpoint invoke",
        "online-deployment get-logs",
        "environment build-log",
        "workspace stop",
        "configure",
        "diagnose",
    } <= names
    assert {" ".join(path[1:]) for path in found if path[0] == "ml"} == names
    for path, command in found.items():
        assert command.help, path
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert param.help, (path, param.name)


@pytest.mark.parametrize("flag", ["-h", "--help", "--hel"])
def test_help_of_a_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ml", "online-deployment", "get-logs", flag]) == 0
    shown = capsys.readouterr().out
    for word in ("--lines", "--tail", "--container", "--endpoint-name", "--query", "storage-initializer"):
        assert word in shown


def test_a_misspelt_command_is_a_usage_error_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["online-endpoint", "get-credentails"]) == 2
    assert "get-credentials" in capsys.readouterr().err


def test_an_ambiguous_flag_names_what_it_could_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["online-deployment", "show", "--n", "x", "--o", "json", "--v"]) == 2
    assert run(["online-endpoint", "update", "--no", "--re", "x"]) == 2
    err = capsys.readouterr().err
    assert "--remove" in err
    assert "--resource-group" in err


def test_nothing_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "online-endpoint" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["-h"], ["online-endpoint", "-h"], ["--version"]])
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    program = (
        "import sys\nfrom moorings.cli.main import run\n"
        f"code = run({argv!r})\n"
        f"loaded = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "sys.exit(f'loaded: {loaded}' if loaded or code else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
