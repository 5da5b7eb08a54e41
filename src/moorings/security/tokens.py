"""Tokens of endpoints: signed, short-lived, checked by whoever has the public keys. Must not know HTTP or what an
endpoint is.

The signer's keys change by themselves. A new one is shown to those who check some time before it signs, and an
old one stays visible until the last token it signed has ended, so a change of keys refuses nobody.
"""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from moorings.errors.exceptions import error
from moorings.lib import atomic
from moorings.lib.timing import Clock

ISSUER = "moorings"
LIFETIME_S = 3600.0
REFRESH_AFTER_S = 1800.0
"""Clients ask for the next token from here on; half of the life is left for that."""
KEY_AGE_S = 30 * 24 * 3600.0
"""How long a key signs before the next one is made."""
SHOWN_BEFORE_S = 600.0
"""A new key is published this long before it signs: the gateway may be away for a while."""
MARGIN_S = 300.0
_COORDINATE_BYTES = 32


@dataclass(frozen=True)
class SigningKey:
    """A key pair. `signs_from` and `created_at` are Unix seconds."""

    kid: str
    created_at: float
    signs_from: float
    pem: str


@dataclass(frozen=True)
class Token:
    """A signed token and its times, Unix seconds."""

    text: str
    expires_at: int
    refresh_after: int


class TokenIssuer:
    """Signs tokens with the keys of one file (0600), which it makes and changes. Safe to use from any thread."""

    def __init__(
        self, key_file: Path, clock: Clock, *, issuer: str = ISSUER, lifetime_s: float = LIFETIME_S
    ) -> None:
        """`lifetime_s`: of its tokens; none lives longer."""
        self._issuer = issuer
        self._lifetime_s = lifetime_s
        self._key_file = key_file
        self._clock = clock
        self._lock = threading.Lock()

    def issue(
        self,
        audience: str,
        subject: str,
        *,
        more: Mapping[str, Any] | None = None,
        lifetime_s: float | None = None,
    ) -> Token:
        """A token for `audience`, with `more` claims; `lifetime_s` is at most that of all.

        Raises `TokenKeysUnreadable` (the machine's side) and OSError.
        """
        now = self._clock.now()
        key = signer(self._keys(now), now)
        lives_s = min(self._lifetime_s, lifetime_s or self._lifetime_s)
        expires_at, refresh_after = int(now + lives_s), int(now + lives_s * REFRESH_AFTER_S / LIFETIME_S)
        claims = {
            **(more or {}),
            "iss": self._issuer,
            "sub": subject,
            "aud": audience,
            "iat": int(now),
            "exp": expires_at,
            "jti": secrets.token_hex(8),
        }
        return Token(_signed(key, claims), expires_at, refresh_after)

    def claims_of(self, text: str) -> dict[str, Any] | None:
        """The claims of a token that one of these keys signed, of this issuer and not past its time; None for
        anything else."""
        now = self._clock.now()
        body, _, signature = text.rpartition(".")
        try:
            head, payload = (json.loads(_bytes(part)) for part in body.split("."))
            key = next(key for key in self._keys(now) if key.kid == head["kid"])
            raw = _bytes(signature)
            if head["alg"] != "ES256" or len(raw) != 2 * _COORDINATE_BYTES:
                return None
            r, s = (
                int.from_bytes(part, "big") for part in (raw[:_COORDINATE_BYTES], raw[_COORDINATE_BYTES:])
            )
            encoded = encode_dss_signature(r, s)
            _private(key).public_key().verify(encoded, body.encode(), ec.ECDSA(hashes.SHA256()))
            good = payload["iss"] == self._issuer and now < float(payload["exp"])
        except (ValueError, KeyError, TypeError, StopIteration, InvalidSignature):
            return None
        return dict(payload) if good else None

    def public_keys(self) -> str:
        """The JSON Web Key Set that tokens are checked with now. Raises as `issue`."""
        keys = [_public(key) for key in self._keys(self._clock.now())]
        return json.dumps({"keys": sorted(keys, key=lambda k: str(k["kid"]))}, sort_keys=True)

    def next_change_at(self) -> float:
        """When `public_keys` will be another, Unix seconds, if nobody rotates before."""
        return next_change_at(self._keys(self._clock.now()), self._lifetime_s)

    def rotate(self) -> None:
        """Make a new key now; it signs `SHOWN_BEFORE_S` later."""
        now = self._clock.now()
        with self._lock:
            self._write((*self._turned(now), new_key(now, now + SHOWN_BEFORE_S)))

    def _keys(self, now: float) -> tuple[SigningKey, ...]:
        with self._lock:
            return self._turned(now)

    def _turned(self, now: float) -> tuple[SigningKey, ...]:
        before = self._read()
        after = kept(before, now, self._lifetime_s)
        if not after:
            after = (new_key(now, now),)
        elif now >= max(key.signs_from for key in after) + KEY_AGE_S:
            after = (*after, new_key(now, now + SHOWN_BEFORE_S))
        if after != before:
            self._write(after)
        return after

    def _read(self) -> tuple[SigningKey, ...]:
        try:
            found = json.loads(self._key_file.read_bytes())
            return tuple(SigningKey(**item) for item in found["keys"])
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError) as problem:
            message = f"{self._key_file} holds no signing keys: {problem}"
            fields = {"path": self._key_file}
            raise error("TokenKeysUnreadable", message, target=str(self._key_file), fields=fields) from None

    def _write(self, keys: Sequence[SigningKey]) -> None:
        document = {"keys": [vars(key) for key in keys]}
        atomic.write(self._key_file, json.dumps(document).encode(), mode=0o600)


