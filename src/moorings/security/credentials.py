"""What opens an endpoint at a moment: its keys, tokens for it, or both for a while after its mode was switched.
Pure.

Clients that hold both credentials lose no request at a switch: the kind that was valid before stays valid for
`GRACE_S`. To end keys at once, replace them before the switch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from moorings.spec.endpoint import AuthMode

GRACE_S = 600.0
"""How long both kinds of credential are valid after a switch."""
PRIMARY, SECONDARY = "primary", "secondary"
SWITCH = "auth-switch"
"""Name beside the keys under which a switch is remembered."""


@dataclass(frozen=True)
class Switch:
    """A switch of `auth_mode` away from `before`; `until` is the end of the grace in Unix seconds."""

    before: AuthMode
    until: float

    def to_text(self) -> str:
        return json.dumps({"before": self.before, "until": self.until})

    @staticmethod
    def from_text(text: str) -> Switch | None:
        """None for what is no switch."""
        try:
            found = json.loads(text)
            return Switch(AuthMode(found["before"]), float(found["until"]))
        except (ValueError, KeyError, TypeError):
            return None


def switched(before: AuthMode, after: AuthMode, now: float) -> Switch | None:
    """What to remember of a change from `before` to `after`; None where nothing was valid before."""
    if before is after or before is AuthMode.AAD_TOKEN:
        return None
    return Switch(before, now + GRACE_S)


def valid_kinds(mode: AuthMode, switch: Switch | None, now: float) -> frozenset[AuthMode]:
    """The kinds of credential that open an endpoint in `mode` now."""
    kinds = {mode}
    if switch is not None and now < switch.until:
        kinds.add(switch.before)
    return frozenset(kinds - {AuthMode.AAD_TOKEN})


def audience(uid: str) -> str:
    """`aud` of tokens for the endpoint with this uid: made again under its name it is another endpoint."""
    return f"endpoint:{uid}"
