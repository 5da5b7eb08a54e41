"""A unix socket is removed by the one that made it, and not in place of another's."""

from __future__ import annotations

import contextlib
from pathlib import Path

from moorings.lib import sockets


def test_a_socket_that_another_one_has_replaced_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with contextlib.closing(sockets.listen(path)):
        first = sockets.number(path)
        with contextlib.closing(sockets.listen(path)):
            sockets.remove(path, first)
            assert path.is_socket()
            sockets.remove(path, sockets.number(path))
            assert not path.exists()
            sockets.remove(path, first)
