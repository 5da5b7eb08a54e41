"""`moor connection ...`: named addresses with credentials; a YAML file in, client calls, result out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from moorings.cli.commands import flags
from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.errors.exceptions import error
from moorings.errors.sentence import sentence
from moorings.spec.yamltext import YamlProblem, parse_yaml

COLUMNS: Columns = (
    ("Name", lambda c: c.get("name")),
    ("Type", lambda c: c.get("type")),
    ("Target", lambda c: c.get("target")),
)
_TARGETS = ("target", "endpoint", "azure_endpoint", "api_base", "url")
_KEYS = frozenset(
    {"$schema", "name", "type", "credentials", "metadata", "tags", "description", "is_shared", *_TARGETS}
)


@leaf(
    "create",
    "Create a connection, or replace it. Its credentials are kept encrypted.",
    flags.file(required=True, what="connection"),
    click.Option(["--name", "-n"], metavar="NAME", help="Its name, in place of the file's."),
)
def create(session: Session, file: Path, name: str | None) -> None:
    document = _document(file)
    called = name or document.get("name")
    if not isinstance(called, str):
        raise _wrong(file, "`name` is required")
    session.emit(view(session.access.put_connection(called, _body(file, document))), COLUMNS)


@leaf(
    "show",
    "Show a connection.",
    flags.asset_name(),
    click.Option(["--populate-secrets"], is_flag=True, help="Its credentials too."),
)
def show(session: Session, name: str, populate_secrets: bool) -> None:
    session.emit(view(session.access.connection(name, secrets=populate_secrets)), COLUMNS)


@leaf("list", "List the connections, without credentials.")
def list_(session: Session) -> None:
    session.emit([view(each) for each in session.access.connections()], COLUMNS)


@leaf("delete", "Delete a connection.", flags.asset_name(), flags.yes())
def delete(session: Session, name: str, yes: bool) -> None:
    session.confirm(
        f"Delete the connection {name}?", yes=yes, command=f"moor connection delete -n {name} --yes"
    )
    if not session.access.delete_connection(name):
        session.say(f"There was no connection {name}.")


def view(body: dict[str, Any]) -> dict[str, Any]:
    """In the spelling of the YAML."""
    properties = body.get("properties") or {}
    return {
        "name": body.get("name"),
        "id": body.get("id"),
        "type": properties.get("category"),
        "target": properties.get("target"),
        "metadata": properties.get("metadata") or {},
        "credentials": properties.get("credentials"),
    }


def _document(file: Path) -> dict[str, Any]:
    try:
        value = parse_yaml(file.read_bytes(), str(file)).value
    except OSError as problem:
        raise _wrong(file, str(problem.strerror)) from None
    except YamlProblem as problem:
        raise _wrong(file, str(problem)) from None
    if not isinstance(value, dict):
        raise _wrong(file, "expected a mapping of keys to values")
    unknown = sorted(str(key) for key in value if key not in _KEYS)
    if unknown:
        raise _wrong(file, f"unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(_KEYS))}")
    return value


def _body(file: Path, document: dict[str, Any]) -> dict[str, Any]:
    credentials = _mapping(file, document, "credentials")
    kind = credentials.pop("type", None)
    metadata = {**_mapping(file, document, "tags"), **_mapping(file, document, "metadata")}
    target = next((document[key] for key in _TARGETS if document.get(key)), None)
    properties = {
        "category": document.get("type") or "custom",
        "target": target,
        "authType": kind,
        "metadata": {key: str(value) for key, value in metadata.items()},
    }
    if "credentials" in document:
        properties["credentials"] = {key: str(value) for key, value in credentials.items()}
    return {"properties": properties}


def _mapping(file: Path, document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or any(isinstance(item, dict | list) for item in value.values()):
        raise _wrong(file, f"`{key}`: expected a mapping of names to text")
    return dict(value)


def _wrong(file: Path, message: str) -> Exception:
    return error(
        "RequestInvalid",
        f"{file}: {message}",
        target=str(file),
        fix=sentence("Correct the file, then: {command}", command=f"moor connection create -f {file}"),
    )
