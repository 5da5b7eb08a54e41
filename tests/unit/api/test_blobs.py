"""Uploads and downloads over signed addresses: the verbs, and everything that can be wrong with a request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from moorings.assets import uploads as uploads_module

from .blob_requests import BLOCK, BOX, Api, ask, code_of, ids, join, left_over, names, put, put_block, signed

# --- verbs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "src/score.py", "sub%20dir/%C3%BC%20%231%20%2541%2B%26.txt"])
@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 9000])
async def test_what_was_put_is_got(api: Api, name: str, content: bytes) -> None:
    made = await put(api, f"{BOX}/{name}", content)
    assert made.status_code == 201 and made.headers["etag"] and made.headers["last-modified"]
    found = await ask(api, "GET", f"{BOX}/{name}")
    assert (found.status_code, found.content) == (200, content)
    head = await ask(api, "HEAD", f"{BOX}/{name}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(content))
    assert head.headers["x-ms-blob-type"] == "BlockBlob"
    assert head.headers["etag"] == found.headers["etag"] == made.headers["etag"]
    assert left_over(api) == ["data"]


@pytest.mark.parametrize("verb", ["GET", "HEAD"])
async def test_a_blob_that_is_not_there(api: Api, verb: str) -> None:
    answer = await ask(api, verb, f"{BOX}/nothing")
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (404, "BlobNotFound")
    assert code_of(await ask(api, "PUT", f"{BOX}/nothing", "&comp=metadata")) == "404 BlobNotFound"


@pytest.mark.parametrize(
    "range_, status, content, of",
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-33554431", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=9-9", 206, b"9", "bytes 9-9/10"),
        ("rows=1-2", 200, b"0123456789", None),
    ],
)
@pytest.mark.parametrize("header", ["x-ms-range", "Range"])
async def test_a_part_of_a_blob(
    api: Api, header: str, range_: str, status: int, content: bytes, of: str | None
) -> None:
    await put(api, f"{BOX}/a", b"0123456789")
    found = await ask(api, "GET", f"{BOX}/a", headers={header: range_})
    assert (found.status_code, found.content, found.headers.get("content-range")) == (status, content, of)


@pytest.mark.parametrize("range_", ["bytes=10-", "bytes=99-100", "bytes=5-2"])
async def test_a_part_that_is_not_there(api: Api, range_: str) -> None:
    await put(api, f"{BOX}/a", b"0123456789")
    assert code_of(await ask(api, "GET", f"{BOX}/a", headers={"x-ms-range": range_})) == "416 InvalidRange"


async def test_any_part_of_an_empty_blob_is_not_there(api: Api) -> None:
    """Clients ask for the first part, and on this answer for the whole."""
    await put(api, f"{BOX}/a", b"")
    assert (
        code_of(await ask(api, "GET", f"{BOX}/a", headers={"x-ms-range": "bytes=0-99"})) == "416 InvalidRange"
    )


async def test_a_download_in_parts_notices_that_the_blob_changed(api: Api) -> None:
    etag = (await put(api, f"{BOX}/a", b"one")).headers["etag"]
    assert (await ask(api, "GET", f"{BOX}/a", headers={"if-match": etag})).content == b"one"
    await put(api, f"{BOX}/a", b"two")
    assert code_of(await ask(api, "GET", f"{BOX}/a", headers={"if-match": etag})) == "412 ConditionNotMet"


async def test_a_blob_is_replaced_unless_the_client_says_not_to(api: Api) -> None:
    await put(api, f"{BOX}/a", b"one")
    refused = await put(api, f"{BOX}/a", b"two", **{"if-none-match": "*"})
    assert code_of(refused) == "409 BlobAlreadyExists"
    assert (await ask(api, "GET", f"{BOX}/a")).content == b"one"
    assert (await put(api, f"{BOX}/a", b"two")).status_code == 201
    assert (await ask(api, "GET", f"{BOX}/a")).content == b"two"
    assert left_over(api) == ["data"], "replaced and refused content is gone"
    assert (await put(api, f"{BOX}/b", b"new", **{"if-none-match": "*"})).status_code == 201


async def test_metadata_is_kept_and_replaced_as_a_whole(api: Api) -> None:
    await put(api, f"{BOX}/a", b"x", **{"x-ms-meta-first": "1"})
    assert (await ask(api, "HEAD", f"{BOX}/a")).headers["x-ms-meta-first"] == "1"
    marks = {"x-ms-meta-upload_status": "completed", "x-ms-meta-name": "n", "x-ms-meta-version": "1"}
    assert (await ask(api, "PUT", f"{BOX}/a", "&comp=metadata", headers=marks)).status_code == 200
    head = await ask(api, "HEAD", f"{BOX}/a")
    assert {k: v for k, v in head.headers.items() if k.startswith("x-ms-meta-")} == marks


@pytest.mark.parametrize(
    "name, value",
    [("x-ms-meta-a b", "1"), ("x-ms-meta-", "1"), ("x-ms-meta-1a", "1"), ("x-ms-meta-<a>", "1")],
)
async def test_metadata_that_no_listing_could_show_is_refused(api: Api, name: str, value: str) -> None:
    assert code_of(await put(api, f"{BOX}/a", b"x", **{name: value})) == "400 InvalidMetadata"


async def test_metadata_has_a_limit(api: Api) -> None:
    assert code_of(await put(api, f"{BOX}/a", b"x", **{"x-ms-meta-a": "x" * 9000})) == "400 MetadataTooLarge"


# --- blocks --------------------------------------------------------------------------------------------------


async def test_blocks_in_any_order_become_a_blob_in_the_order_of_their_list(api: Api) -> None:
    blocks = ids(5)
    for n in (3, 0, 4, 1, 2):
        assert (await put_block(api, f"{BOX}/a", blocks[n], bytes([n]) * 1000)).status_code == 201
    assert code_of(await ask(api, "GET", f"{BOX}/a")) == "404 BlobNotFound"
    assert (await join(api, f"{BOX}/a", blocks)).status_code == 201
    assert (await ask(api, "GET", f"{BOX}/a")).content == b"".join(bytes([n]) * 1000 for n in range(5))
    assert left_over(api) == ["data"], "the blocks are gone"


async def test_a_list_whose_answer_was_lost_is_answered_again(api: Api) -> None:
    blocks = ids(2)
    for block in blocks:
        await put_block(api, f"{BOX}/a", block, b"x")
    first = await join(api, f"{BOX}/a", blocks, **{"if-none-match": "*"})
    again = await join(api, f"{BOX}/a", blocks, **{"if-none-match": "*"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.headers["etag"] == again.headers["etag"]


async def test_a_block_that_was_not_sent(api: Api) -> None:
    await put_block(api, f"{BOX}/a", ids(1)[0], b"x")
    assert code_of(await join(api, f"{BOX}/a", ids(2))) == "400 InvalidBlockList"
    assert code_of(await ask(api, "GET", f"{BOX}/a")) == "404 BlobNotFound"
    assert (await join(api, f"{BOX}/a", ids(1))).status_code == 201, "what was sent is still there"


async def test_blocks_belong_to_one_blob(api: Api) -> None:
    await put_block(api, f"{BOX}/a", ids(1)[0], b"x")
    assert code_of(await join(api, f"{BOX}/b", ids(1))) == "400 InvalidBlockList"


async def test_a_list_does_not_replace_unless_the_client_lets_it(api: Api) -> None:
    await put(api, f"{BOX}/a", b"one")
    await put_block(api, f"{BOX}/a", ids(1)[0], b"two")
    assert code_of(await join(api, f"{BOX}/a", ids(1), **{"if-none-match": "*"})) == "409 BlobAlreadyExists"
    assert (await join(api, f"{BOX}/a", ids(1))).status_code == 201
    assert (await ask(api, "GET", f"{BOX}/a")).content == b"two"


async def test_no_blocks_are_an_empty_blob(api: Api) -> None:
    assert (await join(api, f"{BOX}/a", [])).status_code == 201
    assert (await ask(api, "GET", f"{BOX}/a")).content == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<BlockList>",
        b"<BlockList><Committed>YQ==</Committed></BlockList>",
        b"<BlockList><Latest>../../x</Latest></BlockList>",
        b"<BlockList><Latest>YQ==</Uncommitted></BlockList>",
        b"<BlockList><Latest>a b</Latest></BlockList>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><BlockList><Latest>&a;</Latest></BlockList>',
        b"\xff\xfe",
        b"<BlockList><Latest>YQ==</Latest>text</BlockList>",
    ],
)
async def test_what_is_no_list_of_blocks(api: Api, body: bytes) -> None:
    answer = await ask(api, "PUT", f"{BOX}/a", "&comp=blocklist", content=body)
    assert code_of(answer) == "400 InvalidXmlDocument"


@pytest.mark.parametrize("block", ["", "..%2F..%2Fx", "a%20b", "x" * 200])
async def test_block_ids_that_cannot_be(api: Api, block: str) -> None:
    answer = await ask(api, "PUT", f"{BOX}/a", f"&comp=block&blockid={block}", content=b"x")
    assert code_of(answer) == "400 InvalidQueryParameterValue"


# --- lists ---------------------------------------------------------------------------------------------------


async def listed(api: Api, extra: str) -> tuple[list[str], list[str], str]:
    answer = await ask(api, "GET", BOX, f"&restype=container&comp=list{extra}")
    assert answer.status_code == 200, answer.text
    return names(answer)


async def test_lists_by_prefix_and_by_folder(api: Api) -> None:
    for name in ("a/1", "a/2", "a/b/3", "ab", "c", "%C3%BC"):
        await put(api, f"{BOX}/{name}")
    assert await listed(api, "") == (["a/1", "a/2", "a/b/3", "ab", "c", "ü"], [], "")
    assert await listed(api, "&prefix=a/") == (["a/1", "a/2", "a/b/3"], [], "")
    assert await listed(api, "&prefix=a/&delimiter=/") == (["a/1", "a/2"], ["a/b/"], "")
    assert await listed(api, "&delimiter=/") == (["ab", "c", "ü"], ["a/"], "")
    assert await listed(api, "&prefix=none") == ([], [], "")


async def test_a_list_in_pages_misses_nothing_and_repeats_nothing(api: Api) -> None:
    wanted = [f"d{n % 3}/{n:02}" for n in range(20)] + ["last"]
    for name in wanted:
        await put(api, f"{BOX}/{name}")
    for extra, expected in (("", sorted(wanted)), ("&delimiter=/", ["d0/", "d1/", "d2/", "last"])):
        found: list[str] = []
        marker = ""
        for _ in range(40):
            blobs, folders, marker = await listed(api, f"{extra}&maxresults=4&marker={marker}")
            found += sorted([*blobs, *folders])
            if not marker:
                break
        assert found == expected


async def test_names_and_metadata_are_escaped_in_lists(api: Api) -> None:
    await put(api, f"{BOX}/%3CBlob%3E%26%22'", **{"x-ms-meta-a": "<&>"})
    answer = await ask(api, "GET", BOX, "&restype=container&comp=list&include=metadata")
    assert "<Name>&lt;Blob&gt;&amp;&quot;" in answer.text and "<a>&lt;&amp;&gt;</a>" in answer.text
    plain = await ask(api, "GET", BOX, "&restype=container&comp=list")
    assert "<Metadata>" not in plain.text


@pytest.mark.parametrize(
    "extra", ["&maxresults=0", "&maxresults=x", "&maxresults=-1", "&marker=%ff", "&marker=***"]
)
async def test_lists_that_cannot_be(api: Api, extra: str) -> None:
    answer = await ask(api, "GET", BOX, f"&restype=container&comp=list{extra}")
    assert answer.status_code == 400 and answer.headers["x-ms-error-code"]


# --- who may -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb, extra", [("GET", ""), ("HEAD", ""), ("PUT", ""), ("PUT", "&comp=metadata"), ("DELETE", "")]
)
async def test_nothing_is_done_without_a_signature(api: Api, verb: str, extra: str) -> None:
    await put(api, f"{BOX}/a", b"one")
    answer = await ask(
        api, verb, f"{BOX}/a", extra, query="x=1", content=b"two" if verb == "PUT" else None, headers=BLOCK
    )
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")
    assert (await ask(api, "GET", f"{BOX}/a")).content == b"one"


async def test_a_signature_ends(api: Api) -> None:
    await put(api, f"{BOX}/a")
    query = signed(api)
    assert (await ask(api, "GET", f"{BOX}/a", query=query)).status_code == 200
    api.clock.advance(3601)
    answer = await ask(api, "GET", f"{BOX}/a", query=query)
    assert code_of(answer) == "403 AuthenticationFailed" and "ended" in answer.text


async def test_a_signature_covers_its_container_alone(api: Api) -> None:
    await put(api, "/blob/moorings/other/a", b"theirs")
    query = signed(api, "box")
    for path in (
        "/blob/moorings/other/a",
        "/blob/moorings/box/%2e%2e/other/a",
        "/blob/moorings/box/../other/a",
    ):
        answer = await ask(api, "GET", path, query=query)
        assert answer.status_code in (403, 404) and b"theirs" not in answer.content
    assert code_of(await ask(api, "GET", "/blob/moorings/other/a", query=query)) == "403 AuthenticationFailed"


async def test_a_signature_to_read_does_not_write_or_list(api: Api) -> None:
    query = signed(api, rights="r")
    assert (
        code_of(await ask(api, "PUT", f"{BOX}/a", query=query, content=b"x", headers=BLOCK))
        == "403 AuthenticationFailed"
    )
    answer = await ask(api, "GET", BOX, "&restype=container&comp=list", query=query)
    assert code_of(answer) == "403 AuthenticationFailed"


async def test_parts_of_the_query_given_twice_are_refused(api: Api) -> None:
    answer = await ask(api, "GET", f"{BOX}/a", "&sp=racwl")
    assert code_of(answer) == "400 InvalidQueryParameterValue"


async def test_a_bearer_token_is_no_signature(api: Api) -> None:
    from moorings.security.access import issue

    token = issue(api.listener.keys(), "x", api.clock.now()).text
    answer = await ask(api, "GET", f"{BOX}/a", query="", headers={"authorization": f"Bearer {token}"})
    assert code_of(answer) == "403 AuthenticationFailed"


# --- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "%2e%2e/a",
        "a/%2e%2e/b",
        "a//b",
        "/a",
        "a/",
        "%00",
        "a%0Ab",
        "a%7F",
        "%ED%A0%80",
        "%FF",
        "x" * 300,
        "a/" * 600 + "a",
    ],
)
async def test_names_that_no_disk_could_hold_are_refused(api: Api, name: str) -> None:
    answer = await put(api, f"{BOX}/{name}")
    assert answer.status_code in (400, 404), answer.text
    with api.database.read() as tx:
        assert tx.blobs("box", "") == []
    assert left_over(api) == []


@pytest.mark.parametrize("container", ["..", "%2e%2e", "a", "A-b", "b_x", "%00%00%00", "x" * 64])
async def test_containers_that_cannot_be(api: Api, container: str) -> None:
    url = f"/blob/moorings/{container}/a"
    assert (
        await ask(api, "PUT", url, query=signed(api, container), content=b"x", headers=BLOCK)
    ).status_code == 404


@pytest.mark.parametrize("digest", ["", "AAAA", base64.b64encode(hashlib.md5(b"other").digest()).decode()])
async def test_content_that_is_not_what_its_digest_says(api: Api, digest: str) -> None:
    answer = await put(api, f"{BOX}/a", b"content", **{"content-md5": digest})
    if digest:
        assert code_of(answer) == "400 Md5Mismatch" and left_over(api) == []
    else:
        assert answer.status_code == 201


async def test_content_that_is_what_its_digest_says(api: Api) -> None:
    digest = base64.b64encode(hashlib.md5(b"content").digest()).decode()
    assert (await put(api, f"{BOX}/a", b"content", **{"content-md5": digest})).status_code == 201


@pytest.mark.parametrize("announced", ["8", "1000000", "3"])
async def test_a_length_that_lies(api: Api, announced: str) -> None:
    answer = await put(api, f"{BOX}/a", b"content", **{"content-length": announced})
    assert code_of(answer) == "400 IncompleteBody" and "7 bytes" in answer.text
    assert left_over(api) == []
    assert code_of(await ask(api, "GET", f"{BOX}/a")) == "404 BlobNotFound"


@pytest.mark.parametrize("announced", ["", "-1", "1e3", "１", "x"])
async def test_a_length_that_is_none(api: Api, announced: str) -> None:
    headers = {**BLOCK, "content-length": announced.encode()}
    answer = await ask(api, "PUT", f"{BOX}/a", content=b"content", headers=headers)
    assert code_of(answer) == "411 MissingContentLengthHeader"


async def test_an_upload_without_a_length(api: Api) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"content"

    answer = await ask(api, "PUT", f"{BOX}/a", content=pieces(), headers=BLOCK)
    assert code_of(answer) == "411 MissingContentLengthHeader"


async def test_an_upload_that_cannot_fit_is_refused_before_it_is_read(api: Api) -> None:
    answer = await put(api, f"{BOX}/a", b"content", **{"content-length": str(10**18)})
    assert code_of(answer) == "413 AssetStoreFull" and "df -h" in answer.text
    assert left_over(api) == []


async def test_an_upload_that_stops_in_the_middle_leaves_nothing(api: Api) -> None:
    """The connection ends: nobody is there to be answered."""
    sent: list[Any] = []
    messages = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"{BOX}/a"
    scope = {
        "type": "http",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "query_string": signed(api).encode(),
        "headers": [(b"content-length", b"8"), (b"x-ms-blob-type", b"BlockBlob")],
    }
    await api.door(scope, receive, send)
    assert sent == [] and left_over(api) == []
    assert code_of(await ask(api, "GET", path)) == "404 BlobNotFound"


async def test_an_upload_that_sends_nothing_more_is_given_up(api: Api) -> None:
    import asyncio

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.sleep(5)
        yield b"rest"

    answer = await ask(api, "PUT", f"{BOX}/a", content=pieces(), headers={**BLOCK, "content-length": "8"})
    assert code_of(answer) == "400 RequestBodyIncomplete" and left_over(api) == []


@pytest.mark.parametrize("kind", ["", "PageBlob", "AppendBlob"])
async def test_kinds_of_blobs_that_are_not_served(api: Api, kind: str) -> None:
    answer = await ask(api, "PUT", f"{BOX}/a", content=b"", headers={"x-ms-blob-type": kind})
    assert code_of(answer) == "400 InvalidHeaderValue"


async def test_nothing_is_fetched_from_elsewhere(api: Api) -> None:
    answer = await put(api, f"{BOX}/a", b"", **{"x-ms-copy-source": "https://example.invalid/x"})
    assert code_of(answer) == "400 InvalidHeaderValue"


@pytest.mark.parametrize(
    "verb, path, extra",
    [
        ("DELETE", f"{BOX}/a", ""),
        ("PUT", BOX, "&restype=container"),
        ("PUT", f"{BOX}/a", "&comp=page"),
        ("POST", f"{BOX}/a", ""),
    ],
)
async def test_verbs_that_are_not_served(api: Api, verb: str, path: str, extra: str) -> None:
    assert code_of(await ask(api, verb, path, extra)) == "405 UnsupportedHttpVerb"


async def test_a_full_disk_is_told_once_and_leaves_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads_module.os, "write", full)
    answer = await put(api, f"{BOX}/a", b"content")
    monkeypatch.undo()
    assert code_of(answer) == "413 AssetStoreFull", "a 5xx would be sent again and again"
    assert left_over(api) == []
    assert (await put(api, f"{BOX}/a", b"content")).status_code == 201


async def test_a_defect_is_an_answer_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(api.blobs), "find", lambda *_: 1 / 0)
    answer = await ask(api, "GET", f"{BOX}/a")
    assert code_of(answer) == "500 InternalError" and "ZeroDivision" not in answer.text
