"""What every operation of the control API means: checks, one transaction, a hint. No HTTP here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from moorings.api.identities import check_room_for_roles, identity_kept
from moorings.api.quota import Quotas
from moorings.api.secrets import pinner
from moorings.contract import ROUTE_SCORE
from moorings.errors.exceptions import MooringsError, error, failure
from moorings.errors.sentence import sentence, verbatim
from moorings.security.credentials import PRIMARY, SECONDARY, SWITCH, audience, switched
from moorings.security.places import Places
from moorings.security.tokens import Token, TokenIssuer
from moorings.security.vault import Vault, new_key
from moorings.spec.arm import deployment_from_arm, endpoint_from_arm
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import AuthMode, EndpointSpec
from moorings.spec.limits import MAX_DEPLOYMENTS, MAX_DEPLOYMENTS_PER_ENDPOINT, MAX_ENDPOINTS
from moorings.spec.scaling import scales
from moorings.spec.status import READY, Condition, Truth
from moorings.state.database import Database
from moorings.state.identities import ensure_own_identity, identity_of
from moorings.state.lookup import CODES, DATA, ENVIRONMENTS, MODELS, container_routes, find_asset
from moorings.state.principal_rows import Principal
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, Event, Operation, Resource, Transaction


@dataclass(frozen=True)
class Accepted:
    """An accepted request: the row as it is now, whether it is new, and the operation to poll."""

    row: Resource
    created: bool
    operation: Operation


@dataclass(frozen=True)
class Resources:
    database: Database
    vault: Vault
    tokens: TokenIssuer
    workspace: str
    """ARM path of the workspace."""
    places: Places
    hint: Callable[[str, str], None]
    """`hint(kind, name)` wakes a loop; losing it costs latency only. May be called from any thread."""
    quotas: Quotas

    # --- endpoints ---

    def endpoint(self, name: str) -> tuple[Resource, list[Event]]:
        with self.database.read() as tx:
            return _endpoint(tx, name), list(tx.events(ENDPOINT, name))

    def endpoints(self) -> list[Resource]:
        with self.database.read() as tx:
            return list(tx.resources(ENDPOINT))

    def identity(self, endpoint: Resource) -> Principal | None:
        """Who acts for the endpoint."""
        with self.database.read() as tx:
            return identity_of(tx, endpoint)

    def scoring_path(self, endpoint: Resource) -> str:
        """Where requests are scored below the endpoint: the scoring route of the container with the most traffic (or
        of the only deployment), `/score` where our inference server answers."""
        traffic = EndpointSpec.model_validate(endpoint.spec).traffic
        with self.database.read() as tx:
            found = tx.resources(DEPLOYMENT, below=endpoint.name)
        rows = {row.name.partition("/")[2]: row for row in found}
        shares = [name for name in traffic if traffic[name] > 0 and name in rows] or (
            list(rows) if len(rows) == 1 else []
        )
        if not shares:
            return ROUTE_SCORE
        routes = container_routes(rows[max(shares, key=lambda name: traffic.get(name, 0))].status)
        return ROUTE_SCORE if routes is None else str(routes["scoring_path"])

    def put_endpoint(self, name: str, body: Mapping[str, Any]) -> Accepted:
        """Create or replace. Raises SpecInvalid, TrafficInvalid, ImmutableProperty, EndpointQuotaReached,
        RoleAssignmentQuotaReached (the user's fault)."""
        spec = endpoint_from_arm(name, body)
        with self.database.write() as tx:
            old = tx.resource(ENDPOINT, name)
            if old is None and tx.count(ENDPOINT) >= MAX_ENDPOINTS:
                raise error(
                    "EndpointQuotaReached", f"the workspace has {MAX_ENDPOINTS} endpoints", target=name
                )
            spec = identity_kept(tx, old, spec, self.places)
            _check_traffic(tx, spec)
            if old is not None and not old.deleting:
                self._note_switch(tx, old, spec.auth_mode)
            row = tx.put(ENDPOINT, name, _plain(spec), touch=_failed(old))
            if old is None or not tx.secret_values(ENDPOINT, name):
                for key in (PRIMARY, SECONDARY):
                    tx.set_secret(ENDPOINT, name, key, self.vault.encrypt(new_key()))
            switch = spec.properties.enforce_access_to_default_secret_stores
            roles = self.places.automatic_roles(secret_stores=old is None and switch == "enabled")
            if identity_of(tx, row) is None:
                check_room_for_roles(tx, len(roles), target=name)
            ensure_own_identity(tx, row, roles)
            operation = tx.start_operation("create" if old is None else "update", row)
        self.hint(ENDPOINT, name)
        return Accepted(row, old is None, operation)

    def delete_endpoint(self, name: str) -> Operation | None:
        """Delete it with all its deployments; None when it is not there (which is success)."""
        with self.database.write() as tx:
            row = tx.mark_deleting(ENDPOINT, name)
            if row is None:
                return None
            below = [d.name for d in tx.resources(DEPLOYMENT, below=name)]
            for deployment in below:
                gone = tx.mark_deleting(DEPLOYMENT, deployment)
                if gone is not None:
                    tx.start_operation("delete", gone)
            operation = tx.start_operation("delete", row)
        for deployment in below:
            self.hint(DEPLOYMENT, deployment)
        self.hint(ENDPOINT, name)
        return operation

    def keys(self, name: str) -> tuple[str, str]:
        """Primary and secondary key. Raises `WrongCredentialKind` for endpoints that have no keys in use."""
        with self.database.read() as tx:
            _only_mode(_endpoint(tx, name), AuthMode.KEY)
            stored = tx.secret_values(ENDPOINT, name)
        try:
            return self.vault.decrypt(stored[PRIMARY]), self.vault.decrypt(stored[SECONDARY])
        except MooringsError as problem:
            text, target = problem.failure.message, problem.failure.target
            raise error("VaultKeyMismatch", text, target=target, fields={"endpoint": name}) from None

    def secret_values(self, owner: str) -> list[str]:
        """What must not be shown to who reads logs of `<endpoint>/<deployment>`: the keys of its endpoint."""
        name = owner.partition("/")[0]
        with self.database.read() as tx:
            stored = tx.secret_values(ENDPOINT, name)
        try:
            return [self.vault.decrypt(value) for value in stored.values()]
        except MooringsError:  # without the vault's key they open nothing that could be seen
            return []

    def regenerate_key(self, name: str, which: str) -> Operation:
        """Replace one key; the old value stops working when the gateway has accepted the new one.

        Clients send the current value back as `keyValue`: it is not a wish and not read.
        """
        if which.lower() not in (PRIMARY, SECONDARY):
            raise error(
                "RequestInvalid", f"keyType is {which!r}: expected Primary or Secondary", target="keyType"
            )
        with self.database.write() as tx:
            row = _endpoint(tx, name)
            _only_mode(row, AuthMode.KEY)
            tx.set_secret(ENDPOINT, name, which.lower(), self.vault.encrypt(new_key()))
            row = tx.put(ENDPOINT, name, row.spec, touch=True)
            operation = tx.start_operation("regenerateKeys", row)
        self.hint(ENDPOINT, name)
        return operation

    def token(self, name: str) -> Token:
        """A new token. Raises `WrongCredentialKind` for endpoints that do not use tokens."""
        with self.database.read() as tx:
            row = _endpoint(tx, name)
            _only_mode(row, AuthMode.AML_TOKEN)
        return self.tokens.issue(audience(row.uid), name)

    def _note_switch(self, tx: Transaction, old: Resource, mode: AuthMode) -> None:
        switch = switched(EndpointSpec.model_validate(old.spec).auth_mode, mode, tx.now)
        if switch is not None:
            tx.set_secret(ENDPOINT, old.name, SWITCH, self.vault.encrypt(switch.to_text()))

    # --- deployments ---

    def deployment(self, endpoint: str, name: str) -> tuple[Resource, list[Event]]:
        with self.database.read() as tx:
            _endpoint(tx, endpoint)
            row = _deployment(tx, endpoint, name)
            return row, list(tx.events(DEPLOYMENT, row.name))

    def deployments(self, endpoint: str) -> list[Resource]:
        with self.database.read() as tx:
            _endpoint(tx, endpoint)
            return list(tx.resources(DEPLOYMENT, below=endpoint))

    def put_deployment(self, endpoint: str, name: str, body: Mapping[str, Any]) -> Accepted:
        """Create or replace. Raises EndpointNotFound, AssetNotFound, SpecInvalid, DeploymentQuotaReached,
        OutOfQuota, OutOfCapacity, InstanceTypeTooLarge (the user's fault)."""
        return self._accept(deployment_from_arm(endpoint, name, body))

    def patch_deployment(self, endpoint: str, name: str, body: Mapping[str, Any]) -> Accepted:
        """Scale or re-tag: only `sku.capacity` and `tags` count (section 4.10)."""
        with self.database.read() as tx:
            row = _deployment(tx, endpoint, name)
        return self._accept(_patched(row, body))

    def _accept(self, spec: DeploymentSpec) -> Accepted:
        key = f"{spec.endpoint_name}/{spec.name}"
        capacity = self.quotas.capacity()  # asks the machine: not while others wait for the lock
        with self.database.write() as tx:
            endpoint = _endpoint(tx, spec.endpoint_name)
            if endpoint.deleting:
                raise error(
                    "EndpointNotFound", f"endpoint {endpoint.name} is being deleted", target=endpoint.name
                )
            old = tx.resource(DEPLOYMENT, key)
            if old is None:
                _check_counts(tx, endpoint.name, key)
            plain = _plain(self._pinned(tx, spec))
            setting = None if old is None or old.deleting else old.autoscale
            _check_one_scaler(key, plain, setting)
            earlier = self.quotas.admit(tx, key, plain, old, capacity, setting)
            row = tx.put(DEPLOYMENT, key, plain, touch=_failed(old), earlier=earlier)
            if row.scale is not None and not scales(plain, setting):
                tx.set_scale(row, None)
            operation = tx.start_operation("create" if old is None else "update", row)
        self.hint(DEPLOYMENT, key)
        return Accepted(row, old is None, operation)

    def _pinned(self, tx: Transaction, spec: DeploymentSpec) -> DeploymentSpec:
        """References by label become the version they mean now: a deployment never changes by itself."""
        changes: dict[str, Any] = {}
        if isinstance(spec.model, str):
            changes["model"] = self._id(tx, MODELS, spec.model)
        if isinstance(spec.environment, str):
            changes["environment"] = self._id(tx, ENVIRONMENTS, spec.environment)
        if spec.code_configuration is not None:
            code = self._id(tx, CODES, spec.code_configuration.code)
            changes["code_configuration"] = spec.code_configuration.model_copy(update={"code": code})
        if spec.data_collector is not None:
            collections = {
                name: item.model_copy(update={"data": self._id(tx, DATA, item.data)})
                if isinstance(item.data, str)
                else item
                for name, item in spec.data_collector.collections.items()
            }
            changes["data_collector"] = spec.data_collector.model_copy(update={"collections": collections})
        pin = pinner(tx)
        variables = spec.environment_variables
        changes["environment_variables"] = {name: pin(text) for name, text in variables.items()}
        return spec.model_copy(update=changes)

    def _id(self, tx: Transaction, kind: str, reference: str) -> str:
        asset = find_asset(tx, kind, reference, workspace=self.workspace.rpartition("/")[2])
        return f"{self.workspace}/{kind}/{asset.name}/versions/{asset.version}"

    def delete_deployment(self, endpoint: str, name: str) -> Operation | None:
        """None when it is not there (which is success). Raises DeploymentInUse while it has live traffic."""
        with self.database.write() as tx:
            parent = _endpoint(tx, endpoint)
            spec = EndpointSpec.model_validate(parent.spec)
            # Traffic tables hold names in lower case, whatever the deployment's own spelling.
            share = spec.traffic.get(name.lower(), 0) or spec.mirror_traffic.get(name.lower(), 0)
            if share and tx.resource(DEPLOYMENT, f"{endpoint}/{name}") is not None and not parent.deleting:
                raise error(
                    "DeploymentInUse",
                    f"deployment {name} takes {share} % of the traffic of {endpoint}",
                    target=f"{endpoint}/{name}",
                    fields={"endpoint": endpoint, "deployment": name},
                )
            row = tx.mark_deleting(DEPLOYMENT, f"{endpoint}/{name}")
            if row is None:
                return None
            operation = tx.start_operation("delete", row)
        self.hint(DEPLOYMENT, row.name)
        return operation

    def operation(self, id_: str) -> tuple[Operation, Resource | None]:
        with self.database.read() as tx:
            found = tx.operation(id_)
            if found is None:
                raise error("OperationNotFound", f"no operation {id_}", target=id_)
            return found, tx.resource(found.kind, found.name)


def _endpoint(tx: Transaction, name: str) -> Resource:
    row = tx.resource(ENDPOINT, name)
    if row is None:
        raise error(
            "EndpointNotFound", f"endpoint {name} does not exist", target=name, fields={"endpoint": name}
        )
    return row


def _deployment(tx: Transaction, endpoint: str, name: str) -> Resource:
    row = tx.resource(DEPLOYMENT, f"{endpoint}/{name}")
    if row is None:
        message = f"endpoint {endpoint} has no deployment {name}"
        fields = {"endpoint": endpoint, "deployment": name}
        raise error("DeploymentNotFound", message, target=f"{endpoint}/{name}", fields=fields)
    return row


def _check_one_scaler(key: str, spec: Mapping[str, Any], setting: Mapping[str, Any] | None) -> None:
    if setting is not None and scales(spec, None):
        endpoint, _, deployment = key.partition("/")
        fields = {"name": setting["name"], "endpoint": endpoint, "deployment": deployment}
        message = (
            f"the autoscale setting {setting['name']} scales {key}: it cannot scale by target utilization too"
        )
        raise error("AutoscaleConflict", message, target="scale_settings.type", fields=fields)


def _patched(row: Resource, body: Mapping[str, Any]) -> DeploymentSpec:
    """The spec with the capacity and tags of `body`. Raises RequestInvalid naming every wrong place."""
    sku = body.get("sku")
    if sku is not None and not isinstance(sku, Mapping):
        raise error("RequestInvalid", "sku: expected an object with `capacity`", target="sku")
    given = {"instance_count": (sku or {}).get("capacity"), "tags": body.get("tags")}
    changes = {key: value for key, value in given.items() if value is not None}
    try:
        return DeploymentSpec.model_validate({**row.spec, **changes})
    except ValidationError as problem:
        places = {"instance_count": "sku.capacity"}
        details = []
        for each in problem.errors():
            key = str(each["loc"][0]) if each["loc"] else ""
            target = places.get(key, key)
            details.append(failure("RequestInvalid", f"{target}: {each['msg']}", target=target))
        raise error("RequestInvalid", details[0].message, target=details[0].target, details=details) from None


def _plain(spec: EndpointSpec | DeploymentSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude={"schema_"})


def _failed(row: Resource | None) -> bool:
    """Whether the same desired state is a wish to try again."""
    if row is None:
        return False
    stored = row.status.get("conditions", {}).get(READY)
    if stored is None:
        return False
    ready = Condition.from_json(stored)
    return ready.truth is Truth.FALSE and ready.generation == row.generation


def _only_mode(row: Resource, wanted: AuthMode) -> None:
    mode = EndpointSpec.model_validate(row.spec).auth_mode
    if mode is wanted:
        return
    kind = "keys" if wanted is AuthMode.KEY else "tokens"
    message = f"endpoint {row.name} does not use {kind} for authentication (auth_mode: {mode})"
    fix = None
    if mode is AuthMode.AAD_TOKEN:
        fix = verbatim(
            f'moor role assignment create --assignee <caller> --role "AzureML Data Scientist" --scope endpoint/{row.name} '
            "&& moor account get-access-token --principal <caller> --resource https://ml.azure.com"
        )
    raise error("WrongCredentialKind", message, target=row.name, fields={"endpoint": row.name}, fix=fix)


def _check_counts(tx: Transaction, endpoint: str, key: str) -> None:
    if tx.count(DEPLOYMENT, below=endpoint) >= MAX_DEPLOYMENTS_PER_ENDPOINT:
        message = f"endpoint {endpoint} has {MAX_DEPLOYMENTS_PER_ENDPOINT} deployments"
        raise error("DeploymentQuotaReached", message, target=key, fields={"endpoint": endpoint})
    if tx.count(DEPLOYMENT) >= MAX_DEPLOYMENTS:
        message = f"the workspace has {MAX_DEPLOYMENTS} deployments, and no more are allowed"
        fix = sentence(
            "Delete what is not used: moor online-deployment delete -e <endpoint> -n <deployment>   (what there is: "
            "moor quota list)"
        )
        raise error("DeploymentQuotaReached", message, target=key, fix=fix)


def _check_traffic(tx: Transaction, spec: EndpointSpec) -> None:
    there = {d.name.partition("/")[2] for d in tx.resources(DEPLOYMENT, below=spec.name) if not d.deleting}
    unknown = sorted((set(spec.traffic) | set(spec.mirror_traffic)) - {name.lower() for name in there})
    if unknown:
        example = " ".join(f"{d}=100" for d in sorted(there)[:1]) or "<deployment>=100"
        raise error(
            "TrafficInvalid",
            f"traffic names {', '.join(unknown)}: no such deployment of {spec.name}",
            target="traffic",
            evidence=(f"deployments of {spec.name}: {', '.join(sorted(there)) or 'none'}",),
            fields={"endpoint": spec.name, "example": example},
        )
