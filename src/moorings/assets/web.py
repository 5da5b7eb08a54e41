"""One file behind an https address: its size before it is read, then its content in pieces. Follows redirects, but never to
an address without TLS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from moorings.assets.copying import Taken, Tell, write_hashed
from moorings.assets.sources import WebFile
from moorings.assets.store import RemoteFile, RemoteTree
from moorings.assets.tree import unsafe_path
from moorings.errors.exceptions import MooringsError, error

if TYPE_CHECKING:
    import httpx

MOST_REDIRECTS = 5
READ_ATTEMPTS = 3
TIMEOUT_S = 60.0
CHUNK_BYTES = 4 << 20
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def remote_file(found: WebFile) -> RemoteTree:
    """The file that the address names, with its size where the server tells it.

    Raises `ArtifactsMissing`, `ArtifactsRefused` (the user's fault), `ArtifactsUnreachable`.
    """
    name = unquote(PurePosixPath(urlsplit(found.url).path).name)
    if unsafe_path(name):
        raise error(
            "AssetPathUnsafe",
            f"{found.shown}: {name!r} cannot be the name of a file",
            target=found.shown,
            fields={"address": found.shown},
        )
    with _answered(found) as answer:
        size_bytes = _length(answer) or 0

    def copy(place: Path, tell: Tell) -> Taken | None:
        return _copy(found, place, tell)

    return RemoteTree(found.shown, name, is_file=True, files=(RemoteFile(name, size_bytes, copy),))


def _copy(found: WebFile, place: Path, tell: Tell) -> Taken:
    import httpx

    for attempt in range(1, READ_ATTEMPTS + 1):
        told = 0

        def note(count: int) -> None:
            nonlocal told
            told += count
            tell(count)

        try:
            with _answered(found) as answer:
                sha256, size_bytes = write_hashed(answer.iter_bytes(CHUNK_BYTES), place, note)
        except httpx.HTTPError as problem:
            tell(-told)
            place.unlink(missing_ok=True)
            if attempt == READ_ATTEMPTS:
                raise _unreachable(found, f"after {told} bytes, {attempt} times: {problem}") from None
        else:
            return Taken(sha256, size_bytes, executable=False)
    raise AssertionError("the last attempt returns or raises")


@contextlib.contextmanager
def _answered(found: WebFile) -> Iterator[httpx.Response]:
    """The final answer, its body not read yet."""
    import httpx

    url = httpx.URL(found.url)
    # Compressed answers would have another length than they say.
    headers = {"accept-encoding": "identity", "accept": "*/*"}
    with httpx.Client(timeout=TIMEOUT_S, headers=headers) as client:
        for _ in range(MOST_REDIRECTS + 1):
            try:
                answer = client.send(client.build_request("GET", url), stream=True)
            except httpx.HTTPError as problem:
                raise _unreachable(found, f"{type(problem).__name__}: {problem}") from None
            try:
                if answer.has_redirect_location and answer.next_request is not None:
                    url = answer.next_request.url
                    if url.scheme != "https" and url.host not in _LOOPBACK:
                        raise _unreachable(
                            found, f"redirected to {url.scheme}://{url.host}, which has no TLS"
                        )
                    continue
                _check(found, answer)
                yield answer
                return
            finally:
                answer.close()
    raise _unreachable(found, f"more than {MOST_REDIRECTS} redirects")


def _check(found: WebFile, answer: httpx.Response) -> None:
    status = answer.status_code
    evidence = (f"HTTP {status} {answer.reason_phrase}",)
    fields = {"address": found.shown}
    if status in (401, 403, 407):
        raise error(
            "ArtifactsRefused",
            f"{found.shown}: access is refused",
            target=found.shown,
            evidence=evidence,
            fields=fields,
        )
    if status in (404, 410):
        raise error(
            "ArtifactsMissing",
            f"there is nothing at {found.shown}",
            target=found.shown,
            evidence=evidence,
            fields=fields,
        )
    if status != 200:
        raise _unreachable(found, evidence[0])


def _length(answer: httpx.Response) -> int | None:
    text = answer.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _unreachable(found: WebFile, why: str) -> MooringsError:
    return error(
        "ArtifactsUnreachable",
        f"{found.shown} cannot be fetched",
        target=found.shown,
        evidence=(why.replace(found.url, found.shown),),
        fields={"address": found.shown},
    )
