"""Addresses of data in a datastore of the workspace, as values and back to text. Knows no datastore and no disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

DEFAULT_DATASTORE: Final = "workspaceblobstore"
CONTENT: Final = "moorings"
"""First part of the paths in the default datastore that name stored content by its digest."""

_PATHS = r"datastores/(?P<datastore>[^/]+)/paths/(?P<path>.*)"
_SHORT = re.compile(rf"azureml://{_PATHS}", re.IGNORECASE | re.DOTALL)
_LONG = re.compile(
    r"azureml://subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)"
    rf"/(?:providers/Microsoft\.MachineLearningServices/)?workspaces/(?P<workspace>[^/]+)/{_PATHS}",
    re.IGNORECASE | re.DOTALL,
)
_CONTENT = re.compile(rf"{CONTENT}/(?P<digest>[0-9a-f]{{64}})(?:/(?P<name>[^/]+))?/?")


@dataclass(frozen=True)
class DatastoreUri:
    """`azureml://datastores/<datastore>/paths/<path>`; `path` is decoded, without a leading slash."""

    datastore: str
    path: str
    workspace: str | None = None
    """Named by the long form only."""


def parse_datastore_uri(uri: str) -> DatastoreUri | None:
    """The short or the long form (section 1.4); None for any other text."""
    found = _SHORT.fullmatch(uri) or _LONG.fullmatch(uri)
    if found is None:
        return None
    path = unquote(found["path"], errors="surrogateescape").lstrip("/")
    return DatastoreUri(found["datastore"], path, found.groupdict().get("workspace"))


def content_uri(workspace_path: str, digest: str, name: str) -> str:
    """The address of stored content in the long form clients expect; `name` is empty where it has none.

    `workspace_path` is `/subscriptions/<s>/resourceGroups/<g>/providers/.../workspaces/<w>`.
    """
    parts = workspace_path.strip("/").split("/")
    scope = f"subscriptions/{parts[1]}/resourcegroups/{parts[3]}/workspaces/{parts[-1]}"
    tail = f"/{quote(name, safe='', errors='surrogateescape')}" if name else ""
    return f"azureml://{scope}/datastores/{DEFAULT_DATASTORE}/paths/{CONTENT}/{digest}{tail}"


def content_digest(uri: str) -> str | None:
    """The digest of the stored content that `uri` names, where it names one."""
    parsed = parse_datastore_uri(uri)
    if parsed is None or parsed.datastore != DEFAULT_DATASTORE:
        return None
    found = _CONTENT.fullmatch(parsed.path)
    return found["digest"] if found is not None else None
