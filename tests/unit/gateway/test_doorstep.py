"""How the system's table of sockets is read."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from moorings.gateway import doorstep

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = HEAD + "".join(
    f"   {n}: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"
    for n, (local, remote, state) in enumerate(
        [
            ("0100007F:21CA", "00000000:0000", "0A"),
            ("0100007F:21CA", "00000000:0000", "0A"),
            ("0100007F:21CA", "0100007F:9999", "01"),
            ("0500A8C0:21CA", "00000000:0000", "0A"),
            ("0100007F:21CB", "00000000:0000", "0A"),
        ]
    )
)
TCP6 = HEAD + (
    "   0: 00000000000000000000000001000000:21CA 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1\n"
)


@pytest.mark.parametrize(
    ("bind", "port", "count"),
    [
        ("127.0.0.1", 8650, 2),
        ("127.0.0.1", 8651, 1),
        ("192.168.0.5", 8650, 1),
        ("0.0.0.0", 8650, 0),
        ("::1", 8650, 1),
    ],
)
def test_only_who_listens_at_that_very_place_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bind: str, port: int, count: int
) -> None:
    tables = {socket.AF_INET: tmp_path / "tcp", socket.AF_INET6: tmp_path / "tcp6"}
    tables[socket.AF_INET].write_text(TCP)
    tables[socket.AF_INET6].write_text(TCP6)
    monkeypatch.setattr(doorstep, "_TABLES", tables)
    assert doorstep.listening(bind, port) == count


def test_a_machine_that_does_not_hand_on_has_no_doorstep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "tcp_migrate_req"
    monkeypatch.setattr(doorstep, "_SETTING", setting)
    assert not doorstep.possible()
    for text, possible in (("0\n", False), ("1\n", True)):
        setting.write_text(text)
        assert doorstep.possible() is possible