def signer(keys: Sequence[SigningKey], now: float) -> SigningKey:
    """The key that signs at `now`: the newest whose time has come; the oldest when the clock was set back. Pure."""
    ready = [key for key in keys if key.signs_from <= now]
    return max(ready, key=_start) if ready else min(keys, key=_start)


def kept(keys: Sequence[SigningKey], now: float, lifetime_s: float = LIFETIME_S) -> tuple[SigningKey, ...]:
    """`keys` without those whose last token has ended. Pure."""
    ends = _ends(keys, lifetime_s)
    return tuple(key for key in keys if now < ends.get(key.kid, now + 1))


def next_change_at(keys: Sequence[SigningKey], lifetime_s: float = LIFETIME_S) -> float:
    """When the next key is made or an old one goes. Pure."""
    made = max(key.signs_from for key in keys) + KEY_AGE_S
    return min([made, *_ends(keys, lifetime_s).values()])


def new_key(now: float, signs_from: float) -> SigningKey:
    """A fresh key pair on the curve P-256."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey(secrets.token_hex(8), now, signs_from, pem.decode())


def _start(key: SigningKey) -> float:
    return key.signs_from


def _ends(keys: Sequence[SigningKey], lifetime_s: float) -> dict[str, float]:
    """Key id -> when its last token has ended; a key without a successor has no end."""
    ordered = sorted(keys, key=_start)
    return {
        key.kid: successor.signs_from + lifetime_s + MARGIN_S
        for key, successor in itertools.pairwise(ordered)
    }


def _private(key: SigningKey) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key.pem.encode(), password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise TypeError(f"key {key.kid} is of another kind")
    return loaded


def _public(key: SigningKey) -> dict[str, str]:
    numbers = _private(key).public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "alg": "ES256",
        "use": "sig",
        "kid": key.kid,
        "x": _text(numbers.x.to_bytes(_COORDINATE_BYTES, "big")),
        "y": _text(numbers.y.to_bytes(_COORDINATE_BYTES, "big")),
    }


def _signed(key: SigningKey, claims: Mapping[str, Any]) -> str:
    head = {"alg": "ES256", "kid": key.kid, "typ": "JWT"}
    body = ".".join(_text(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
    r, s = decode_dss_signature(_private(key).sign(body.encode(), ec.ECDSA(hashes.SHA256())))
    raw = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
    return f"{body}.{_text(raw)}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
