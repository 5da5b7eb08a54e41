"""`moor code ...`: code is registered with deployments; here it can be looked at."""

from __future__ import annotations

from pathlib import Path

import click

from moorings.cli import registered
from moorings.cli.commands import flags
from moorings.cli.framework import leaf
from moorings.cli.session import Session
from moorings.spec.asset_views import code_view

KIND = registered.Kind(
    registered.CODES,
    "code",
    code_view,
    (
        ("Name", lambda c: c.get("name")),
        ("Version", lambda c: c.get("version")),
        ("Files", lambda c: (c.get("content") or {}).get("files")),
        ("Bytes", lambda c: (c.get("content") or {}).get("size_bytes")),
        ("Created", lambda c: (c.get("creation_context") or {}).get("created_at")),
    ),
)


@leaf(
    "show",
    "Show a version of code; a deployment's `show` names the one it uses.",
    flags.asset_name(),
    flags.version(),
    flags.label(),
)
def show(session: Session, name: str, version: str | None, label: str | None) -> None:
    session.emit(registered.show(session, KIND, name, version, label), KIND.columns)


@leaf(
    "download",
    "Bring the files of a version to the folder <download-path>/<name>.",
    flags.asset_name(),
    flags.version(),
    flags.label(),
    click.Option(
        ["--download-path", "-p"],
        type=click.Path(path_type=Path),
        default=Path(),
        help="Where to put it.  [default: the current folder]",
    ),
)
def download(
    session: Session, name: str, version: str | None, label: str | None, download_path: Path
) -> None:
    registered.download(session, KIND, (name, version, label), download_path)
