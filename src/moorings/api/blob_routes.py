"""The part of the blob protocol that clients upload and download with, over signed addresses. Translates only.

What a blob is, is in `blobs.py`; what a signature opens, in `security/access.py`. Bodies go to disk as they arrive, in
chunks of constant size. Answers to errors are final: clients of this protocol send again after each 5xx, for a minute.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import BinaryIO
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from moorings.api import blob_xml
from moorings.api.blobs import BlobExists, Blobs, BlockMissing, Content
from moorings.assets.uploads import CHUNK_BYTES, Incoming
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import Clock
from moorings.security.access import LIST, READ, SIGNATURE_VERSION, WRITE, AccessKeys, refusal
from moorings.spec.blob_places import BlobPlace, container_problem, name_problem, parse_blob_path

logger = logging.getLogger(__name__)

IDLE_S = 60.0
"""An upload that sends nothing for so long is given up."""
MAX_LISTED = 5000
MAX_WORDS_BYTES = 8 * 1024
MAX_BLOCK_LIST_BYTES = 8 * 1024 * 1024
MAX_BLOCKS = 50_000
META = "x-ms-meta-"
_META_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)", re.ASCII)
_BLOCK_ID = re.compile(r"[A-Za-z0-9+/=_\-]{1,128}")


class Refused(Exception):  # noqa: N818 - an answer on its way out
    """An answer of the protocol that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class Asked:
    """A request whose signature was found good."""

    request: Request
    place: BlobPlace
    query: dict[str, str]

    def header(self, name: str, default: str = "") -> str:
        return self.request.headers.get(name, default)


