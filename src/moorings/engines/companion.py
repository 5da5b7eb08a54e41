"""The container beside one that brings a server of its own: it holds the network both are in, and serves there, on
loopback, the tokens of the instance's identity (`metadata.py`). Nobody else reaches that address.

Usage: python companion.py FOLDER. The folder has `private.json` (`identity`, `header`, `port`); `status.json` appears in it
when tokens can be asked for. The network lasts as long as the first process of the container: so that one only keeps the
one that serves alive, whatever becomes of it. Standard library, and no more of it than has to be packed (`runtime.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
from pathlib import Path
from typing import Any

from moorings.engines import layout
from moorings.engines.metadata import Connection, Metadata
from moorings.lib import atomic

LONGEST_SLEEP_S = 30.0
AGAIN_AFTER_S = 1.0


def serve(folder: Path) -> None:
    """Until killed. Raises OSError when the port is taken, ValueError and KeyError for a folder that is not right."""
    told = json.loads((folder / layout.PRIVATE).read_bytes())
    selector = selectors.DefaultSelector()
    metadata = Metadata(selector, told["identity"], header=told["header"], port=told["port"])
    atomic.write(folder / layout.STATUS, json.dumps({"ready": True}).encode(), mode=0o644)
    while True:
        now = time.monotonic()
        due = metadata.expire(now)
        for key, _ in selector.select(LONGEST_SLEEP_S if due is None else max(0.0, due - now)):
            if isinstance(key.data, (Metadata, Connection)):
                key.data.step()


def main(argv: list[str]) -> int:
    folder = Path(argv[0])
    serving = 0

    def end(_signal: int, _frame: Any) -> None:
        if serving:
            with contextlib.suppress(OSError):
                os.kill(serving, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        serving = os.fork()
        if serving == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                serve(folder)
            except Exception as problem:  # noqa: BLE001 - process boundary: it is begun again
                sys.stderr.write(f"no tokens for the identity: {type(problem).__name__}: {problem}\n")
                sys.stderr.flush()
            os._exit(1)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(serving, 0)
        serving = 0
        time.sleep(AGAIN_AFTER_S)
