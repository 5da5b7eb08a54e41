"""Who may call an endpoint with a token that says who they are: those whose roles give scoring there. Reads the state only."""

from __future__ import annotations

from dataclasses import dataclass

from moorings.gateway.state import Caller, Issuer
from moorings.security.directory import Directory
from moorings.security.identity_tokens import ISSUER, SCORING_AUDIENCE, IdentityTokens
from moorings.security.places import Places
from moorings.security.roles import SCORE, Grant, allowed, scope_of
from moorings.state.principal_rows import USER
from moorings.state.transaction import Transaction

OWN, ELSEWHERE = "workspace", "directory"


@dataclass(frozen=True)
class Scoring:
    """The workspace as an issuer, and the directory of the settings where there is one."""

    tokens: IdentityTokens
    places: Places
    directory: Directory | None = None

    def callers(self, tx: Transaction, endpoint: str) -> tuple[Caller, ...]:
        """Whoever has a role that gives `score/action` at the endpoint."""
        grants: dict[str, list[Grant]] = {}
        for each in tx.assignments():
            grants.setdefault(each.principal, []).append(Grant(each.role, each.scope))
        at = [scope_of(self.places.endpoint(endpoint))]
        found = []
        for id_, given in grants.items():
            if not allowed(given, SCORE, at):
                continue
            found.append(Caller(OWN, "oid", id_))
            whom = tx.principal_by_id(id_)
            if self.directory is not None and whom is not None and whom.kind == USER:
                found.append(Caller(ELSEWHERE, self.directory.claim, whom.name))
        return tuple(found)

    def issuers(self) -> tuple[Issuer, ...]:
        """Whose tokens are looked at; a directory whose keys are not known yet is left out."""
        own = Issuer(OWN, ISSUER, SCORING_AUDIENCE, self.tokens.public_keys())
        there = self.directory
        keys = "" if there is None else there.keys()
        if there is None or not keys:
            return (own,)
        return own, Issuer(ELSEWHERE, there.issuer, there.audience, keys)

    def next_change_at(self) -> float:
        """When time alone changes the keys, Unix seconds."""
        return self.tokens.next_change_at()
