"""Who may speak to the control API over TCP: a secret that earns tokens, the tokens, and signed addresses of uploads.

Everything is checked in constant time and without any memory: a token or an address is good as long as the key that
signed it is there and its time has not come. Must not know HTTP or what is uploaded.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from moorings.lib import atomic

TOKEN_LIFETIME_S = 3600
SIGNATURE_VERSION = "2024-11-04"
"""`sv` of the signed addresses: clients look for one, and nothing depends on it."""
READ, WRITE, LIST = "r", "w", "l"
ALL_RIGHTS = "racwl"
MAX_SIGNED_HOURS = 24
_HEAD = {"alg": "HS256", "typ": "JWT"}


@dataclass(frozen=True)
class AccessKeys:
    """Random secrets of one workspace, as text."""

    identity: str
    """What a client shows to get tokens."""
    tokens: str
    """Signs tokens; leaves the machine's disk never."""
    addresses: str
    """Signs addresses; the same."""

    @staticmethod
    def new() -> AccessKeys:
        return AccessKeys(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32))

    @staticmethod
    def kept(path: Path) -> AccessKeys:
        """Those of the file (0600); new ones where it is missing or damaged. Raises OSError."""
        try:
            found = json.loads(path.read_bytes())
            keys = AccessKeys(**{name: str(found[name]) for name in ("identity", "tokens", "addresses")})
            if all(len(key) >= 43 for key in vars(keys).values()):
                return keys
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        keys = AccessKeys.new()
        atomic.write(path, json.dumps(vars(keys)).encode(), mode=0o600)
        return keys


@dataclass(frozen=True)
class AccessToken:
    """A bearer token; `expires_at` is in Unix seconds."""

    text: str
    expires_at: int


def knows_identity(keys: AccessKeys, shown: str | None) -> bool:
    """Whether `shown` is the secret that earns tokens."""
    return shown is not None and hmac.compare_digest(shown.encode(), keys.identity.encode())


def issue(keys: AccessKeys, audience: str, now: float) -> AccessToken:
    """A token in the form of a JSON Web Token, as clients of its kind may look into it."""
    expires_at = int(now) + TOKEN_LIFETIME_S
    claims = {
        "iss": "moorings",
        "sub": "local",
        "oid": "local",
        "tid": "local",
        "aud": audience,
        "iat": int(now),
        "nbf": int(now),
        "exp": expires_at,
        "jti": secrets.token_hex(8),
    }
    body = ".".join(_text(json.dumps(part, separators=(",", ":")).encode()) for part in (_HEAD, claims))
    return AccessToken(f"{body}.{_text(_mac(keys.tokens, body))}", expires_at)


def token_holds(keys: AccessKeys, text: str, now: float) -> bool:
    """Whether the token is one of ours and its time has not passed."""
    body, dot, signature = text.rpartition(".")
    if not dot or not hmac.compare_digest(signature.encode(), _text(_mac(keys.tokens, body)).encode()):
        return False
    try:
        claims: Any = json.loads(_bytes(body.partition(".")[2]))
        return now < float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return False


def signed_query(keys: AccessKeys, container: str, *, rights: str, expires_at: float) -> str:
    """The query (`sv=...&sig=...`) that opens everything below `container`, with these rights, until then."""
    ends = datetime.fromtimestamp(int(expires_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = {"sv": SIGNATURE_VERSION, "se": ends, "sr": "c", "sp": rights, "spr": "https"}
    parts["sig"] = base64.b64encode(_mac(keys.addresses, _to_sign(parts, container))).decode()
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in parts.items())


def refusal(
    keys: AccessKeys, query: Mapping[str, str], container: str, *, right: str, now: float
) -> str | None:
    """Why the signed query does not open `container` for this, in a sentence; None when it does.

    `right` is one of the letters of `ALL_RIGHTS`; to write, `c` or `w` does.
    """
    given = query.get("sig", "")
    try:
        expected = base64.b64encode(_mac(keys.addresses, _to_sign(query, container))).decode()
        ends = datetime.strptime(query.get("se", ""), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return "the address is not signed, or not in a form that is known here"
    if not hmac.compare_digest(given.encode(), expected.encode()):
        return "the signature does not fit this address: it was altered, or is for another path"
    if now >= ends:
        return f"the signature ended at {query['se']}"
    if right not in query["sp"] and not (right == WRITE and "c" in query["sp"]):
        return f"the signature gives the rights {query['sp']}, not {right}"
    return None


def _to_sign(query: Mapping[str, str], container: str) -> str:
    values = [query.get(name, "") for name in ("sv", "se", "sr", "sp", "spr")]
    if any("\n" in value for value in values) or "\n" in container:
        raise ValueError("a line break in a signed part")
    return "\n".join([*values, container])


def _mac(key: str, text: str) -> bytes:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
