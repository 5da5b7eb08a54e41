"""Reading conda files: match specs, channels and `pip:` lines, translated to Python requirements.

Pure. Every entry becomes a requirement, a note or a problem with its place; nothing is dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from moorings.environments.conda_names import CHANNELS, DROPPED, REFUSED, REFUSED_PREFIXES, RENAMED

_BRACKETS = re.compile(r"^(?P<head>[^\[]*)\[(?P<inside>.*)\]\s*$")
_PAIR = re.compile(r"""(\w+)\s*=\s*(?:'([^']*)'|"([^"]*)"|([^,\s]+))""")
_NAME = re.compile(r"^(?P<name>[A-Za-z0-9_][A-Za-z0-9_.\-]*)\s*(?P<rest>.*)$")
_CLAUSE = re.compile(r"^(?P<operator>>=|<=|==|!=|~=|>|<|=|)(?P<version>.*)$")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_COMMENT = re.compile(r"(^|\s)#.*$")
_KNOWN_KEYS = frozenset({"name", "channels", "dependencies", "prefix", "variables"})


class UntranslatableError(ValueError):
    """One entry cannot be translated; the text says why."""


@dataclass
class Translation:
    """What a conda file asks for."""

    python: list[str] = field(default_factory=list)
    """Version specifiers of the interpreter (PEP 440)."""
    requirements: list[Requirement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """`place: why`, one for each entry that cannot be used."""


@dataclass(frozen=True)
class MatchSpec:
    """One entry of `dependencies`, taken apart."""

    name: str
    """As written."""
    version: str
    """Version expression of conda, tidied; empty for any version."""
    channel: str | None = None
    build: str | None = None


def translate(conda: Mapping[str, Any]) -> Translation:
    """Translate a parsed conda file. Problems are collected in the answer; nothing is raised."""
    found = Translation()
    found.problems.extend(_channel_problems(conda.get("channels")))
    found.problems.extend(variables_of(conda)[1])
    unknown = sorted(str(key) for key in conda if key not in _KNOWN_KEYS)
    if unknown:
        found.notes.append(f"keys of the conda file without a meaning: {', '.join(unknown)}")
    dependencies = conda.get("dependencies")
    if dependencies is None:
        found.notes.append("the conda file has no dependencies")
        return found
    if not isinstance(dependencies, list):
        found.problems.append("dependencies: expected a list")
        return found
    for index, entry in enumerate(dependencies):
        _dependency(found, f"dependencies[{index}]", entry)
    return found


def variables_of(conda: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The `variables` of a conda file, which its processes get as environment variables, and problems with their
    places."""
    given = conda.get("variables")
    if given is None:
        return {}, []
    if not isinstance(given, Mapping):
        return {}, ["variables: expected a mapping of names to texts"]
    found: dict[str, str] = {}
    problems: list[str] = []
    for name, value in given.items():
        if not isinstance(name, str) or not _VARIABLE.match(name):
            problems.append(f"variables ({name!r}): not the name of an environment variable")
        elif isinstance(value, bool) or not isinstance(value, str | int | float):
            problems.append(f"variables.{name} ({value!r}): expected a text")
        elif "\0" in str(value):
            problems.append(f"variables.{name}: a text without NUL is expected")
        else:
            found[name] = str(value)
    return found, problems


def pip_lines(found: Translation, lines: Sequence[Any], place: str) -> None:
    """Add the lines of a `pip:` list (or of a requirements file) to `found`."""
    for index, line in enumerate(lines):
        where = f"{place}[{index}]"
        if not isinstance(line, str):
            found.problems.append(f"{where} ({line!r}): expected a text")
            continue
        text = without_comment(line)
        if not text:
            continue
        try:
            found.requirements.append(pip_requirement(text))
        except UntranslatableError as problem:
            found.problems.append(f"{where} ({line.strip()}): {problem}")


def pip_requirement(text: str) -> Requirement:
    """The requirement of one pip line.

    Raises UntranslatableError for options, paths and what is no requirement.
    """
    if text.startswith("-"):
        raise UntranslatableError(_option_advice(text))
    bare = _bare_url(text)
    if bare is not None:
        return bare
    if text.startswith((".", "/", "~")) or ("/" in text and "@" not in text):
        raise UntranslatableError(
            "paths of the author's machine are not available: put the code into the code folder"
        )
    if re.search(r"\s--?[a-z]", text):
        raise UntranslatableError("options after a requirement are not supported: leave them out")
    try:
        return Requirement(text)
    except InvalidRequirement as problem:
        reason = str(problem).splitlines()[0]
        if re.match(r"^[A-Za-z0-9_.\-\[\],]+\s*=[^=]", text):
            reason = "pip pins with two equals signs: name==version"
        raise UntranslatableError(f"not a valid requirement: {reason}") from None


def without_comment(text: str) -> str:
    return _COMMENT.sub("", text).strip()


def parse_match_spec(text: str) -> MatchSpec:
    """Take one conda match spec apart. Raises UntranslatableError."""
    rest = without_comment(text)
    given: dict[str, str] = {}
    brackets = _BRACKETS.match(rest)
    if brackets:
        rest = brackets["head"].strip()
        for key, single, double, plain in _PAIR.findall(brackets["inside"]):
            given[key] = single or double or plain
    channel: str | None = None
    if "::" in rest:
        prefix, _, rest = rest.rpartition("::")
        channel = prefix.split(":")[0]
    match = _NAME.match(rest)
    if match is None or not re.match(r"^([=<>!~0-9*(]|$)", match["rest"]):
        raise UntranslatableError("not a match spec: expected name, name=version or name>=version")
    version, build = _version_and_build(match["rest"].strip())
    version = given.get("version", version)
    return MatchSpec(
        name=match["name"],
        version=version,
        channel=given.get("channel", channel),
        build=given.get("build", build),
    )


def specifiers_of(expression: str) -> str:
    """A conda version expression in the words of PEP 440. Raises UntranslatableError.

    conda's `=1.2` and `1.2.*` are a prefix (`==1.2.*`), `==1.2` is exact, `,` is "and". "Or" has no equal.
    """
    expression = re.sub(r"\s+", "", expression).strip("()")
    if "|" in expression:
        raise UntranslatableError(f"alternatives ({expression}) cannot be translated: name one range")
    parts = [_clause(clause) for clause in expression.split(",") if clause]
    return str(SpecifierSet(",".join(part for part in parts if part)))


def known_channel(channel: str) -> bool:
    """Whether the Python packages of this channel are known to be on the package index."""
    name = re.sub(r"^https?://[^/]+/", "", channel.strip()).strip("/")
    name = re.sub(r"/(label/.*|linux-64|linux-aarch64|osx-64|osx-arm64|win-64|noarch)$", "", name)
    return name.removeprefix("pkgs/") in CHANNELS


def _channel_problems(channels: Any) -> list[str]:
    if channels is None:
        return []
    if not isinstance(channels, list):
        return ["channels: expected a list"]
    known = ", ".join(sorted(CHANNELS))
    return [
        f"channels[{index}] ({channel}): this channel is not known (known: {known})"
        for index, channel in enumerate(channels)
        if not isinstance(channel, str) or not known_channel(channel)
    ]


def _dependency(found: Translation, place: str, entry: Any) -> None:
    if isinstance(entry, Mapping):
        for key, lines in entry.items():
            if key != "pip":
                found.problems.append(f"{place} ({key}): only pip: may have a list of its own")
            elif lines is not None and not isinstance(lines, list):
                found.problems.append(f"{place}.pip: expected a list")
            else:
                pip_lines(found, lines or [], f"{place}.pip")
        return
    if not isinstance(entry, str):
        found.problems.append(f"{place} ({entry!r}): expected a text")
        return
    try:
        _package(found, place, parse_match_spec(entry))
    except UntranslatableError as problem:
        found.problems.append(f"{place} ({entry.strip()}): {problem}")


def _package(found: Translation, place: str, spec: MatchSpec) -> None:
    """Raises UntranslatableError."""
    if spec.channel is not None and not known_channel(spec.channel):
        known = ", ".join(sorted(CHANNELS))
        raise UntranslatableError(f"the channel {spec.channel} is not known (known: {known})")
    name = canonicalize_name(spec.name.lstrip("_"))
    if name in DROPPED:
        found.notes.append(f"{place} ({spec.name}) is left out: {DROPPED[name]}")
        return
    refused = REFUSED.get(name) or next(
        (why for prefix, why in REFUSED_PREFIXES.items() if name.startswith(prefix)), None
    )
    if refused:
        raise UntranslatableError(refused)
    specifiers = specifiers_of(spec.version)
    if name == "python":
        if specifiers:
            found.python.append(specifiers)
        return
    if name == "pip" and not specifiers:
        return
    target = RENAMED.get(name, name)
    if target != name:
        found.notes.append(f"{place}: {spec.name} is called {target} on the package index")
    found.requirements.append(_requirement(f"{target}{specifiers}"))


def _version_and_build(rest: str) -> tuple[str, str | None]:
    rest = re.sub(r"([<>=!~,|])\s+", r"\1", rest)
    rest = re.sub(r"\s+([,|])", r"\1", rest)
    if " " in rest:
        version, _, build = rest.partition(" ")
        if re.match(r"^=?[0-9]", version):
            version = "==" + version.lstrip("=")
        return version, build.strip()
    if rest.startswith("=="):
        version, _, build = rest[2:].partition("=")
        return f"=={version}", build or None
    if rest.startswith("="):
        version, _, build = rest[1:].partition("=")
        # With a build string the version is exact, as `conda env export` writes it.
        return (f"=={version}" if build and "*" not in version else f"={version}"), build or None
    if re.match(r"^[0-9][^*,|<>=]*$", rest):
        return f"=={rest}", None
    return rest, None


def _clause(clause: str) -> str:
    match = _CLAUSE.match(clause)
    assert match is not None, "every part of it may be empty"
    operator, version = match["operator"], match["version"]
    base = version.rstrip("*").rstrip(".")
    wildcard = base != version
    if not base:
        return ""
    try:
        parsed = Version(base)
    except InvalidVersion:
        raise UntranslatableError(f"{version} is not a version that Python packages can have") from None
    plain = parsed.base_version == str(parsed)
    if operator in ("=", "") or (operator in ("==", "!=") and wildcard):
        kind = "!=" if operator == "!=" else "=="
        prefix = plain and (wildcard or operator == "=")
        return f"{kind}{base}.*" if prefix else f"{kind}{base}"
    try:
        return str(SpecifierSet(f"{operator}{base}"))
    except InvalidSpecifier:
        raise UntranslatableError(f"{clause} is not a version range") from None


def _bare_url(text: str) -> Requirement | None:
    """`https://.../six-1.17.0-py3-none-any.whl` and `git+https://...#egg=name`, which name no package in
    front.
    """
    if not re.match(r"^(git\+)?[a-z]+://", text):
        return None
    address, _, fragment = text.partition("#")
    egg = re.search(r"(?:^|&)egg=([A-Za-z0-9_.\-]+)", fragment)
    if egg:
        return _requirement(f"{egg[1]} @ {address}")
    try:
        name = parse_wheel_filename(unquote(address.rpartition("/")[2]))[0]
    except InvalidWheelFilename:
        raise UntranslatableError("an address needs the name in front: name @ address") from None
    return _requirement(f"{name} @ {text}")


def _requirement(text: str) -> Requirement:
    """Raises UntranslatableError for what is no requirement after all (a name of nothing but `_`, say)."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        raise UntranslatableError(f"{text!r} names no package") from None


def _option_advice(text: str) -> str:
    option = re.split(r"[\s=]", text, maxsplit=1)[0]
    if option in ("-r", "--requirement", "-c", "--constraint"):
        return "other files do not travel with the conda file: put their lines here"
    if option in ("-e", "--editable"):
        return "editable installs are not supported: put the code into the code folder"
    if option in ("-i", "--index-url", "--extra-index-url"):
        return "package indexes are a setting of the machine: set UV_INDEX for the workspace"
    if option in ("-f", "--find-links"):
        return "package folders are a setting of the machine: set UV_FIND_LINKS for the workspace"
    return f"the option {option} is not supported: leave it out"
