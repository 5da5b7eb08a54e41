"""One request in the gateway's access log, found by its id. Reads files backwards; must not know who writes them."""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MOST_FOUND = 100
"""Requests that one client id may name."""


def requests_of(log: Path, owner: str, request_id: str) -> Iterator[Mapping[str, Any]]:
    """The entries of `<endpoint>/<deployment>` with this `x-request-id` or `x-ms-client-request-id`, the newest first.

    Those that were refused before a deployment was chosen are given as well, when their endpoint is this one.
    """
    endpoint, _, deployment = owner.partition("/")
    found = 0
    for path in (log, log.with_name(f"{log.name}.1")):
        for raw in _lines_with(path, request_id.encode()):
            with contextlib.suppress(ValueError):
                entry = json.loads(raw)
                ids = (entry.get("request_id"), entry.get("client_request_id"))
                ours = entry.get("endpoint") == endpoint and entry.get("deployment") in (
                    deployment,
                    None,
                    "",
                    "-",
                )
                if request_id in ids and ours:
                    yield entry
                    found += 1
                    if found >= MOST_FOUND:
                        return


def described(entry: Mapping[str, Any]) -> str:
    """What an entry says of its request, in the manner of the server's own lines."""
    said = f"{entry.get('method')} {entry.get('path')} {entry.get('code')} {entry.get('total_ms')}ms"
    if entry.get("model_code"):
        said += f", the model answered {entry['model_code']}"
    why = entry.get("details")
    if why and why != "via_upstream":
        said += f" ({why})"
    said += f" request_id={entry.get('request_id')}"
    client = entry.get("client_request_id")
    return f"{said} client_request_id={client}" if client else said


def _lines_with(path: Path, needle: bytes) -> Iterator[bytes]:
    """Whole lines that hold `needle`, from the last on, without reading the file into memory."""
    try:
        handle = path.open("rb")
    except OSError:
        return
    with handle:
        try:
            data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            return
        with data:
            end = len(data)
            while needle and (at := data.rfind(needle, 0, end)) >= 0:
                begin = data.rfind(b"\n", 0, at) + 1
                stop = data.find(b"\n", at)
                yield data[begin : stop if stop >= 0 else len(data)]
                end = begin
