"""A stream that only a passphrase opens, and that cannot be changed, cut short or put together anew unnoticed.

`MOORINGS BACKUP 1`, a line of JSON with what the key is made with, then chunks: 4 bytes of length, and AES-256-GCM of up to
1 MiB. The nonce counts the chunks and marks the last one; the first two lines are authenticated with every chunk.
"""

from __future__ import annotations

import io
import json
import os
import struct
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MAGIC = b"MOORINGS BACKUP 1\n"
CHUNK_BYTES = 1 << 20
_TAG_BYTES = 16
_HEAD_BYTES = 4096
_COST, _LARGEST_COST = 1 << 16, 1 << 18
"""scrypt's n, with r = 8 and p = 1: 64 MiB and a few tenths of a second for each guess."""


class SealError(ValueError):
    """It is no backup, it is damaged, or the passphrase is another."""


class Sealer(io.RawIOBase):
    """Write to it, then `finish`; closing alone leaves a stream that does not open."""

    def __init__(self, target: IO[bytes], passphrase: str) -> None:
        super().__init__()
        head = {"kdf": "scrypt", "n": _COST, "salt": os.urandom(16).hex()}
        self._head = MAGIC + json.dumps(head).encode() + b"\n"
        self._cipher = AESGCM(_key(passphrase, head["salt"], _COST))  # type: ignore[arg-type]
        self._target = target
        self._pending = bytearray()
        self._number = 0
        target.write(self._head)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pending += data
        while len(self._pending) > CHUNK_BYTES:  # the last chunk is never empty-handed of its mark
            self._chunk(bytes(self._pending[:CHUNK_BYTES]), last=False)
            del self._pending[:CHUNK_BYTES]
        return len(data)

    def finish(self) -> None:
        self._chunk(bytes(self._pending), last=True)
        self._pending.clear()

    def _chunk(self, data: bytes, *, last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, last), data, self._head)
        self._target.write(struct.pack(">I", len(sealed)) + sealed)
        self._number += 1


class Opener(io.RawIOBase):
    """Reads what a `Sealer` has written; every byte is checked before it is handed out. Raises `SealError`."""

    def __init__(self, source: IO[bytes], passphrase: str) -> None:
        super().__init__()
        if source.read(len(MAGIC)) != MAGIC:
            raise SealError("it is no backup of a workspace")
        line = source.readline(_HEAD_BYTES)
        try:
            head = json.loads(line)
            cost, salt = int(head["n"]), str(head["salt"])
            if head["kdf"] != "scrypt" or cost & (cost - 1) or not 1 < cost <= _LARGEST_COST:
                raise ValueError(head["kdf"])
            self._cipher = AESGCM(_key(passphrase, salt, cost))
        except (ValueError, KeyError, TypeError):
            raise SealError("its first lines are damaged") from None
        self._head = MAGIC + line
        self._source = source
        self._ready = b""
        self._number = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, target: bytearray) -> int:  # type: ignore[override]
        while not self._ready and not self._ended:
            self._ready = self._chunk()
        taken = min(len(target), len(self._ready))
        target[:taken], self._ready = self._ready[:taken], self._ready[taken:]
        return taken

    def _chunk(self) -> bytes:
        length = self._source.read(4)
        if len(length) != 4:
            raise SealError("its end is missing")
        (size,) = struct.unpack(">I", length)
        if not _TAG_BYTES <= size <= CHUNK_BYTES + _TAG_BYTES:
            raise SealError("it is damaged")
        sealed = self._source.read(size)
        if len(sealed) != size:
            raise SealError("its end is missing")
        for last in (False, True):
            try:
                data = self._cipher.decrypt(_nonce(self._number, last), sealed, self._head)
            except InvalidTag:
                continue
            self._number += 1
            self._ended = last
            if last and self._source.read(1):
                raise SealError("something follows its end")
            return data
        why = "the passphrase is another, or it is damaged" if self._number == 0 else "it is damaged"
        raise SealError(why)


def _nonce(number: int, last: bool) -> bytes:
    return struct.pack(">QI", number, int(last))


def _key(passphrase: str, salt: str, cost: int) -> bytes:
    return Scrypt(salt=bytes.fromhex(salt), length=32, n=cost, r=8, p=1).derive(passphrase.encode())
