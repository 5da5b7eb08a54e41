"""What all connections of one worker share: the gate, the documents, the log, and the parts of answers that never
change.

Knows no connection's state and nothing of scripts.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Callable, Optional, Set, Tuple

from moorings_server.cors import Cors
from moorings_server.inputs import Prepare
from moorings_server.kept import KEEP_S, KeptAnswers
from moorings_server.logs import Log
from moorings_server.results import plain_head
from moorings_server.swagger import SwaggerDocuments
from moorings_server.wire import COLLECT, COMPARE, JSON_TYPE, RequestIds, version_line

BODY_LIMIT_BYTES = 100 * 1024 * 1024
FRAMING = frozenset((b"content-length", b"transfer-encoding"))
WATCHED = FRAMING | {
    b"expect",
    b"upgrade",
    b"x-request-id",
    b"x-ms-client-request-id",
    b"x-ms-request-id",
    b"traceid",
    COMPARE,
    COLLECT,
}
CORS_HEADERS = frozenset((b"origin", b"access-control-request-method", b"access-control-request-headers"))


class Service:
    """`gate.submit` takes requests; `prepare` makes what `run()` gets of one; `on_drained` is called once, when a
    drain has begun and no connection and no work is left.

    `wants_headers`: run() has a parameter `request_headers`; `raw`: it takes the request itself; `wants_type`:
    `prepare` needs the content type; `routes`: paths besides /score that `run()` answers.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        new_parser: Callable[[Any], Any],
        swagger: SwaggerDocuments,
        log: Log,
        prepare: Prepare,
        *,
        wants_headers: bool,
        version_header: bool,
        raw: bool = False,
        routes: Tuple[bytes, ...] = (),
        wants_type: bool = False,
        cors: Optional[Cors] = None,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
    ) -> None:
        self.loop = loop
        self.new_parser = new_parser
        self.swagger = swagger
        self.log = log
        self.prepare = prepare
        self.wants_headers = wants_headers
        self.raw = raw
        self.routes = routes
        self.keeps_headers = wants_headers or raw
        self.cors = cors
        self.watched = WATCHED | (CORS_HEADERS if cors is not None else set())
        if wants_type:
            self.watched |= {b"content-type"}
        self.version = version_line(version_header)
        self.body_limit_bytes = body_limit_bytes
        self.new_id = RequestIds().new
        self.connections: Set[Any] = set()
        self.closing = False
        self.draining = False
        self.arriving = 0
        self.kept: Optional[KeptAnswers] = None
        """There only while requests ask for it."""
        self.gate: Any = None
        self.on_drained: Callable[[], None] = lambda: None
        self.is_hung: Callable[[], bool] = lambda: False
        """Whether probes are to be told that nothing can begin here."""
        self.good_head = plain_head(200, JSON_TYPE) + self.version
        """All lines of the usual answer that do not depend on the request."""

    def keep_answers(self) -> None:
        """A request wants its answer kept."""
        if self.kept is None:
            self.kept = KeptAnswers()
            self.loop.call_later(KEEP_S, self._let_go)
        self.kept.wanted_at = perf_counter()

    def _let_go(self) -> None:
        """Forget what is kept, once nobody has asked for it for a while."""
        if self.kept is None:
            return
        left_s = self.kept.wanted_at + KEEP_S - perf_counter()
        if left_s > 0:
            self.loop.call_later(left_s, self._let_go)
        else:
            self.kept = None

    def begin_drain(self) -> None:
        """No connection outlives its current requests from now on. (`closing` may be set before, so that the
        answer to a request that is being scored says so.)"""
        self.closing = self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()
        self.check_drained()

    def check_drained(self) -> None:
        if self.draining and not self.connections and not self.arriving and not self.gate.busy:
            done, self.on_drained = self.on_drained, lambda: None
            done()
