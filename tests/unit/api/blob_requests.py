"""Requests to the uploads of a served app, as clients of blobs make them, and what their answers say."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx

from moorings.security.access import ALL_RIGHTS, signed_query

Api = Any
BOX = "/blob/moorings/box"
BLOCK = {"x-ms-blob-type": "BlockBlob"}
STORE = "/blob/moorings.blob.core.windows.net/azureml-blobstore"


def signed(api: Api, container: str = "box", *, rights: str = ALL_RIGHTS, hours: float = 1.0) -> str:
    ends = api.clock.now() + hours * 3600
    return signed_query(api.listener.keys(), container, rights=rights, expires_at=ends)


async def ask(api: Api, verb: str, path: str, extra: str = "", **more: Any) -> httpx.Response:
    """A request to a path, signed for its container."""
    query = more.pop("query", None)
    if query is None:
        query = signed(api, path.split("/")[3])
    url = httpx.URL("https://localhost:8443").copy_with(raw_path=f"{path}?{query}{extra}".encode())
    return await api.outside.request(verb, url, **more)


async def put(api: Api, path: str, content: bytes = b"content", **headers: str) -> httpx.Response:
    return await ask(api, "PUT", path, content=content, headers={**BLOCK, **headers})


def code_of(answer: httpx.Response) -> str:
    found = re.search("<Code>(.*)</Code>", answer.text)
    code = found[1] if found else answer.headers.get("x-ms-error-code", "")
    assert answer.headers["x-ms-error-code"] == code
    assert "retry-after" not in answer.headers
    return f"{answer.status_code} {code}"


def left_over(api: Api) -> list[str]:
    """Files of the store of uploads."""
    root = api.folder / "uploads"
    return sorted(str(p.relative_to(root)).split("/")[0] for p in root.rglob("*") if p.is_file())


def ids(count: int) -> list[str]:
    return [base64.b64encode(f"{n:08}".encode()).decode() for n in range(count)]


def block_list(blocks: list[str]) -> bytes:
    inner = "".join(f"<Latest>{block}</Latest>" for block in blocks)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<BlockList>{inner}</BlockList>'.encode()


async def put_block(api: Api, path: str, block: str, content: bytes) -> httpx.Response:
    quoted = str(httpx.QueryParams({"comp": "block", "blockid": block}))
    return await ask(api, "PUT", path, f"&{quoted}", content=content)


async def join(api: Api, path: str, blocks: list[str], **headers: str) -> httpx.Response:
    return await ask(api, "PUT", path, "&comp=blocklist", content=block_list(blocks), headers=headers)


def names(answer: httpx.Response) -> tuple[list[str], list[str], str]:
    blobs = re.findall(r"<Blob><Name>(.*?)</Name>", answer.text)
    folders = re.findall(r"<BlobPrefix><Name>(.*?)</Name>", answer.text)
    marker = re.search("<NextMarker>(.*)</NextMarker>", answer.text)
    assert marker is not None
    return blobs, folders, marker[1]
