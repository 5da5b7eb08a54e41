"""Where uploaded content has its name: container and blob, as values; their rules, and the addresses that name them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from moorings.spec.datastore_uris import DEFAULT_DATASTORE, parse_datastore_uri

DEFAULT_CONTAINER: Final = "azureml-blobstore"
"""The container of the default datastore."""
ACCOUNT: Final = "moorings"
BLOB_PATH: Final = "/blob/"
"""All blobs of the workspace are below this path of the listener."""
LOOPBACK: Final = ("localhost", "127.0.0.1")
LONGEST_NAME: Final = 1024

_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?!-)){1,61}[a-z0-9]")
_PATH = re.compile(
    rf"{BLOB_PATH}{ACCOUNT}(?:\.blob\.[^/]*)?/(?P<container>[^/]+)(?:/(?P<name>.*))?", re.DOTALL
)
_WITHOUT_ACCOUNT = re.compile(
    rf"{BLOB_PATH}(?P<container>{DEFAULT_CONTAINER})/(?P<name>LocalUpload/.*)", re.DOTALL
)
"""What is left of an address when a client has joined a relative one to the address of the account."""


@dataclass(frozen=True)
class BlobPlace:
    """A blob of a container; `name` is empty for the container itself."""

    container: str
    name: str = ""


def parse_blob_path(path: str) -> BlobPlace | None:
    """The place that a path of the listener (still percent-encoded) names; None when it names none."""
    found = _PATH.fullmatch(path) or _WITHOUT_ACCOUNT.fullmatch(path)
    if found is None:
        return None
    try:
        return BlobPlace(
            unquote(found["container"], errors="strict"), unquote(found["name"] or "", errors="strict")
        )
    except UnicodeDecodeError:
        return None


def parse_blob_uri(uri: str) -> BlobPlace | None:
    """The place that an address in a spec names: one in the default datastore, or below our own listener."""
    stored = parse_datastore_uri(uri)
    if stored is not None:
        return BlobPlace(DEFAULT_CONTAINER, stored.path) if stored.datastore == DEFAULT_DATASTORE else None
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme.lower() != "https" or host not in LOOPBACK:
        return None
    return parse_blob_path(parts.path)


def container_problem(container: str) -> str | None:
    """Why it cannot be the name of a container; None when it can."""
    if _CONTAINER.fullmatch(container):
        return None
    return "a container has 3 to 63 lower-case letters, digits and single dashes"


def name_problem(name: str) -> str | None:
    """Why it cannot be the name of a blob; None when it can. It becomes a relative path some day."""
    if not 1 <= len(name) <= LONGEST_NAME:
        return f"a blob's name has 1 to {LONGEST_NAME} characters"
    if {"", ".", ".."} & set(name.split("/")):
        return "a blob's name is a path without empty parts, . and .."
    if any(
        ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 or ord(c) in (0xFFFE, 0xFFFF) for c in name
    ):
        return "a blob's name has no control characters"
    if any(len(part.encode()) > 255 for part in name.split("/")):
        return "each part of a blob's name has at most 255 bytes"
    return None
