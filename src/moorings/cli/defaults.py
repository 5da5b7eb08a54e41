"""What `moor configure --defaults` keeps: names to use when a flag is left out. A flag always wins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from moorings.errors.exceptions import MooringsError, error
from moorings.errors.sentence import sentence
from moorings.lib import atomic
from moorings.security.folders import private

EFFECTIVE = ("endpoint", "output")
"""Defaults that change what a command does."""
ACCEPTED = ("group", "workspace", "location", "subscription")
"""Defaults that scripts set and that change nothing here: there is one workspace on a machine."""


def endpoint_missing(message: str, flag: str) -> MooringsError:
    """`NameMissing`, for the one name that can have a default."""
    fix = sentence(
        "Give it with {flag}, or set a default: moor configure --defaults endpoint=<name>", flag=flag
    )
    return error("NameMissing", message, target=flag, fix=fix)


def read(path: Path) -> dict[str, str]:
    """The kept defaults; {} when there are none. Raises `DefaultsInvalid` for a damaged file."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise _invalid(f"{path}: {problem}", path) from None
    if not isinstance(data, dict) or not all(isinstance(v, str) for v in data.values()):
        raise _invalid(f"{path}: expected an object of texts", path)
    return data


def changed(current: Mapping[str, str], texts: Sequence[str], path: Path) -> dict[str, str]:
    """`current` with every `name=value` of `texts`; an empty value takes the default away."""
    result = dict(current)
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.replace("_", "").replace("-", "").isalnum():
            raise _invalid(f"{text!r} is not name=value", path)
        if value.strip():
            result[name] = value.strip()
        else:
            result.pop(name, None)
    return result


def write(path: Path, defaults: Mapping[str, str]) -> None:
    """Keep them (0600)."""
    private(path.parent)
    try:
        atomic.write(path, json.dumps(dict(defaults), indent=2, sort_keys=True).encode() + b"\n")
    except OSError as problem:
        raise _invalid(f"{path}: {problem.strerror}", path) from None


def _invalid(message: str, path: Path) -> MooringsError:
    return error("DefaultsInvalid", message, target=str(path), fields={"path": path})
