"""What the installer's last words mean: its output -> one coded failure with the lines that prove it.

Pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from moorings.environments.conda_names import NUMPY_2_SINCE, RENAMED, WELL_KNOWN
from moorings.environments.recipe import SERVER
from moorings.errors.exceptions import Failure, failure

MOST_EVIDENCE = 24
"""Lines; the build log has them all."""

_DECORATION = re.compile(r"^\s*(×|╰─▶|├─▶|│|cause:|error:|hint:)?\s*")
_DISK = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122", "os error 27")
_NETWORK = (
    "error sending request",
    "dns error",
    "network was disabled",
    "Network connectivity is disabled",
    "tcp connect error",
    "operation timed out",
    "Request failed after",
    "error decoding response body",
    "invalid peer certificate",
    "HTTP status server error",
    "401 Unauthorized",
    "403 Forbidden",
    "407 Proxy Authentication",
)
_NAME = r"`?([A-Za-z0-9][A-Za-z0-9_.\-]*(?:\[[^\]]*\])?)"
_UNKNOWN = re.compile(rf"{_NAME}`? was not found in the (?:package registry|provided package locations)")
_NO_VERSION = re.compile(rf"(?:there is no version of|there are no versions of|only) {_NAME}")
_NO_WHEEL = re.compile(rf"{_NAME}\S* has no (?:wheels|usable wheels|source distribution)")
_FOR_PYTHON = re.compile(rf"does not satisfy Python.* and {_NAME}\S* depends on Python")
_ANY_PYTHON = re.compile(rf"{_NAME}\S* depends on Python")
_BUILD = re.compile(rf"Failed to (?:download and )?build (?:the project )?{_NAME}(?:==([^\s`]+))?")
_MISSING_URL = re.compile(r"(?:Distribution not found at: |404 Not Found\) for url \()([^\s)]+)")


def is_disk_full(lines: Sequence[str]) -> bool:
    return any(sign in line for line in lines for sign in _DISK)


def verdict(lines: Sequence[str], *, fields: Mapping[str, object]) -> Failure:
    """The failure that the output of a failed run shows.

    `fields`: `key` (of the log), `path` (of the environments) and `python` (version), for the words.
    """
    text = " ".join(_DECORATION.sub("", line) for line in lines if line.strip())
    if is_disk_full([text]):
        return _made("EnvironmentDiskFull", "no space is left to build the environment", lines, fields)
    missing = _MISSING_URL.search(text)
    if missing:
        more = {**fields, "package": missing[1]}
        return _made("PackageNotFound", f"nothing is at {missing[1]}", lines, more, target=missing[1])
    if any(sign in text for sign in _NETWORK):
        more = {"package": "six", **fields}
        return _made(
            "IndexUnreachable", f"the package index cannot be reached: {_reason(lines)}", lines, more
        )
    built = _BUILD.search(text)
    if built:
        name = built[1] + (f"=={built[2]}" if built[2] else "")
        message = f"{name} had to be compiled for Python {fields.get('python', '')} and that failed"
        return _made("PackageBuildFailed", message, lines, {**fields, "package": built[1]}, target=built[1])
    if "No solution found" in text:
        return _unsolvable(text, lines, fields)
    return _made(
        "EnvironmentBuildFailed", f"building the environment failed: {_reason(lines)}", lines, fields
    )


def nearest(name: str) -> str | None:
    """A well-known package of a similar name."""
    known = sorted({*WELL_KNOWN, *RENAMED.values(), *NUMPY_2_SINCE})
    close = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=1, cutoff=0.75)
    return close[0] if close else None


def _unsolvable(text: str, lines: Sequence[str], fields: Mapping[str, object]) -> Failure:
    unknown = _UNKNOWN.search(text)
    if unknown:
        like = nearest(unknown[1])
        message = f"the package index has no package {unknown[1]}" + (
            f": did you mean {like}?" if like else ""
        )
        more = {**fields, "package": unknown[1]}
        return _made("PackageNotFound", message, lines, more, target=unknown[1])
    wheel = _NO_WHEEL.search(text) or _FOR_PYTHON.search(text)
    if wheel is None and "does not satisfy Python" in text:
        wheel = _ANY_PYTHON.search(text)
    if wheel:
        name = wheel[1].partition("==")[0]
        message = f"{name}, as it is asked for, does not exist for Python {fields.get('python', '')}"
        return _made("NoWheelForPython", message, lines, {**fields, "package": name}, target=name)
    version = _NO_VERSION.search(text)
    if version and text.count("depends on") == 0:
        name = re.split(r"[<>=!~\[]", version[1])[0]
        message = f"no version of {name} is what is asked for: {_reason(lines)}"
        return _made("PackageVersionNotFound", message, lines, {**fields, "package": name}, target=name)
    message = f"the packages contradict each other: {_both_sides(lines)}"
    if SERVER in text:
        message += f" ({SERVER}, which every environment gets, is one side of it)"
    return _made("EnvironmentUnsatisfiable", message, lines, fields)


def _both_sides(lines: Sequence[str]) -> str:
    """What the resolver concludes from what: the first steps, which name what contradicts."""
    first = _reason(lines)
    steps = [_DECORATION.sub("", line).strip() for line in lines]
    at = steps.index(first) + 1 if first in steps else len(steps)
    second = steps[at] if at < len(steps) and steps[at].startswith("And because") else ""
    return f"{first} {second}".strip()


def _reason(lines: Sequence[str]) -> str:
    """The most telling line: the last cause for a network, the first for a contradiction."""
    causes = [line for line in lines if re.match(r"^\s*(cause:|╰─▶|├─▶)", line)]
    if not causes:
        errors = [line for line in lines if line.lstrip().startswith("error:")]
        causes = errors[-1:] or [line for line in lines if line.strip()][-1:]
    chosen = next((line for line in causes if "Because" in line), causes[-1] if causes else "")
    return _DECORATION.sub("", chosen).strip() or "the installer said nothing"


def _made(
    code: str,
    message: str,
    lines: Sequence[str],
    fields: Mapping[str, object],
    *,
    target: str | None = None,
) -> Failure:
    return failure(code, message, target=target, evidence=evidence(lines), fields=fields)


def evidence(lines: Sequence[str]) -> list[str]:
    """The installer's error from its first line on; the middle of a long one is left out."""
    kept = [line for line in lines if line.strip()]
    start = next(
        (i for i, line in enumerate(kept) if re.match(r"^\s*(error:|×)", line)), max(0, len(kept) - 10)
    )
    kept = kept[start:]
    if len(kept) > MOST_EVIDENCE:
        tail = MOST_EVIDENCE - 5
        kept = [*kept[:4], f"... {len(kept) - 4 - tail} more lines in the build log", *kept[-tail:]]
    return [line[:500] for line in kept]
