"""The boundary of the `moor` command: every failure leaves here as text a person can act on, never as a
traceback."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from moorings.cli import report
from moorings.cli.session import EXIT_INTERRUPTED, Session
from moorings.cli.tree import root
from moorings.errors.exceptions import MooringsError, error
from moorings.errors.sentence import sentence
from moorings.lib import procs

EXIT_FAILED = 1
EXIT_USAGE = 2


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:], Session(typed_s=time.monotonic() - procs.age_s())))


def run(argv: Sequence[str], session: Session | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 failed, 2 wrong usage, 130 interrupted."""
    session = session or Session()
    try:
        result = root.main(list(argv), prog_name="moor", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as problem:
        click.echo(problem.ctx.get_help() if problem.ctx else "")
        return 0
    except click.UsageError as problem:
        problem.show(file=sys.stderr)
        return EXIT_USAGE
    except click.ClickException as problem:
        problem.show(file=sys.stderr)
        return EXIT_FAILED
    except MooringsError as problem:
        _show(problem, session)
        return EXIT_FAILED
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; the interpreter must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as problem:  # noqa: BLE001 - the process boundary: whatever it is becomes a coded failure
        _show(_internal(problem, argv, session), session)
        return EXIT_FAILED


def _show(problem: MooringsError, session: Session) -> None:
    text = report.render(problem, session.language, with_request_id=session.options.debug)
    first, _, rest = text.partition("\n")
    mark, colon, message = first.partition(":")
    click.echo(click.style(mark + colon, fg="red", bold=True) + message, err=True)
    click.echo(rest, err=True, nl=False)


def _internal(problem: Exception, argv: Sequence[str], session: Session) -> MooringsError:
    words = [_without_value(word) for word in argv]
    story = f"moor {' '.join(words)}\n\n{''.join(traceback.format_exception(problem))}"
    log = _write_crash_log(story, session)
    return error(
        "InternalError",
        f"{type(problem).__name__}: {problem}",
        fields={
            "log": log or sentence("(it could not be written)"),
            "command": f"moor {' '.join(words[:2])} ...",
        },
    )


def _without_value(word: str) -> str:
    """What was typed may hold secrets (`--set environment_variables.TOKEN=...`): only its left side is
    kept."""
    name, equals, _ = word.partition("=")
    return f"{name}=..." if equals else word


def _write_crash_log(story: str, session: Session) -> Path | None:
    name = f"cli-crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    for of_workspace in (True, False):
        try:
            place = session.settings.logs_dir if of_workspace else Path(tempfile.gettempdir())
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = place / name
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w") as handle:
                handle.write(story)
        except Exception:  # noqa: BLE001, S112 - what has just failed may fail here again; the next place, or none
            continue
        return path
    return None


if __name__ == "__main__":
    main()
