"""The XML of the blob protocol: listings, lists of blocks, errors, as text and back. Pure; knows no store."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from html import escape

from moorings.api.blobs import Content

_HEAD = '<?xml version="1.0" encoding="utf-8"?>'
_BLOCK_LIST = re.compile(r"\s*(?:<\?xml[^>]*\?>)?\s*<BlockList>(?P<blocks>.*)</BlockList>\s*", re.DOTALL)
_BLOCK = re.compile(r"\s*<(Latest|Uncommitted)>\s*(?P<id>[A-Za-z0-9+/=_\-]{1,128})\s*</\1>\s*")
"""The whole grammar of a list of blocks: no general XML is read from the wire."""
_LAST = "\U0010ffff"


@dataclass(frozen=True)
class Page:
    """What a listing was asked for."""

    container: str
    prefix: str
    delimiter: str
    with_words: bool

    def text(self, found: Sequence[Content], top: int) -> str:
        """At most `top` of `found`, which has one more where another page follows."""
        parts: list[str] = []
        last = ""
        for content in found[:top]:
            last = content.name
            folder = self._folder(content.name)
            if folder is None:
                parts.append(self._blob(content))
                continue
            entry = f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>"
            if not parts or parts[-1] != entry:
                parts.append(entry)
            last = folder + _LAST
        marker = write_marker(last) if len(found) > top else ""
        return (
            f'{_HEAD}<EnumerationResults ContainerName="{escape(self.container)}">'
            f"<Prefix>{escape(self.prefix)}</Prefix><Delimiter>{escape(self.delimiter)}</Delimiter>"
            f"<Blobs>{''.join(parts)}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        )

    def _folder(self, name: str) -> str | None:
        """The folder that stands for `name` in this listing, where one does."""
        if not self.delimiter:
            return None
        at = name.find(self.delimiter, len(self.prefix))
        return None if at < 0 else name[: at + len(self.delimiter)]

    def _blob(self, content: Content) -> str:
        words = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in content.words.items())
        return (
            f"<Blob><Name>{escape(content.name)}</Name><Properties>"
            f"<Creation-Time>{formatdate(content.created_at, usegmt=True)}</Creation-Time>"
            f"<Last-Modified>{formatdate(content.updated_at, usegmt=True)}</Last-Modified>"
            f"<Etag>{content.etag}</Etag><Content-Length>{content.size_bytes}</Content-Length>"
            f"<Content-Type>{escape(content.content_type)}</Content-Type><BlobType>BlockBlob</BlobType>"
            "<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState></Properties>"
            f"{f'<Metadata>{words}</Metadata>' if self.with_words else ''}</Blob>"
        )


def error(code: str, message: str) -> str:
    return f"{_HEAD}<Error><Code>{escape(code)}</Code><Message>{escape(_plain(message))}</Message></Error>"


def read_block_list(body: bytes) -> list[str] | None:
    """The ids in their order; None for what is no list of blocks that were sent and not yet put together."""
    try:
        found = _BLOCK_LIST.fullmatch(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None
    if found is None:
        return None
    text, at = found["blocks"], 0
    ids: list[str] = []
    while at < len(text):
        block = _BLOCK.match(text, at)
        if block is None:
            return None if text[at:].strip() else ids
        ids.append(block["id"])
        at = block.end()
    return ids


def write_marker(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode("utf-8", "surrogatepass")).decode()


def read_marker(marker: str) -> str | None:
    """The name a listing goes on after; None for a marker that is none of ours."""
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode("utf-8", "surrogatepass")
    except ValueError:
        return None


def _plain(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return "".join(
        c if c >= " " and not 0xD800 <= ord(c) < 0xE000 and c not in "\ufffe\uffff" else " " for c in text
    )
