"""What clients upload and download: names for content, kept in the state; the content in files. No HTTP here.

Uploaded content gets into an asset when a version is registered; afterwards the upload is not needed any more and goes
some days later. The content of registered versions is readable here below `moorings/<digest>/`, and never writable.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moorings.assets.store import AssetStore, RemoteFile, RemoteTree
from moorings.assets.tree import shown
from moorings.assets.uploads import Incoming, Stored, Uploads
from moorings.errors.exceptions import MooringsError, error
from moorings.spec.blob_places import DEFAULT_CONTAINER, BlobPlace, parse_blob_uri
from moorings.spec.datastore_uris import CONTENT
from moorings.state.blob_rows import Blob
from moorings.state.database import Database
from moorings.state.lookup import DATA

KEEP_UPLOADS_S = 7 * 24 * 3600.0
"""How long an upload stays after it was last written to."""
_STORED = re.compile(rf"{CONTENT}/(?P<digest>[0-9a-f]{{64}})/(?P<path>.*)", re.DOTALL)


@dataclass(frozen=True)
class Content:
    """A blob as it can be read."""

    name: str
    size_bytes: int
    path: Path
    content_type: str
    words: Mapping[str, str]
    """Its metadata."""
    etag: str
    created_at: float
    updated_at: float


class BlobExists(Exception):  # noqa: N818 - an answer, not a failure of ours
    """A blob of this name is there, and was not to be replaced."""


class BlockMissing(Exception):  # noqa: N818 - the same
    """A block is named that was not sent."""


@dataclass(frozen=True)
class Blobs:
    database: Database
    uploads: Uploads
    store: AssetStore
    _joining: _Turns = field(default_factory=lambda: _Turns(), repr=False)

    # --- reading ---

    def find(self, place: BlobPlace) -> Content | None:
        if _is_stored(place):
            return next((c for c in self._stored(place.name) if c.name == place.name), None)
        with self.database.read() as tx:
            blob = tx.blob(place.container, place.name)
        return None if blob is None else self._content(blob)

    def listed(self, container: str, prefix: str, *, after: str, top: int) -> list[Content]:
        """At most `top` blobs whose names begin with `prefix` and come after `after`, by name."""
        if _is_stored(BlobPlace(container, prefix)):
            found = sorted(self._stored(prefix), key=lambda c: c.name)
            return [c for c in found if c.name.startswith(prefix) and c.name > after][:top]
        with self.database.read() as tx:
            return [self._content(b) for b in tx.blobs(container, prefix, after=after, top=top)]

    def _content(self, blob: Blob) -> Content:
        return Content(
            blob.name,
            blob.size_bytes,
            self.uploads.path(blob.data),
            blob.content_type,
            blob.words,
            blob.etag,
            blob.created_at,
            blob.updated_at,
        )

    def _stored(self, name: str) -> Iterator[Content]:
        """The files of the registered content that `name` lies in."""
        found = _STORED.fullmatch(name)
        if found is None:
            return
        digest = found["digest"]
        try:
            tree = self.store.tree(digest)
            made_at = self.store.manifest(digest).stat().st_mtime
        except (MooringsError, OSError):
            return
        for entry in tree.files:
            yield Content(
                f"{CONTENT}/{digest}/{entry.path}",
                entry.size_bytes,
                self.store.blob(entry.sha256),
                "application/octet-stream",
                {},
                entry.sha256[:40],
                made_at,
                made_at,
            )

    # --- writing ---

    def put(
        self,
        place: BlobPlace,
        incoming: Incoming,
        *,
        content_type: str,
        words: Mapping[str, str],
        replace: bool,
    ) -> Content:
        """Give the name this content. Raises `BlobExists` with `replace=False`; the codes of `Uploads`."""
        _refuse_stored(place)
        if not replace:
            self._check_free(place)
        return self._name(place, self.uploads.keep(incoming), content_type, words, None, replace=replace)

    def put_block(self, place: BlobPlace, incoming: Incoming, block: str) -> None:
        _refuse_stored(place)
        self.uploads.keep_block(incoming, _key(place), block)

    def join(
        self,
        place: BlobPlace,
        blocks: Sequence[str],
        *,
        content_type: str,
        words: Mapping[str, str],
        replace: bool,
    ) -> Content:
        """Put the blocks together. The same list again is answered as before: the first answer may have been lost.

        Raises `BlockMissing`, `BlobExists`; the codes of `Uploads`.
        """
        _refuse_stored(place)
        mark = hashlib.sha256("\n".join(blocks).encode()).hexdigest()
        with self._joining.turn(_key(place)):
            with self.database.read() as tx:
                old = tx.blob(place.container, place.name)
            try:
                if old is not None and not replace and old.blocks != mark:
                    raise BlobExists
                stored = self.uploads.join(_key(place), blocks)
            except KeyError as missing:
                if old is not None and old.blocks == mark:
                    return self._content(old)
                raise BlockMissing(missing.args[0]) from None
            made = self._name(place, stored, content_type, words, mark, replace=True)
            self.uploads.forget_blocks(_key(place))
            return made

    def set_words(self, place: BlobPlace, words: Mapping[str, str]) -> Content | None:
        """Replace the metadata; None when there is no such blob."""
        _refuse_stored(place)
        with self.database.write() as tx:
            old = tx.blob(place.container, place.name)
            return None if old is None else self._content(tx.set_blob_words(old, words))

    def sweep(self, now: float) -> int:
        """Forget uploads nobody has written to for days, and files that no blob has; what a data asset names stays,
        as there is no copy of it. For the start of the daemon."""
        with self.database.write() as tx:
            named = _named_by_data(tx.asset_bodies(DATA))
            old = [
                (b.container, b.name)
                for b in tx.blobs_before(now - KEEP_UPLOADS_S)
                if not any((b.container, each) in named for each in ("", b.name, *_parents(b.name)))
            ]
            tx.drop_blobs(old)
            known = tx.blob_data()
        return len(old) + self.uploads.sweep(known.__contains__, now)

    def _check_free(self, place: BlobPlace) -> None:
        with self.database.read() as tx:
            if tx.blob(place.container, place.name) is not None:
                raise BlobExists

    def _name(
        self,
        place: BlobPlace,
        stored: Stored,
        content_type: str,
        words: Mapping[str, str],
        blocks: str | None,
        *,
        replace: bool,
    ) -> Content:
        old: Blob | None = None
        try:
            with self.database.write() as tx:
                old = tx.blob(place.container, place.name)
                if old is not None and not replace:
                    raise BlobExists
                made = tx.put_blob(
                    place.container,
                    place.name,
                    data=stored.data,
                    size_bytes=stored.size_bytes,
                    sha256=stored.sha256,
                    content_type=content_type,
                    words=words,
                    blocks=blocks,
                )
        except BaseException:
            self.uploads.forget(stored.data)
            raise
        if old is not None:
            self.uploads.forget(old.data)
        return self._content(made)

    # --- registering ---

    def tree(self, uri: str) -> RemoteTree | None:
        """What an address of ours names, a file or a folder, to be taken into the store; None for other addresses.

        Raises `UploadMissing` (nothing was uploaded there) and `UploadAmbiguous` (a name is both a file and
        a folder): the user's fault.
        """
        place = parse_blob_uri(uri)
        if place is None:
            return None
        name = place.name.rstrip("/")
        with self.database.read() as tx:
            single = tx.blob(place.container, name)
            below = list(tx.blobs(place.container, f"{name}/" if name else ""))
        if single is not None and not place.name.endswith("/"):
            base = name.rpartition("/")[2]
            return RemoteTree(uri, base, True, [self._remote(single, base)])
        if not below:
            message = f"nothing was uploaded to {shown(name or place.container)}"
            named = shlex.quote(name) if name else "<path>"
            raise error("UploadMissing", message, target=uri, fields={"name": named})
        prefix = f"{name}/" if name else ""
        files = [self._remote(blob, blob.name.removeprefix(prefix)) for blob in below]
        paths = {file.path for file in files}
        both = sorted(p for p in paths if any(parent in paths for parent in _parents(p)))
        if both:
            message = f"{shown(both[0])} lies below a name that is a file itself"
            raise error("UploadAmbiguous", message, target=uri, evidence=[shown(p) for p in both[:20]])
        return RemoteTree(uri, name.rpartition("/")[2], False, files)

    def _remote(self, blob: Blob, path: str) -> RemoteFile:
        stored = Stored(blob.data, blob.size_bytes, blob.sha256)
        return RemoteFile(path, blob.size_bytes, self.uploads.copier(stored))


class _Turns:
    """One thread at a time for each key."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[str] = set()

    @contextlib.contextmanager
    def turn(self, key: str) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: key not in self._taken)
            self._taken.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._taken.discard(key)
                self._changed.notify_all()


def _is_stored(place: BlobPlace) -> bool:
    return place.container == DEFAULT_CONTAINER and place.name.startswith(f"{CONTENT}/")


def _refuse_stored(place: BlobPlace) -> None:
    if _is_stored(place):
        message = f"{shown(place.name)}: registered content never changes"
        raise error("UploadRefused", message, target=place.name)


def _key(place: BlobPlace) -> str:
    return f"{place.container}/{place.name}"


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _named_by_data(bodies: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Container and name of every upload, a file or a folder, that a data asset is the address of."""
    uris = [uri for body in bodies for uri in (body["dataUri"], *(body.get("referencedUris") or ()))]
    places = [parse_blob_uri(uri) for uri in uris]
    return {(place.container, place.name.rstrip("/")) for place in places if place is not None}
