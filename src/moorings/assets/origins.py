"""From the address of a model or code to what is there: a path of this machine, or a listing of a store elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moorings.assets.datastores import read_datastores
from moorings.assets.sources import Bucket, find
from moorings.assets.store import RemoteTree


@dataclass(frozen=True)
class Origins:
    """Looks addresses up, with the datastores of the workspace at hand."""

    datastores_file: Path | None = None

    def datastores(self) -> frozenset[str]:
        """The names of the datastores beside the workspace's own. Raises `DatastoreInvalid`."""
        return frozenset(read_datastores(self.datastores_file) if self.datastores_file is not None else ())

    def find(self, uri: str) -> Path | RemoteTree:
        """Where the content of `uri` is; nothing of it is read yet.

        Raises the codes of `sources`, `datastores`, `buckets` and `web`.
        """
        datastores = read_datastores(self.datastores_file) if self.datastores_file is not None else {}
        source = find(uri, datastores)
        if isinstance(source, Path):
            return source
        if isinstance(source, Bucket):
            from moorings.assets.buckets import remote_tree

            return remote_tree(source)
        from moorings.assets.web import remote_file

        return remote_file(source)
