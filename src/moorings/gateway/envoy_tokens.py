"""How Envoy checks tokens: one filter for all endpoints, whose keys are discovered; each endpoint compares the
audience. Pure.

The filter only verifies: it lets every request on, with the payload of a good token as metadata. Who may call
is the endpoint's own rule, so that keys and tokens can be valid at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moorings.gateway.envoy_clusters import typed
from moorings.gateway.state import Caller, Issuer

FILTER = "moorings.tokens"
"""Name of the filter, of its discovered configuration and of the key of per-route settings."""
ISSUER = "moorings"
REQUIREMENT = "token"
_TYPE = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_NAMESPACE = "envoy.filters.http.jwt_authn"
_PAYLOAD = "token"
_CACHED_TOKENS = 500


def extension(token_keys: str | None, issuers: Sequence[Issuer] = ()) -> dict[str, Any]:
    """The discovered configuration: tokens of endpoints are checked with this JSON Web Key Set (None: no such token is
    valid), tokens of `issuers` with theirs."""
    return {"name": FILTER, "typed_config": _authentication(token_keys, issuers)}


def discovered_filter(config_source: dict[str, Any]) -> dict[str, Any]:
    """The filter as the listener names it. Without a discovered configuration no token is valid."""
    return {
        "name": FILTER,
        "disabled": True,
        "config_discovery": {
            "config_source": config_source,
            "default_config": _authentication(None),
            "type_urls": [f"type.googleapis.com/{_TYPE}"],
        },
    }


def static_filter(check: dict[str, Any] | None) -> dict[str, Any]:
    """The same filter with its configuration in place, for a candidate that is validated."""
    config = _authentication(None) if check is None else check["typed_config"]
    return {"name": FILTER, "disabled": True, "typed_config": config}


def per_endpoint() -> dict[str, Any]:
    """Switches the check on for an endpoint."""
    return typed("envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig", requirement_name=REQUIREMENT)


def principal(audience: str) -> dict[str, Any]:
    """Who has a good token for `audience`."""
    return {
        "sourced_metadata": {
            "metadata_matcher": {
                "filter": _NAMESPACE,
                "path": [{"key": _PAYLOAD}, {"key": "aud"}],
                "value": {"string_match": {"exact": audience}},
            }
        }
    }


def known_caller(caller: Caller) -> dict[str, Any]:
    """Who has a good token of that issuer with this claim."""
    return {
        "sourced_metadata": {
            "metadata_matcher": {
                "filter": _NAMESPACE,
                "path": [{"key": _payload(caller.issuer)}, {"key": caller.claim}],
                "value": {"string_match": {"exact": caller.value}},
            }
        }
    }


def _payload(issuer: str) -> str:
    """Apart for each issuer: a claim counts only where its own issuer has signed it."""
    return f"issuer-{issuer}"


def _authentication(token_keys: str | None, issuers: Sequence[Issuer] = ()) -> dict[str, Any]:
    providers = {
        f"issuer-{each.name}": _provider(each.issuer, each.keys, _payload(each.name), [each.audience])
        for each in issuers
    }
    if token_keys is not None:
        providers["moorings"] = _provider(ISSUER, token_keys, _PAYLOAD, [])
    if not providers:
        return typed(_TYPE, requirement_map={REQUIREMENT: {"allow_missing_or_failed": {}}})
    either = {
        "requirements": [
            *({"provider_name": name} for name in sorted(providers)),
            {"allow_missing_or_failed": {}},
        ]
    }
    return typed(_TYPE, providers=providers, requirement_map={REQUIREMENT: {"requires_any": either}})


def _provider(issuer: str, keys: str, payload: str, audiences: list[str]) -> dict[str, Any]:
    return {
        "issuer": issuer,
        **({"audiences": audiences} if audiences else {}),
        "local_jwks": {"inline_string": keys},
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        # The routes remove the header; until then the endpoint's rule may compare it with keys.
        "forward": True,
        "payload_in_metadata": payload,
        "require_expiration": True,
        # Zero would mean a minute.
        "clock_skew_seconds": 1,
        "jwt_cache_config": {"jwt_cache_size": _CACHED_TOKENS},
    }
