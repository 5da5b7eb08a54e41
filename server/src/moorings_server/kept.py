"""Answers that are kept for a moment, so that they can be compared with another deployment's answers to the same requests.

Only those to requests that ask for it (`contract.HEADER_COMPARE`, which the gateway adds while a rollout copies requests);
in memory, bounded, and gone a few seconds after the last of them. Knows nothing of connections and scripts.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import OrderedDict
from typing import Any, List, Optional, Tuple

from moorings_server import contract

KEEP_S = 10.0
"""So long after the last request that asked for it all is forgotten."""
BODY_BYTES = 16 * 1024
"""Of a longer body only length and digest are kept."""
TOTAL_BYTES = 4 * 1024 * 1024
MOST = 8192
"""Answers that are kept; the oldest go first."""
SENT_BYTES = 256 * 1024
"""Bodies that are sent at once, about."""

_Kept = Tuple[int, float, Optional[int], Optional[bytes], str]


class KeptAnswers:
    """By request id, in the order in which they were given."""

    def __init__(self) -> None:
        self.wanted_at = 0.0
        """When a request asked for it last (perf_counter seconds)."""
        self._answers: "OrderedDict[bytes, _Kept]" = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def note(self, request_id: bytes, status: int, ms: float, body: Optional[bytes]) -> None:
        """Keep one; `body` None: a stream."""
        length, digest = None, ""
        if body is not None:
            length = len(body)
            if length > BODY_BYTES:
                digest, body = _digest(body), None
        self._drop(request_id)
        self._answers[request_id] = (status, ms, length, body, digest)
        self._bytes += len(body or b"")
        while len(self._answers) > MOST or self._bytes > TOTAL_BYTES:
            self._drop(next(iter(self._answers)))

    def take(self, wanted: bytes) -> bytes:
        """Those of the ids in `wanted` (with commas), or for `*` the newest, as a JSON document; they are kept no longer. For
        `*` nothing is: the others are only counted."""
        newest = wanted == b"*"
        ids = list(reversed(self._answers)) if newest else wanted.split(b",")
        found: List[List[Any]] = []
        sent = 0
        for request_id in ids:
            if len(found) >= contract.KEPT_AT_ONCE or sent > SENT_BYTES:
                break
            kept = self._drop(request_id)
            if kept is not None:
                found.append(_shown(request_id, kept))
                sent += len(kept[3] or b"")
        skipped = len(self._answers) if newest else 0
        if newest:
            self._answers.clear()
            self._bytes = 0
        return json.dumps({"answers": found, "skipped": skipped}).encode("ascii")

    def _drop(self, request_id: bytes) -> Optional[_Kept]:
        kept = self._answers.pop(request_id, None)
        if kept is not None:
            self._bytes -= len(kept[3] or b"")
        return kept


def _shown(request_id: bytes, kept: _Kept) -> List[Any]:
    """`[id, status, ms, length, digest, body]`: the body in Base64; null where only the digest is known, or (with the
    length) for a stream."""
    status, ms, length, body, digest = kept
    text = None
    if body is not None:
        digest, text = _digest(body), base64.b64encode(body).decode("ascii")
    return [request_id.decode("latin-1"), status, round(ms, 3), length, digest, text]


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
