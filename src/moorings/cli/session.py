"""What one run of `moor` works with: settings, defaults, the client, the terminal. Knows no command."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import click

from moorings.cli import defaults as kept
from moorings.cli.terminal import clean
from moorings.errors.exceptions import MooringsError, error
from moorings.settings import Settings

if TYPE_CHECKING:
    from moorings.cli.output import Columns
    from moorings.cli.progress import Progress
    from moorings.client.access import Access
    from moorings.client.client import Accepted, Client
    from moorings.client.intake import Watch
    from moorings.client.operations import Report
    from moorings.client.transport import Transport

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Options:
    """The flags every command has."""

    output: str | None = None
    query: str | None = None
    debug: bool = False
    verbose: bool = False
    only_show_errors: bool = False
    language: str | None = None


@dataclass
class Session:
    """One run. `transport` replaces the connection to the workspace; nothing is started then."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    transport: Transport | None = None
    options: Options = field(default_factory=Options)
    started_at: float = field(default_factory=time.time)
    typed_s: float = field(default_factory=time.monotonic)
    """When the command was typed, by `time.monotonic`: the start of the interpreter is a part of what it takes."""

    @cached_property
    def settings(self) -> Settings:
        return Settings.load(self.environ)

    @cached_property
    def defaults(self) -> dict[str, str]:
        return kept.read(self.settings.defaults_file)

    @cached_property
    def client(self) -> Client:
        """The client of the workspace, which is started when the first request finds it not running."""
        from moorings.client.client import Client
        from moorings.client.intake import Watcher
        from moorings.client.transport import SocketTransport

        if self.transport is not None:
            return Client(self.transport, self.settings.workspace.path)
        socket, trace = self.settings.api_socket, self._trace if self.options.debug else None
        transport = SocketTransport(socket, revive=self._revive, trace=trace, language=self.language)
        watcher = Watcher(SocketTransport(socket), self.meter("taken in"))
        return Client(transport, self.settings.workspace.path, watcher)

    @cached_property
    def access(self) -> Access:
        """The same for identities, roles and secrets."""
        from moorings.client.access import Access

        return Access(self.client)

    def meter(self, done: str) -> Watch:
        """Shows how far the transfer of content is, as `<size> of <size> <done>`."""
        from moorings.cli.progress import ByteMeter

        live = sys.stderr.isatty() and not self.options.debug and self.environ.get("TERM") != "dumb"
        if self.options.only_show_errors:
            return lambda _: None
        return ByteMeter(lambda text: click.echo(text, err=True, nl=False), done=done, live=live)

    @property
    def language(self) -> str:
        """Of what is said about errors: the flag's, else the terminal's."""
        from moorings.errors.language import from_environment

        return self.options.language or from_environment(self.environ)

    # --- the terminal ---

    def say(self, line: str) -> None:
        """Progress and advice, on stderr."""
        if not self.options.only_show_errors:
            click.echo(clean(line), err=True)

    def warn(self, line: str) -> None:
        if not self.options.only_show_errors:
            click.echo(click.style("WARNING: ", fg="yellow") + clean(line), err=True)

    def emit(self, value: Any, columns: Columns | None = None, *, usual: str = "json") -> None:
        """The result, on stdout, in the format asked for."""
        from moorings.cli import output

        form = self.options.output or self.defaults.get("output") or usual
        if form not in output.FORMATS:
            self.warn(f"the configured default output={form!r} is none of {', '.join(output.FORMATS)}")
            form = usual
        if self.options.query is not None:
            value, columns = output.query(value, self.options.query), None
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo(output.render(value, form, columns=columns, width=width), nl=False)

    def confirm(self, question: str, *, yes: bool, command: str) -> None:
        """Ask before something is deleted. Raises `ConfirmationNeeded` without a terminal; ends the run on a
        no."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise error(
                "ConfirmationNeeded",
                f"{question} There is no terminal to ask on.",
                fields={"command": command},
            )
        if not click.confirm(question, err=True):
            click.echo("nothing was deleted", err=True)
            raise click.exceptions.Exit(1)

    # --- names ---

    def endpoint_name(self, given: str | None, flag: str) -> str:
        """The endpoint a command is about: the flag, else the configured default. Raises `NameMissing`."""
        name = given or self.defaults.get("endpoint")
        if not name:
            raise kept.endpoint_missing(f"the name of the endpoint is missing ({flag})", flag)
        return name

    # --- operations ---

    def follow(self, accepted: Accepted, title: str, *, watch: str) -> Report | None:
        """Wait for an accepted request, showing how it goes; `watch` is the command that shows it later.

        Raises what the operation failed with. Ctrl-C ends the waiting, not the operation.
        """
        if accepted.operation is None:
            return None
        from moorings.client.operations import wait
        from moorings.lib.timing import SystemClock

        if title:
            self.say(title)
        try:
            with self._progress() as progress:
                return wait(self.client, accepted.operation, on_progress=progress, clock=SystemClock())
        except KeyboardInterrupt:
            self._leave(watch)

    def follow_all(
        self, accepted: Mapping[str, Accepted], title: str, *, watch: str
    ) -> dict[str, MooringsError]:
        """As `follow`, for several at once; returns what failed, by name."""
        from moorings.client.operations import wait_all

        going = {name: each.operation for name, each in accepted.items() if each.operation is not None}
        if going and title:
            self.say(title)
        try:
            with self._progress() as progress:
                return wait_all(self.client, going, on_progress=progress)
        except KeyboardInterrupt:
            self._leave(watch)

    def _leave(self, watch: str) -> NoReturn:
        click.echo(f"\nStopped waiting; the workspace goes on with it.\nWatch it: {watch}", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None

    def _progress(self) -> Progress:
        from moorings.cli.progress import LiveProgress, NoProgress, PlainProgress

        if self.options.only_show_errors:
            return NoProgress()
        if sys.stderr.isatty() and not self.options.debug and self.environ.get("TERM") != "dumb":
            return LiveProgress(sys.stderr)
        return PlainProgress(self.say)

    def _revive(self) -> None:
        from moorings.client.daemon_control import ensure_running, stopped_since

        settings = self.settings
        if stopped_since(settings, self.started_at):
            raise error(
                "WorkspaceUnreachable", "the workspace was stopped meanwhile", target=str(settings.home)
            )
        ensure_running(settings, settings.workspace.path, self.say)

    def _trace(self, line: str) -> None:
        click.echo(click.style(line, dim=True), err=True)
