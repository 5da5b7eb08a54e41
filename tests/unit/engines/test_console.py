"""The log of an instance that is a container: our own output, which somebody reads, slowly or not at all."""

from __future__ import annotations

import os
import threading
import time

import pytest

from moorings.engines import output
from moorings.engines.output import Console


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PATIENCE_S", 0.05)


def test_what_nobody_reads_is_dropped_and_counted() -> None:
    reader, writer = os.pipe()
    console = Console(writer)
    began = time.monotonic()
    for _ in range(20):
        console.write(b"x" * 10_000)
    assert time.monotonic() - began < 1.0, "one wait, not one for each write"
    held = 0
    os.set_blocking(reader, False)
    while held < 60_000:
        held += len(os.read(reader, 100_000))
    console.write(b"again\n")
    said = os.read(reader, 100_000)
    assert said.endswith(b"bytes of output were lost\nagain\n")
    lost = int(said.split(b"moorings: ")[1].split(b" ")[0])
    assert held + lost == 200_000
    os.close(reader)
    os.close(writer)


def test_a_slow_reader_gets_everything() -> None:
    reader, writer = os.pipe()
    got: list[bytes] = []

    def read() -> None:
        while data := os.read(reader, 4096):
            got.append(data)
            time.sleep(0.0005)

    thread = threading.Thread(target=read)
    thread.start()
    console = Console(writer)
    for n in range(200):
        console.write(f"{n:05d}".encode() * 400)
    os.close(writer)
    thread.join(20)
    assert b"".join(got) == b"".join(f"{n:05d}".encode() * 400 for n in range(200))
    os.close(reader)
