"""Which web pages' scripts may read answers (`AML_CORS_ORIGINS`): the header lines for a request's origin.

Pure; knows nothing of connections. A page that is not named gets its answer without these lines, and its browser
keeps it from the script.
"""

from __future__ import annotations

import re

METHODS = b"GET, POST"
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,4096}\Z")


class Cors:
    """`origins` is a comma list of exact origins, or `*` for all."""

    def __init__(self, origins: str) -> None:
        named = [origin.strip() for origin in origins.split(",") if origin.strip()]
        self.anyone = "*" in named
        self._origins = {origin.lower().encode("latin-1", "replace"): origin for origin in named}

    def lines(self, origin: bytes, method: bytes, wanted_method: bytes, wanted_headers: bytes) -> bytes:
        """The lines for an answer to `method`; `wanted_*` are what a preflight request asks for."""
        if self.anyone:
            found = b"Access-Control-Allow-Origin: *\r\n"
        else:
            known = self._origins.get(origin.lower())
            if known is None:
                return b"Vary: Origin\r\n"
            allowed = known.encode("latin-1", "replace")
            found = b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % allowed
        if method == b"OPTIONS" and wanted_method.upper() in (b"GET", b"POST"):
            found += b"Access-Control-Allow-Methods: %b\r\n" % METHODS
            if _NAMES.match(wanted_headers):
                found += b"Access-Control-Allow-Headers: %b\r\n" % wanted_headers
        return found
