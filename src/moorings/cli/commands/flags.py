"""Flags that several commands share, made anew for each. Knows no command."""

from __future__ import annotations

from pathlib import Path

import click

from moorings.cli.framework import DefaultedOption, SeveralOption
from moorings.errors.exceptions import error


def file(*, required: bool = False, what: str) -> click.Option:
    # Whether it can be read is checked by the loader, which says more about it.
    return click.Option(
        ["--file", "-f"], type=click.Path(path_type=Path), required=required, help=f"YAML file of the {what}."
    )


def endpoint_name(*names: str, defaulted: bool = True) -> click.Option:
    declared = [*names, "endpoint_name"]
    if not defaulted:
        return click.Option(declared, metavar="NAME", help="Name of the endpoint.")
    return DefaultedOption(declared, metavar="NAME", help="Name of the endpoint.", default_key="endpoint")


def deployment_name(*, required: bool = False) -> click.Option:
    return click.Option(
        ["--name", "-n", "name"], metavar="NAME", required=required, help="Name of the deployment."
    )


def no_wait() -> click.Option:
    return click.Option(["--no-wait"], is_flag=True, help="Return once the request is accepted.")


def local() -> click.Option:
    return click.Option(["--local"], is_flag=True, help="The workspace of this machine; it always is.")


def make_local() -> click.Option:
    return click.Option(
        ["--local"], is_flag=True, help="Callers on this machine need no key (properties.moorings.local)."
    )


def web() -> click.Option:
    return click.Option(["--web"], is_flag=True, hidden=True)


def skip_script_validation() -> click.Option:
    return click.Option(["--skip-script-validation"], is_flag=True, help="Do not look at the scoring script.")


def skip_checks() -> click.Option:
    return click.Option(
        ["--skip-checks"],
        is_flag=True,
        help="Send it whatever `moor check` would find; only the rules of the file itself hold.",
    )


def key_type() -> click.Option:
    return click.Option(
        ["--key-type"],
        type=click.Choice(["primary", "secondary"], case_sensitive=False),
        default="primary",
        show_default=True,
        help="Which key.",
    )


def type_() -> click.Option:
    return click.Option(
        ["--type", "-t", "type_"],
        type=click.Choice(["online", "batch"], case_sensitive=False),
        help="Kind of endpoint; online is what there is.",
    )


def request_file() -> click.Option:
    return click.Option(
        ["--request-file", "-r"],
        type=click.Path(path_type=Path),
        required=True,
        help="File with the JSON to send.",
    )


def lines() -> click.Option:
    return click.Option(
        ["--lines", "-l", "--tail", "lines"],
        type=click.IntRange(min=1),
        default=5000,
        show_default=True,
        help="How many lines, from the end.",
    )


def container() -> click.Option:
    return click.Option(
        ["--container", "-c"],
        type=click.Choice(["all", "inference-server", "storage-initializer"]),
        default="all",
        show_default=True,
        help="Everything that has to do with the deployment in one stream; or one part as it is: the model server, or "
        "the step that lays out model and code.",
    )


def logs() -> list[click.Option]:
    """What narrows a log down, and how it is read."""
    return [
        lines(),
        container(),
        click.Option(["--follow"], is_flag=True, help="Go on with new lines as they are written."),
        click.Option(
            ["--since"], metavar="TIME", help="Not older than so long ago (30s, 10m, 2h, 1d), or than a time."
        ),
        click.Option(["--request-id"], metavar="ID", help="Only what names this request."),
        click.Option(["--instance"], metavar="ID", help="Only of this instance (its id, or its end)."),
        click.Option(["--deleted"], is_flag=True, help="What is kept of a deployment that was deleted."),
    ]


def yes() -> click.Option:
    return click.Option(["--yes", "-y"], is_flag=True, help="Do not ask.")


def set_() -> click.Option:
    return SeveralOption(
        ["--set", "set_"], metavar="PATH=VALUE ...", help="Override settings, e.g. instance_count=2."
    )


def updates() -> list[click.Option]:
    return [
        set_(),
        SeveralOption(["--add"], metavar="PATH=VALUE ...", help="Append to a list or add to a mapping."),
        SeveralOption(["--remove"], metavar="PATH ...", help="Take out a key or a list item."),
        click.Option(["--force-string"], is_flag=True, help="Keep the values of --set and --add as text."),
    ]


# --- of registered assets ---
def asset_name(*, required: bool = True) -> click.Option:
    return click.Option(["--name", "-n"], metavar="NAME", required=required, help="Its name.")


def version() -> click.Option:
    return click.Option(["--version", "-v"], metavar="VERSION", help="Its version.")


def label() -> click.Option:
    return click.Option(
        ["--label", "-l"], type=click.Choice(["latest"]), help="Instead of a version: the newest one."
    )


def tags() -> click.Option:
    return SeveralOption(["--tags"], metavar="KEY=VALUE ...", help="Tags to set.")


def description() -> click.Option:
    return click.Option(["--description"], metavar="TEXT", help="What it is.")


def stage() -> click.Option:
    return click.Option(["--stage", "-s"], metavar="TEXT", help="Stage of its life, such as Production.")


def registry() -> click.Option:
    return click.Option(["--registry-name"], hidden=True)


def listing() -> list[click.Option]:
    return [
        asset_name(required=False),
        click.Option(["--archived-only"], is_flag=True, help="Only what is archived."),
        click.Option(["--include-archived"], is_flag=True, help="What is archived too."),
        click.Option(["--max-results", "-r"], type=click.IntRange(min=1), help="At most so many."),
        registry(),
    ]


def not_served(command: str, **given: object) -> None:
    """Raise `FlagNotServed` when one of these flags was given: nothing here would act on it."""
    for name, value in given.items():
        if value:
            flag = f"--{name.replace('_', '-')}"
            raise error(
                "FlagNotServed", f"{flag} has no effect here", target=flag, fields={"command": command}
            )
