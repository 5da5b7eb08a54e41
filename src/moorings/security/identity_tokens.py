"""Tokens that say who somebody is: of identities, users and service principals. Other keys and another issuer than those
of endpoints' own tokens, so that neither is ever taken for the other. Must not know HTTP."""

from __future__ import annotations

from collections.abc import Collection

from moorings.security.tokens import Token, TokenIssuer

ISSUER = "moorings-identities"
TENANT = "local"
SCORING_AUDIENCE = "https://ml.azure.com"
"""What tokens for endpoints with `aad_token` are for."""
LIFETIME_S = 6 * 3600.0
"""Long enough for an instance to go on while the control plane is away; the workspace looks at each use whether the
principal is still there."""


class IdentityTokens:
    """Signs with keys of its own, which change by themselves as those of endpoints' tokens do."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self._issuer = issuer

    def issue(
        self, principal: str, client_id: str, audience: str, *, lifetime_s: float | None = None
    ) -> Token:
        """A token for `audience`. Raises `TokenKeysUnreadable` (the machine's side) and OSError."""
        more = {"oid": principal, "appid": client_id, "azp": client_id, "tid": TENANT, "ver": "1.0"}
        return self._issuer.issue(audience, principal, more=more, lifetime_s=lifetime_s)

    def public_keys(self) -> str:
        """The JSON Web Key Set that checks them."""
        return self._issuer.public_keys()

    def next_change_at(self) -> float:
        """When `public_keys` will be another, Unix seconds."""
        return self._issuer.next_change_at()

    def principal_of(self, text: str, audiences: Collection[str] | None = None) -> str | None:
        """The principal id of a good token (for one of `audiences`, where they are given); None for anything else."""
        claims = self._issuer.claims_of(text)
        if claims is None or (audiences is not None and str(claims.get("aud")).rstrip("/") not in audiences):
            return None
        return str(claims.get("oid") or "") or None