class BlobApp:
    """ASGI: everything below `/blob/`."""

    def __init__(
        self, blobs: Blobs, keys: Callable[[], AccessKeys], clock: Clock, idle_s: float = IDLE_S
    ) -> None:
        self._blobs = blobs
        self._keys = keys
        self._clock = clock
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return  # nobody is there to be answered; what had arrived is gone already
        response.headers["x-ms-version"] = SIGNATURE_VERSION
        response.headers["x-ms-request-id"] = str(uuid.uuid4())
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            asked, handler = self._opened(request)
            return await handler(asked)
        except Refused as problem:
            return _error(problem.status, problem.code, problem.message)
        except BlobExists:
            return _error(409, "BlobAlreadyExists", "a blob of this name is there already")
        except BlockMissing as problem:
            return _error(400, "InvalidBlockList", f"block {problem.args[0]} was not uploaded")
        except MooringsError as problem:
            failed = problem.failure
            status = failed.entry.http_status
            # 4xx is final for clients of this protocol: they see the reason now, not after a minute of repeats.
            final = {507: 413, 500: 409}.get(status, status)
            return _error(final, failed.code, " ".join([failed.message + ".", *failed.evidence, failed.fix]))
        except ClientDisconnect:
            raise
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)
            return _error(500, "InternalError", f"{request.method} failed; the daemon's log says why")

    def _opened(self, request: Request) -> tuple[Asked, Callable[[Asked], Awaitable[Response]]]:
        """The request and what handles it, when its signature opens it."""
        raw = request.scope.get("raw_path") or request.url.path.encode()
        place = parse_blob_path(raw.decode("ascii", "replace"))
        if place is None or container_problem(place.container):
            raise Refused(404, "ContainerNotFound", "no container of this workspace has this address")
        pairs = parse_qsl(request.scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
        query = dict(pairs)
        if len(query) != len(pairs):
            raise Refused(400, "InvalidQueryParameterValue", "a part of the query is given twice")
        handler, right = self._route(request.method, place, query)
        why = refusal(self._keys(), query, place.container, right=right, now=self._clock.now())
        if why is not None:
            raise Refused(403, "AuthenticationFailed", why)
        if handler is None:
            raise Refused(405, "UnsupportedHttpVerb", f"{request.method} is not served here")
        problem = name_problem(place.name) if place.name else None
        if problem is not None and request.method == "PUT":
            raise Refused(400, "InvalidResourceName", problem)
        return Asked(request, place, query), handler

    def _route(
        self, method: str, place: BlobPlace, query: dict[str, str]
    ) -> tuple[Callable[[Asked], Awaitable[Response]] | None, str]:
        part = query.get("comp", "")
        if not place.name:
            if method == "GET" and part == "list":
                return self._list, LIST
            return (self._container, LIST) if method in ("GET", "HEAD") and not part else (None, LIST)
        if method == "HEAD" and not part:
            return self._head, READ
        if method == "GET" and not part:
            return self._get, READ
        puts = {
            "": self._put,
            "block": self._put_block,
            "blocklist": self._put_list,
            "metadata": self._put_words,
        }
        return (puts.get(part) if method == "PUT" else None), WRITE

    # --- reading ---

    async def _container(self, asked: Asked) -> Response:
        return Response(
            headers={"ETag": '"0x0"', "Last-Modified": formatdate(self._clock.now(), usegmt=True)}
        )

    async def _list(self, asked: Asked) -> Response:
        query = asked.query
        text = query.get("maxresults", str(MAX_LISTED))
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise Refused(400, "OutOfRangeQueryParameterValue", "maxresults is a number from 1")
        top = min(int(text), MAX_LISTED)
        after = blob_xml.read_marker(query.get("marker", ""))
        if after is None:
            raise Refused(400, "InvalidQueryParameterValue", "marker is not one that was given out")
        container, prefix = asked.place.container, query.get("prefix", "")
        found = await run_in_threadpool(self._blobs.listed, container, prefix, after=after, top=top + 1)
        page = blob_xml.Page(
            container, prefix, query.get("delimiter", ""), "metadata" in query.get("include", "").split(",")
        )
        return Response(page.text(found, top), media_type="application/xml")

    async def _head(self, asked: Asked) -> Response:
        found = await self._found(asked)
        return Response(headers={**_headers(found), "Content-Length": str(found.size_bytes)})

    async def _get(self, asked: Asked) -> Response:
        found = await self._found(asked)
        wanted = asked.header("if-match")
        if wanted not in ("", "*", f'"{found.etag}"'):
            raise Refused(412, "ConditionNotMet", "the blob has changed")
        first, last, partial = _range(asked.header("x-ms-range") or asked.header("range"), found.size_bytes)
        try:
            handle = await run_in_threadpool(found.path.open, "rb")
        except FileNotFoundError:
            raise Refused(
                404, "BlobNotFound", "the content of this blob has just been replaced or removed"
            ) from None
        length = last - first + 1
        headers = {**_headers(found), "Content-Length": str(length)}
        if partial:
            headers["Content-Range"] = f"bytes {first}-{last}/{found.size_bytes}"
        return StreamingResponse(
            _read(handle, first, length),
            status_code=206 if partial else 200,
            headers=headers,
            media_type=found.content_type,
        )

    async def _found(self, asked: Asked) -> Content:
        found = await run_in_threadpool(self._blobs.find, asked.place)
        if found is None:
            raise Refused(404, "BlobNotFound", "no blob has this name")
        return found

    # --- writing ---

    async def _put(self, asked: Asked) -> Response:
        kind = asked.header("x-ms-blob-type")
        if kind != "BlockBlob" or asked.header("x-ms-copy-source"):
            raise Refused(
                400, "InvalidHeaderValue", "only block blobs are stored here, from the body of the request"
            )
        words = _words(asked)
        incoming = await self._received(asked)
        try:
            made = await run_in_threadpool(
                self._blobs.put,
                asked.place,
                incoming,
                content_type=_content_type(asked),
                words=words,
                replace=_may_replace(asked),
            )
        finally:
            await run_in_threadpool(incoming.drop)
        return _created(made)

    async def _put_block(self, asked: Asked) -> Response:
        block = asked.query.get("blockid", "")
        if not _BLOCK_ID.fullmatch(block):
            raise Refused(
                400, "InvalidQueryParameterValue", "blockid is a base64 text of at most 128 characters"
            )
        incoming = await self._received(asked)
        try:
            await run_in_threadpool(self._blobs.put_block, asked.place, incoming, block)
        finally:
            await run_in_threadpool(incoming.drop)
        return Response(status_code=201)

    async def _put_list(self, asked: Asked) -> Response:
        words = _words(asked)
        body = bytearray()
        async for chunk in self._chunks(asked.request):
            body += chunk
            if len(body) > MAX_BLOCK_LIST_BYTES:
                raise Refused(413, "RequestBodyTooLarge", "the list of blocks is too long")
        blocks = blob_xml.read_block_list(bytes(body))
        if blocks is None or len(blocks) > MAX_BLOCKS:
            raise Refused(400, "InvalidXmlDocument", f"expected a BlockList of at most {MAX_BLOCKS} blocks")
        made = await run_in_threadpool(
            self._blobs.join,
            asked.place,
            blocks,
            content_type=_content_type(asked),
            words=words,
            replace=_may_replace(asked),
        )
        return _created(made)

    async def _put_words(self, asked: Asked) -> Response:
        made = await run_in_threadpool(self._blobs.set_words, asked.place, _words(asked))
        if made is None:
            raise Refused(404, "BlobNotFound", "no blob has this name")
        return Response(headers=_tags(made))

    async def _received(self, asked: Asked) -> Incoming:
        """The body, on disk; nothing of it stays unless all of it arrived as announced."""
        announced = asked.header("content-length")
        if not announced.isascii() or not announced.isdigit():
            raise Refused(411, "MissingContentLengthHeader", "an upload says its length")
        expected = int(announced)
        incoming = await run_in_threadpool(self._blobs.uploads.begin, expected)
        digest = asked.header("content-md5")
        try:
            buffer = bytearray()
            async for chunk in self._chunks(asked.request):
                buffer += chunk
                if len(buffer) >= CHUNK_BYTES:
                    await run_in_threadpool(incoming.write, bytes(buffer), md5=bool(digest))
                    buffer.clear()
            await run_in_threadpool(incoming.write, bytes(buffer), md5=bool(digest))
            if incoming.size_bytes != expected:
                message = f"{incoming.size_bytes} bytes arrived of {expected} announced"
                raise Refused(400, "IncompleteBody", message)
            if digest and digest != incoming.md5:
                raise Refused(400, "Md5Mismatch", f"Content-MD5 is {digest}, what arrived has {incoming.md5}")
        except BaseException:
            incoming.drop()
            raise
        return incoming

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        stream = request.stream()
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                message = f"nothing arrived for {self._idle_s:g} s"
                raise Refused(400, "RequestBodyIncomplete", message) from None
            yield chunk


async def _read(handle: BinaryIO, first: int, length: int) -> AsyncIterator[bytes]:
    try:
        await run_in_threadpool(handle.seek, first)
        while length > 0:
            chunk = await run_in_threadpool(handle.read, min(CHUNK_BYTES, length))
            if not chunk:
                return
            length -= len(chunk)
            yield chunk
    finally:
        handle.close()


def _range(text: str, size_bytes: int) -> tuple[int, int, bool]:
    """First and last byte, and whether a part was asked for."""
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        return 0, size_bytes - 1, False
    first = int(found[1])
    last = min(int(found[2] or size_bytes - 1), size_bytes - 1)
    if first >= size_bytes or last < first:
        raise Refused(416, "InvalidRange", f"the blob has {size_bytes} bytes")
    return first, last, True


def _words(asked: Asked) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in asked.request.headers.items():
        if not name.startswith(META):
            continue
        key = name.removeprefix(META)
        if not _META_NAME.fullmatch(key) or not value.isprintable():
            raise Refused(
                400, "InvalidMetadata", f"{name!r} cannot be the name, or have the value, of metadata"
            )
        found[key] = value
    if sum(len(k) + len(v) for k, v in found.items()) > MAX_WORDS_BYTES:
        raise Refused(400, "MetadataTooLarge", f"metadata has at most {MAX_WORDS_BYTES} bytes")
    return found


def _content_type(asked: Asked) -> str:
    given = asked.header("x-ms-blob-content-type")
    return (
        given
        if given and len(given) <= 255 and given.isascii() and given.isprintable()
        else "application/octet-stream"
    )


def _may_replace(asked: Asked) -> bool:
    return asked.header("if-none-match").strip() != "*"


def _tags(found: Content) -> dict[str, str]:
    return {"ETag": f'"{found.etag}"', "Last-Modified": formatdate(found.updated_at, usegmt=True)}


def _headers(found: Content) -> dict[str, str]:
    return {
        **_tags(found),
        **{META + name: value for name, value in found.words.items()},
        "Content-Type": found.content_type,
        "Accept-Ranges": "bytes",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-creation-time": formatdate(found.created_at, usegmt=True),
        "x-ms-lease-state": "available",
        "x-ms-lease-status": "unlocked",
        "x-ms-server-encrypted": "false",
    }


def _created(made: Content) -> Response:
    return Response(status_code=201, headers={**_tags(made), "x-ms-request-server-encrypted": "false"})


def _error(status: int, code: str, message: str) -> Response:
    return Response(
        blob_xml.error(code, message),
        status_code=status,
        headers={"x-ms-error-code": code},
        media_type="application/xml",
    )
