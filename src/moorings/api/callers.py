"""Users and service principals of the control plane: made, told their secrets once, known by their tokens, and allowed
what their roles give. No HTTP here."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moorings.api.permissions import Needed, needed
from moorings.errors.exceptions import Failure, error, failure
from moorings.errors.sentence import sentence
from moorings.security.callers import OWNER_CALLER, Caller
from moorings.security.identity_tokens import IdentityTokens
from moorings.security.roles import Grant, allowed, scope_of
from moorings.security.secret_access import grant_permission
from moorings.security.tokens import Token
from moorings.state.database import Database
from moorings.state.identities import callers_changed, find_principal
from moorings.state.principal_rows import SERVICE_PRINCIPAL, USER, Principal
from moorings.state.transaction import Transaction

AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net", "https://ml.azure.com")
"""What a token must be for to be taken here: one that was given to somebody else opens nothing."""
CALLER_TOKEN_S = 3600.0
MOST_SECRETS = 10


@dataclass(frozen=True)
class Callers:
    database: Database
    tokens: IdentityTokens
    foreign: Callable[[str], str | None] = lambda _token: None
    """The name of a user in the token of a directory elsewhere; None for anything else."""

    # --- who there is ---

    def principals(self, kind: str) -> list[Principal]:
        with self.database.read() as tx:
            return list(tx.principals(kind))

    def principal(self, kind: str, name: str) -> Principal:
        """By name or id. Raises `PrincipalNotFound`."""
        with self.database.read() as tx:
            found = tx.principal(kind, name) or tx.principal_by_id(name)
        if found is None or found.kind != kind:
            raise error("PrincipalNotFound", f"there is no {kind} {name}", target=name)
        return found

    def create(self, kind: str, name: str) -> tuple[Principal, str | None]:
        """A user, or a service principal with its secret (which is told this once). Made again it stays as it is, and a
        service principal gets one more secret. Raises `RequestInvalid`."""
        if not name.strip() or len(name) > 255 or "\x00" in name:
            fix = sentence("moor ad user create -n <name>, or moor ad sp create -n <name>")
            raise error("RequestInvalid", "the name is empty or too long", target="name", fix=fix)
        with self.database.write() as tx:
            found = tx.principal(kind, name) or tx.add_principal(kind, name)
            if kind == USER:
                return found, None
            secret = secrets.token_urlsafe(32)
            kept = [*json.loads(found.secret or "[]"), _hash(secret)][-MOST_SECRETS:]
            return tx.change_principal(found, body=found.body, secret=json.dumps(kept)), secret

    def reset(self, name: str) -> tuple[Principal, str]:
        """A new secret in place of all it had."""
        found = self.principal(SERVICE_PRINCIPAL, name)
        secret = secrets.token_urlsafe(32)
        with self.database.write() as tx:
            changed = tx.change_principal(found, body=found.body, secret=json.dumps([_hash(secret)]))
        return changed, secret

    def delete(self, kind: str, name: str) -> bool:
        """With its roles: its tokens open nothing from now on."""
        with self.database.write() as tx:
            found = tx.principal(kind, name) or tx.principal_by_id(name)
            if found is None or found.kind != kind:
                return False
            tx.drop_principal(found.id)
            callers_changed(tx)
            return True

    # --- tokens ---

    def token_for(self, who: str, resource: str) -> tuple[Principal, Token]:
        """A token for a user or service principal, at the owner's word. Raises `PrincipalNotFound`."""
        with self.database.read() as tx:
            found = find_principal(tx, who)
        return found, self._issue(found, resource)

    def token_by_secret(self, client_id: str, secret: str, resource: str) -> Token | None:
        """The same for a service principal that shows its secret; None for a wrong one."""
        with self.database.read() as tx:
            found = tx.principal_by_id(client_id)
        kept = json.loads(found.secret or "[]") if found is not None else []
        given = _hash(secret)
        fits = [hmac.compare_digest(given, str(each)) for each in kept]
        return self._issue(found, resource) if found is not None and any(fits) else None

    def by_client(self, client_id: str) -> Caller | None:
        """Who has this client id."""
        with self.database.read() as tx:
            found = tx.principal_by_id(client_id)
        return None if found is None else Caller(found.name, found.id, found.kind)

    def _issue(self, principal: Principal, resource: str) -> Token:
        audience = resource.removesuffix("/.default").rstrip("/")
        return self.tokens.issue(principal.id, principal.client_id, audience, lifetime_s=CALLER_TOKEN_S)

    # --- requests ---

    def caller(self, token: str) -> Caller | None:
        """Who shows this token; None: nobody known."""
        known = self.tokens.principal_of(token, AUDIENCES)
        user = None if known is not None else self.foreign(token)
        with self.database.read() as tx:
            found = tx.principal_by_id(known) if known else None
            if user is not None:
                found = tx.principal(USER, user)
        return None if found is None else Caller(found.name, found.id, found.kind)

    def refusal(self, caller: Caller, method: str, path: str) -> Failure | None:
        """Why the caller may not do this; None when it may."""
        if caller.principal is None:
            return None
        wanted = needed(method, path)
        with self.database.read() as tx:
            if self._may(tx, caller.principal, wanted):
                return None
            policies = _policies(tx, wanted)
        evidence = (f"principal id: {caller.principal}", f"scope: {wanted.scope_id}")
        if policies is not None and wanted.vault is not None:
            command = grant_permission(caller.principal, wanted.permission, policies, vault=wanted.vault)
            return failure(
                "AuthorizationFailed",
                f"the vault {wanted.vault} goes by access policies, and none lets {caller.name} {wanted.permission}",
                target=path,
                evidence=evidence,
                fix=sentence("Its owner changes the policy: {command}", command=command),
            )
        return failure(
            "AuthorizationFailed",
            f"{caller.name} has no role that gives {wanted.action} here",
            target=path,
            evidence=evidence,
            fields={"principal": caller.principal, "role": wanted.role, "scope": wanted.scope_id},
        )

    def may(self, caller: Caller, action: str, scope_id: str) -> bool:
        """Whether the caller may do something that is not told by method and path."""
        if caller == OWNER_CALLER or caller.principal is None:
            return True
        with self.database.read() as tx:
            return allowed(_grants(tx, caller.principal), action, [scope_of(scope_id)])

    def _may(self, tx: Transaction, principal: str, wanted: Needed) -> bool:
        policies = _policies(tx, wanted)
        if policies is not None:
            return wanted.permission in policies.get(principal, ())
        return allowed(_grants(tx, principal), wanted.action, [wanted.scope])


def _policies(tx: Transaction, wanted: Needed) -> Mapping[str, Sequence[str]] | None:
    """The access policies that decide; None: roles do."""
    vault = None if wanted.vault is None else tx.vault(wanted.vault.lower())
    return None if vault is None or vault.rbac else tx.policies(vault.name)


def _grants(tx: Transaction, principal: str) -> list[Grant]:
    return [Grant(each.role, each.scope) for each in tx.assignments(principal)]


def _hash(secret: str) -> str:
    """Secrets are 256 random bits of ours: a plain hash keeps them."""
    return hashlib.sha256(secret.encode()).hexdigest()


def shown(principal: Principal) -> Mapping[str, Any]:
    """As the ecosystem's command line prints them."""
    return {
        "id": principal.id,
        "appId": principal.client_id,
        "displayName": principal.name,
        "kind": principal.kind,
    }
