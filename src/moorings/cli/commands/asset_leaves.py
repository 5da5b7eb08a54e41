"""Commands that every kind of registered asset has in the same form: `list`, `archive`, `restore`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from moorings.cli import registered
from moorings.cli.commands import flags
from moorings.cli.framework import Leaf, leaf
from moorings.cli.session import Session


def listing(kind: registered.Kind, help_text: str, *more: click.Option) -> Leaf:
    """`list` of that kind; `more` options filter what is listed."""

    @leaf("list", help_text, *flags.listing(), *more)
    def list_(session: Session, registry_name: str | None, **asked: Any) -> None:
        registered.not_in_registry(f"moor {kind.command} list", registry_name)
        registered.list_(session, kind, **asked)

    return list_


def archiving(kind: registered.Kind) -> Leaf:
    return _hiding(kind, "archive", "Hide a version from lists, or the whole name when no version is given.")


def restoring(kind: registered.Kind) -> Leaf:
    text = "Show an archived version in lists again, or the whole name when no version is given."
    return _hiding(kind, "restore", text)


def _hiding(kind: registered.Kind, verb: str, help_text: str) -> Leaf:
    which: Sequence[click.Option] = (flags.asset_name(), flags.version(), flags.label(), flags.registry())

    @leaf(verb, help_text, *which)
    def hide(
        session: Session, name: str, version: str | None, label: str | None, registry_name: str | None
    ) -> None:
        registered.not_in_registry(f"moor {kind.command} {verb}", registry_name)
        registered.archive(session, kind, name, version, label, archived=verb == "archive")

    return hide
