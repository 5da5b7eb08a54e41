"""Click, bent to the habits of the ecosystem's command line: lazy commands, abbreviated flags, flags every
command has."""

from __future__ import annotations

import contextlib
import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from moorings.cli.args import Flag, FlagError, expand
from moorings.cli.session import Options, Session
from moorings.errors.exceptions import MooringsError

LANGUAGES = ("en", "fr", "de", "es", "ja")
"""Those of `moorings.errors.language`, which is loaded only when something has to be said in one of them; a test holds
the two equal."""
OUTPUT_FORMATS = ("json", "jsonc", "yaml", "yamlc", "table", "tsv", "none")
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_COMMON = (
    "output",
    "query",
    "debug",
    "verbose",
    "only_show_errors",
    "lang",
    "group",
    "workspace",
    "subscription",
)


@dataclass(frozen=True)
class Lazy:
    """A command that is imported only when it runs: `module:attribute`, and its line in the help."""

    target: str
    help: str


class LazyGroup(click.Group):
    """A group whose commands are named in a table."""

    def __init__(self, name: str, *, lazy: Mapping[str, Lazy | click.Command], **kwargs: Any) -> None:
        super().__init__(name, context_settings=CONTEXT, **kwargs)
        self._lazy = lazy

    @property
    def lazy(self) -> Mapping[str, Lazy | click.Command]:
        """The table."""
        return self._lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._lazy.get(cmd_name)
        if isinstance(found, Lazy):
            module, _, attribute = found.target.partition(":")
            command = getattr(importlib.import_module(module), attribute)
            assert isinstance(command, click.Command)
            return command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._lazy and not name.startswith("-"):
            near = difflib.get_close_matches(name, self._lazy, n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"{ctx.command_path} has no command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, found.help if isinstance(found, Lazy) else found.get_short_help_str(80))
            for name, found in self._lazy.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class SeveralOption(click.Option):
    """A flag that takes one or more words and may be repeated."""

    def __init__(self, param_decls: Sequence[str], **kwargs: Any) -> None:
        super().__init__(param_decls, multiple=True, **kwargs)


class DefaultedOption(click.Option):
    """A flag whose value comes from the configured defaults when it is left out; the help shows that
    value."""

    def __init__(self, param_decls: Sequence[str], *, default_key: str, **kwargs: Any) -> None:
        super().__init__(param_decls, **kwargs)
        self.default_key = default_key

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        session = ctx.find_object(Session)
        value = None
        with contextlib.suppress(MooringsError):  # a damaged file is no reason to refuse help
            value = session.defaults.get(self.default_key) if session is not None else None
        if record is None or not value:
            return record
        return record[0], f"{record[1]}  [configured default: {value}]"


class Leaf(click.Command):
    """A command: `callback(session, **own_flags)`; the flags every command has go into the session."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, context_settings=CONTEXT, **kwargs)
        self.params.extend(_common())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            words = expand(args, [_flag(p) for p in self.get_params(ctx) if isinstance(p, click.Option)])
        except FlagError as problem:
            raise click.UsageError(str(problem), ctx) from None
        return super().parse_args(ctx, words)

    def invoke(self, ctx: click.Context) -> Any:
        session = ctx.find_object(Session)
        assert session is not None
        common = {name: ctx.params.pop(name) for name in _COMMON}
        session.options = Options(
            output=common["output"],
            query=common["query"],
            debug=common["debug"],
            verbose=common["verbose"],
            only_show_errors=common["only_show_errors"],
            language=common["lang"],
        )
        if common["verbose"] and (common["group"] or common["workspace"] or common["subscription"]):
            session.say("There is one workspace on this machine: -g, -w and --subscription change nothing.")
        assert self.callback is not None
        return ctx.invoke(self.callback, session, **ctx.params)


def leaf(name: str, help_text: str, *params: click.Parameter) -> Callable[[Callable[..., None]], Leaf]:
    """Make a command of a function `f(session, **flags)`."""

    def decorate(function: Callable[..., None]) -> Leaf:
        return Leaf(name, callback=function, params=list(params), help=help_text)

    return decorate


def _common() -> list[click.Option]:
    def option(*names: str, **kwargs: Any) -> click.Option:
        return click.Option(list(names), **kwargs)

    return [
        option("--output", "-o", type=click.Choice(OUTPUT_FORMATS), help="Format of the result."),
        option("--query", metavar="JMESPATH", help="Show only this part of the result."),
        option("--only-show-errors", is_flag=True, help="No progress, no warnings."),
        option("--verbose", is_flag=True, help="Say more about what is done."),
        option(
            "--lang",
            type=click.Choice(LANGUAGES, case_sensitive=False),
            help="Language of errors; else that of LC_ALL or LANG.",
        ),
        option("--debug", is_flag=True, help="Show every request to the workspace (keys are hidden)."),
        option("--resource-group", "-g", "group", help="Accepted; there is one workspace on a machine."),
        option("--workspace-name", "-w", "workspace", help="Accepted; there is one workspace on a machine."),
        option("--subscription", help="Accepted; there is one workspace on a machine."),
    ]


def _flag(option: click.Option) -> Flag:
    return Flag(
        names=(*option.opts, *option.secondary_opts),
        takes_value=not option.is_flag and not option.count,
        takes_several=isinstance(option, SeveralOption),
    )
