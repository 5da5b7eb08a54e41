"""What a caller must be allowed beyond what method and path tell: it depends on the body, or on what is there already.

Everything here lets the owner pass, and raises `AuthorizationFailed` with the role that helps for anybody else. It must
not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorings.api.callers import Callers
from moorings.api.resources import Resources
from moorings.errors.exceptions import error
from moorings.security.callers import Caller
from moorings.security.roles import (
    ASSIGN_IDENTITY,
    CONNECTION_READER,
    GIVE_ROLES,
    IDENTITY_OPERATOR,
    OWNER,
    READ_CONNECTION,
)
from moorings.spec.arm import endpoint_from_arm
from moorings.spec.endpoint import EndpointSpec
from moorings.state.identities import assigned_identity

_SECRET_STORES = "enforce_access_to_default_secret_stores"  # noqa: S105 - the name of a switch


@dataclass(frozen=True)
class Rights:
    callers: Callers
    resources: Resources

    def to_put_endpoint(self, caller: Caller, name: str, body: Mapping[str, Any]) -> None:
        """An endpoint acts as its identity: whoever makes it has to be allowed to use that one. Raises SpecInvalid, too."""
        if caller.principal is None:
            return
        spec = endpoint_from_arm(name, body)
        self._to_use_secret_stores(caller, spec)
        identity = assigned_identity(spec)
        if identity is not None:
            where = self.resources.places.identity(identity)
            message = f"{caller.name} may not give an endpoint the identity {identity}"
            self._need(caller, ASSIGN_IDENTITY, where, IDENTITY_OPERATOR, message, "identity")

    def to_put_deployment(self, caller: Caller, endpoint: str) -> None:
        """A script of an endpoint that may read what its maker may read. Raises EndpointNotFound, too."""
        if caller.principal is not None:
            row, _ = self.resources.endpoint(endpoint)
            self._to_use_secret_stores(caller, EndpointSpec.model_validate(row.spec))

    def to_change_how_a_vault_goes(self, caller: Caller, vault: str) -> None:
        """From roles to policies or back: whoever may write policies but give no roles could read all of it then."""
        where = self.resources.places.vault(vault)
        message = (
            f"{caller.name} may not give roles, and so not change whether the vault {vault} goes by them"
        )
        self._need(caller, GIVE_ROLES, where, OWNER, message, "properties.enableRbacAuthorization")

    def _to_use_secret_stores(self, caller: Caller, spec: EndpointSpec) -> None:
        if spec.properties.enforce_access_to_default_secret_stores == "enabled":  # noqa: S105 - a switch
            message = f"{_SECRET_STORES} is enabled, and {caller.name} may not read connections"
            where = self.resources.places.workspace
            target = f"properties.{_SECRET_STORES}"
            self._need(caller, READ_CONNECTION, where, CONNECTION_READER, message, target)

    def _need(self, caller: Caller, action: str, scope: str, role: str, message: str, target: str) -> None:
        if self.callers.may(caller, action, scope):
            return
        fields = {"principal": caller.principal, "role": role, "scope": scope}
        evidence = (f"principal id: {caller.principal}", f"needed: {action}", f"scope: {scope}")
        raise error("AuthorizationFailed", message, target=target, evidence=evidence, fields=fields)
