"""A directory of users elsewhere (an OpenID Connect issuer): its keys, kept on disk, and who a token of it is.

The keys are fetched when they are old or a token names one that is not there, at most once a minute; while the issuer does not
answer, those that are kept go on to count. Must not know what a user may do.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from moorings.lib import atomic
from moorings.lib.timing import Clock

FRESH_S = 3600.0
"""After this long the keys are fetched again."""
AT_MOST_EVERY_S = 60.0
SKEW_S = 60.0
MAX_KEYS_BYTES = 256 * 1024
_COORDINATE_BYTES = 32

Fetch = Callable[[str], bytes]
"""Gets an address; raises OSError."""


@dataclass
class Directory:
    """One issuer. Safe to use from any thread; `principal_name` may fetch, so it may take seconds."""

    issuer: str
    audience: str
    keys_url: str
    """Where the keys are (`https://...` or the path of a file); empty: what the issuer's configuration says."""
    claim: str
    """What names a user: `sub`, `oid`, `email`, ..."""
    cache: Path
    """File (0600) of the keys fetched last."""
    clock: Clock
    fetch: Fetch
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _keys: str | None = field(default=None, init=False, repr=False)
    _fetched_at: float = field(default=-1e18, init=False, repr=False)

    def keys(self) -> str:
        """The JSON Web Key Set as it is known now, without a fetch; '' when nothing is known yet."""
        with self._lock:
            if self._keys is None:
                with contextlib.suppress(OSError, ValueError):
                    self._keys = _checked(self.cache.read_bytes())
            return self._keys or ""

    def refresh(self, *, now: float | None = None) -> bool:
        """Fetch the keys; whether they are others than before. Raises OSError, ValueError: the old ones stay."""
        with self._lock:
            self._fetched_at = self.clock.now() if now is None else now
        found = _checked(self._fetched())
        before = self.keys()
        if found == before:
            return False
        atomic.write(self.cache, found.encode())
        with self._lock:
            self._keys = found
        return True

    def principal_name(self, token: str) -> str | None:
        """Who a good token of this issuer is for; None for anything else."""
        body, _, signature = token.rpartition(".")
        try:
            head, claims = (json.loads(_bytes(part)) for part in body.split("."))
            if claims["iss"] != self.issuer or not _is_for(claims.get("aud"), self.audience):
                return None
            if not _verified(self._key(str(head["kid"])), str(head["alg"]), body, _bytes(signature)):
                return None
            now = self.clock.now()
            if now >= float(claims["exp"]) + SKEW_S or now < float(claims.get("nbf", 0)) - SKEW_S:
                return None
            return str(claims[self.claim])
        except (ValueError, KeyError, TypeError, OverflowError):
            return None

    def _key(self, kid: str) -> Mapping[str, Any]:
        """Raises KeyError for one that the issuer does not have."""
        found = _by_id(self.keys(), kid)
        if found is None and self.clock.now() - self._fetched_at >= AT_MOST_EVERY_S:
            with contextlib.suppress(OSError, ValueError):
                self.refresh()
            found = _by_id(self.keys(), kid)
        if found is None:
            raise KeyError(kid)
        return found

    def _fetched(self) -> bytes:
        url = self.keys_url
        if not url:
            where = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
            url = str(json.loads(self.fetch(where))["jwks_uri"])
        if not url.startswith("https://"):
            return Path(url).read_bytes()
        return self.fetch(url)


def _checked(data: bytes) -> str:
    """The same as one line, when it is a set of keys. Raises ValueError."""
    if len(data) > MAX_KEYS_BYTES:
        raise ValueError("the set of keys is too long")
    found = json.loads(data)
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise ValueError("not a JSON Web Key Set")  # noqa: TRY004 - as for any other content
    return json.dumps(found, sort_keys=True)


def _by_id(keys: str, kid: str) -> Mapping[str, Any] | None:
    found = json.loads(keys)["keys"] if keys else []
    return next((key for key in found if isinstance(key, dict) and key.get("kid") == kid), None)


def _is_for(given: Any, audience: str) -> bool:
    return audience in given if isinstance(given, list) else given == audience


def _verified(key: Mapping[str, Any], algorithm: str, body: str, signature: bytes) -> bool:
    """RS256 and ES256: what directories sign with."""
    try:
        if algorithm == "RS256" and key["kty"] == "RSA":
            numbers = rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"]))
            numbers.public_key().verify(signature, body.encode(), padding.PKCS1v15(), hashes.SHA256())
            return True
        if algorithm == "ES256" and key["kty"] == "EC" and key["crv"] == "P-256":
            if len(signature) != 2 * _COORDINATE_BYTES:
                return False
            r, s = (
                int.from_bytes(part, "big")
                for part in (signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:])
            )
            point = ec.EllipticCurvePublicNumbers(_number(key["x"]), _number(key["y"]), ec.SECP256R1())
            point.public_key().verify(encode_dss_signature(r, s), body.encode(), ec.ECDSA(hashes.SHA256()))
            return True
    except InvalidSignature:
        return False
    return False


def _number(text: Any) -> int:
    return int.from_bytes(_bytes(str(text)), "big")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
