"""What a conda file asks of conda itself: channels, match specs and pip requirements, for a real solve. Pure.

It must not know how a solve is made, nor whether a channel can be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from moorings.environments.conda import (
    Translation,
    UntranslatableError,
    parse_match_spec,
    pip_lines,
    variables_of,
    without_comment,
)

DEFAULTS = ("main", "r")
"""What the channel `defaults` stands for on the usual server of channels."""
OLDEST_PYTHON = "python >=3.8"
"""Added where a file names no Python: the inference server needs one."""


@dataclass(frozen=True)
class CondaRequest:
    """Equal requests give equal environments for the same state of the channels and of the package index."""

    channels: tuple[str, ...]
    """Names, addresses or absolute paths; the first that has a package wins."""
    specs: tuple[str, ...]
    """Match specs as they were written, without comments; one of them is for python."""
    pip: tuple[str, ...]
    """PEP 508, canonical names, sorted, without the inference server."""


def conda_request(conda: Mapping[str, Any], pip: tuple[str, ...]) -> CondaRequest | None:
    """None where conda has nothing to solve with: a file without channels, or one that is malformed (which the
    translation says in its own words). `pip`: the requirements of the `pip:` lists, normalised.
    """
    channels = _channels(conda.get("channels"))
    dependencies = conda.get("dependencies")
    if not channels or not isinstance(dependencies, list):
        return None
    specs: list[str] = []
    has_python = False
    for entry in dependencies:
        if isinstance(entry, Mapping):
            continue
        if not isinstance(entry, str):
            return None
        text = without_comment(entry)
        try:
            spec = parse_match_spec(text)
        except UntranslatableError:
            return None
        if spec.channel is not None and spec.channel not in channels:
            channels.append(spec.channel)
        if canonicalize_name(spec.name) == "moorings-server":
            continue
        has_python = has_python or spec.name == "python"
        specs.append(text)
    if not has_python:
        specs.append(OLDEST_PYTHON)
    return CondaRequest(tuple(dict.fromkeys(channels)), tuple(sorted(set(specs))), pip)


def pip_part(conda: Mapping[str, Any]) -> Translation:
    """What a conda solve leaves to us: the requirements of the `pip:` lists; problems of these and of `variables`."""
    found = Translation()
    found.problems.extend(variables_of(conda)[1])
    dependencies = conda.get("dependencies")
    for index, entry in enumerate(dependencies if isinstance(dependencies, list) else ()):
        lines = entry.get("pip") if isinstance(entry, Mapping) else None
        if isinstance(lines, list):
            pip_lines(found, lines, f"dependencies[{index}].pip")
    return found


def _channels(given: Any) -> list[str]:
    """Tidied; [] when there are none, or something else than a list of texts."""
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        return []
    found: list[str] = []
    for channel in (one.strip().rstrip("/") for one in given):
        if channel == "defaults":
            found.extend(DEFAULTS)
        elif channel and channel != "nodefaults":
            found.append(channel)
    return found
