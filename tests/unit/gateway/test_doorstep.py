"""What Envoy is told of a caller who is carried to it."""

from __future__ import annotations

import pytest

from moorings.gateway.doorstep import proxy_line


@pytest.mark.parametrize(
    ("peer", "own", "line"),
    [
        (("192.0.2.7", 50001), ("127.0.0.1", 8650), b"PROXY TCP4 192.0.2.7 127.0.0.1 50001 8650\r\n"),
        (("2001:db8::7", 50001, 0, 0), ("::1", 8650, 0, 0), b"PROXY TCP6 2001:db8::7 ::1 50001 8650\r\n"),
        (("fe80::7%eth0", 5, 0, 2), ("fe80::1%eth0", 8650, 0, 2), b"PROXY TCP6 fe80::7 fe80::1 5 8650\r\n"),
    ],
)
def test_a_caller_is_named_by_address_and_port(
    peer: tuple[object, ...], own: tuple[object, ...], line: bytes
) -> None:
    assert proxy_line(peer, own) == line
