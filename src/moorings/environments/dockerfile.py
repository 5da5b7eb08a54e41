"""Dockerfiles and image names as texts: aliases of base images, and the layer that puts an environment on one. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from moorings.containers.reading import split_tag

ENV_FOLDER = "/opt/moorings/env"
"""Where the environment is in every image we make."""
_FROM = re.compile(r"^(\s*FROM\s+(?:--\S+\s+)*)(\S+)(.*)$", re.IGNORECASE)


def aliased(image: str, aliases: Mapping[str, str]) -> str:
    """The image that stands for `image` here: of an equal name, of one without `:latest`, or of the longest `prefix*`."""
    names = [image]
    repository, tag = split_tag(image)
    if tag == "latest" and "@" not in image:
        names += [repository, f"{repository}:latest"]
    for name in names:
        if name in aliases:
            return aliases[name]
    prefixes = [a for a in aliases if a.endswith("*") and image.startswith(a[:-1])]
    return aliases[max(prefixes, key=len)] if prefixes else image


def with_aliases(dockerfile: str, aliases: Mapping[str, str]) -> str:
    """The Dockerfile with every FROM taken through `aliased`."""
    lines = []
    for line in dockerfile.splitlines(keepends=True):
        found = _FROM.match(line.rstrip("\r\n"))
        if found:
            end = line[len(line.rstrip("\r\n")) :]
            line = f"{found[1]}{aliased(found[2], aliases)}{found[3]}{end}"
        lines.append(line)
    return "".join(lines)


def venv_config(python: str, version: str, *, system_packages: bool) -> str:
    """`pyvenv.cfg` of the environment: it uses the image's Python at `python`."""
    lines = (
        f"home = {python.rpartition('/')[0]}",
        f"include-system-site-packages = {'true' if system_packages else 'false'}",
        f"version = {version}",
    )
    return "\n".join(lines) + "\n"


def manylinux(machine: str, glibc: str) -> str:
    """The platform whose wheels run on a C library of this version (`2.36`; empty: musl), in uv's words."""
    if not glibc:
        return f"{machine}-unknown-linux-musl"
    minor = int(glibc.split(".")[1])
    return f"{machine}-manylinux_2_{min(max(minor, 17), 40)}"
