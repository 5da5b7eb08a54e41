"""Sealed streams: what was written comes back, and nothing else does."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorings.backup import sealed
from moorings.backup.sealed import MAGIC, Opener, Sealer, SealError


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses may be cheap here, and chunks small."""
    monkeypatch.setattr(sealed, "_COST", 2)
    monkeypatch.setattr(sealed, "CHUNK_BYTES", 64)


def seal(*pieces: bytes, passphrase: str = "pass") -> bytes:
    sink = io.BytesIO()
    sealer = Sealer(sink, passphrase)
    for piece in pieces:
        sealer.write(piece)
    sealer.finish()
    return sink.getvalue()


def opened(data: bytes, passphrase: str = "pass") -> bytes:
    return Opener(io.BytesIO(data), passphrase).read()


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_what_was_written_comes_back(pieces: list[bytes]) -> None:
    data = seal(*pieces)
    assert opened(data) == b"".join(pieces)


def test_nothing_of_it_can_be_read_without_the_passphrase() -> None:
    secret = b"a model of great worth" * 20
    data = seal(secret)
    assert secret[:22] not in data
    assert data != seal(secret)  # each has a salt of its own
    with pytest.raises(SealError, match="passphrase"):
        opened(data, "Pass")


def test_every_changed_byte_is_noticed() -> None:
    data = seal(b"x" * 150)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(SealError):
            opened(bytes(changed))


def test_a_shorter_or_longer_one_is_noticed() -> None:
    data = seal(b"x" * 150)
    for length in range(len(data)):
        with pytest.raises(SealError):
            opened(data[:length])
    with pytest.raises(SealError):
        opened(data + b"x")


def test_chunks_in_another_order_or_left_out_are_noticed() -> None:
    data = seal(b"x" * 150)
    start = data.index(b"\n", len(MAGIC)) + 1
    chunks = []
    while start < len(data):
        (size,) = struct.unpack(">I", data[start : start + 4])
        chunks.append(data[start : start + 4 + size])
        start += 4 + size
    head = data[: len(data) - sum(map(len, chunks))]
    assert len(chunks) == 3 and opened(head + b"".join(chunks)) == b"x" * 150
    for order in ((1, 0, 2), (0, 2), (1, 2), (2,), (0, 1)):
        with pytest.raises(SealError):
            opened(head + b"".join(chunks[n] for n in order))


def test_one_that_was_not_finished_does_not_open() -> None:
    sink = io.BytesIO()
    sealer = Sealer(sink, "pass")
    sealer.write(b"x" * 200)
    sealer.close()
    with pytest.raises(SealError):
        opened(sink.getvalue())


@pytest.mark.parametrize(
    "head",
    [
        b'{"kdf": "scrypt", "n": 1099511627776, "salt": "00"}',
        b"{}",
        b"[]",
        b'{"kdf": "none", "n": 2, "salt": ""}',
    ],
)
def test_a_head_that_would_cost_too_much_or_says_nothing_is_refused(head: bytes) -> None:
    with pytest.raises(SealError):
        opened(MAGIC + head + b"\n")
