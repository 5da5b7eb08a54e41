"""Where assets come from: one function per kind of address, in one table. Must not know the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

from moorings.errors.exceptions import error

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")


def from_file(uri: str) -> Path:
    """`file:///abs/path` (percent-encoded) -> path.

    Raises `AssetSchemeUnknown` for another host (the user's fault).
    """
    host, slash, path = uri.partition(":")[2].removeprefix("//").partition("/")
    if not slash or host not in ("", "localhost"):
        message = f"{uri} is no file of this machine: expected file:///absolute/path"
        raise error("AssetSchemeUnknown", message, target=uri, fields={"supported": _supported()})
    return Path("/" + unquote(path, errors="surrogateescape"))


SCHEMES: Mapping[str, Callable[[str], Path]] = MappingProxyType({"file": from_file})
"""Scheme in lower case -> function that makes the content available and says where."""


def fetch(uri: str) -> Path:
    """Local path of what `uri` names: an absolute path, or an address of a kind in `SCHEMES`. Does not look
    at it.

    Raises `AssetSchemeUnknown` (the user's fault), naming what is supported.
    """
    if uri.startswith("/"):
        return Path(uri)
    match = _SCHEME.match(uri)
    if match is None:
        message = f"{uri!r} is not an absolute path"
        raise error("AssetSchemeUnknown", message, target=uri, fields={"supported": _supported()})
    scheme = match.group(1).lower()
    source = SCHEMES.get(scheme)
    if source is None:
        message = f"addresses that begin with {scheme}: are not supported; supported: {_supported()}"
        raise error("AssetSchemeUnknown", message, target=uri, fields={"supported": _supported()})
    return source(uri)


def _supported() -> str:
    return ", ".join(["an absolute path", *(f"{scheme}://" for scheme in sorted(SCHEMES))])
