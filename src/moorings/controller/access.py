"""What the identity of an endpoint may pull, read and be told: checked before anything is built, and secrets resolved
when an instance starts. It decides on rows of the state and knows no engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorings.containers.reading import registry_of
from moorings.controller.resolve import Content
from moorings.engines.base import InstanceIdentity, Private
from moorings.errors.exceptions import Failure, MooringsError, failure
from moorings.errors.sentence import sentence
from moorings.security import secret_access
from moorings.security.instances import InstanceOf, seal
from moorings.security.places import OWN_REGISTRY, Places, registry_scopes
from moorings.security.roles import PULL_IMAGE, READ_BLOBS, Grant, allowed, scope_of
from moorings.security.vault import Vault
from moorings.spec import secret_references
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.secret_references import ConnectionPart, VaultSecret
from moorings.state.database import Database
from moorings.state.identities import ensure_own_identities, ensure_own_identity, identity_of
from moorings.state.principal_rows import SYSTEM_ASSIGNED, Principal
from moorings.state.secret_rows import SecretRow
from moorings.state.transaction import ENDPOINT, Resource, Transaction

AGAIN = "moor online-deployment update -f <deployment.yml>"


def _no_login(_registry: str) -> bool:
    return False


@dataclass(frozen=True)
class Access:
    """The endpoint's identity at work."""

    database: Database
    cipher: Vault
    places: Places
    identity_socket: Path | None = None
    """Where instances get tokens; None: they get none."""
    has_login: Callable[[str], bool] = _no_login
    """Whether this machine has credentials for a registry (host). May block."""

    def adopt(self) -> None:
        """Give the workspace its vault, and endpoints of before there were identities theirs."""
        with self.database.write() as tx:
            tx.put_vault(self.places.vault_name, rbac=None, tags=None)
            ensure_own_identities(tx, self.places.automatic_roles())

    def check(self, spec: DeploymentSpec, content: Content) -> None:
        """Whether the deployment may be started for its endpoint. Raises `IdentityCannotPull`, `IdentityCannotRead`,
        `SecretsInjectionError` (the user's fault), with all further problems as details."""
        with self.database.write() as tx:
            endpoint, identity = self._identity(tx, spec.endpoint_name)
            if endpoint is None:
                return  # it is going away, and its deployments with it
            if identity is None:
                raise MooringsError(_gone(spec.endpoint_name))
            grants = _grants(tx, identity)
            found = [
                *self._pull_problems(content, identity, grants, spec.endpoint_name),
                *self._read_problems(content, identity, grants, spec.endpoint_name),
                *self._resolve(tx, identity, grants, spec.environment_variables, spec)[1],
            ]
        _raise(found)

    def private(self, spec: DeploymentSpec, variables: Mapping[str, str]) -> Private:
        """What an instance that starts now is told: the values of those variables that are references, and how it gets
        tokens.

        Raises `SecretsInjectionError`, `VaultKeyMismatch`.
        """
        with self.database.read() as tx:
            endpoint = tx.resource(ENDPOINT, spec.endpoint_name)
            identity = None if endpoint is None else identity_of(tx, endpoint)
            if identity is None:
                if any(secret_references.is_reference(value) for value in variables.values()):
                    raise MooringsError(_gone(spec.endpoint_name))
                return Private()
            values, problems = self._resolve(tx, identity, _grants(tx, identity), variables, spec)
        _raise(problems)
        assert endpoint is not None
        if self.identity_socket is None:
            return Private(values)
        credential = seal(self.cipher, InstanceOf(endpoint.name, endpoint.uid, spec.name))
        socket = str(self.identity_socket)
        return Private(values, InstanceIdentity(socket, credential, identity.client_id, identity.id))

    def _identity(self, tx: Transaction, endpoint: str) -> tuple[Resource | None, Principal | None]:
        row = tx.resource(ENDPOINT, endpoint)
        if row is None:
            return None, None
        switch = EndpointSpec.model_validate(row.spec).properties.enforce_access_to_default_secret_stores
        roles = self.places.automatic_roles(secret_stores=switch == "enabled")
        return row, identity_of(tx, row) or ensure_own_identity(tx, row, roles)

    # --- images, model and code ---

    def _pull_problems(
        self, content: Content, identity: Principal, grants: list[Grant], endpoint: str
    ) -> list[Failure]:
        """The built environment is in the workspace's registry; an image that is run as it is, in its own."""
        spec = content.environment
        own = self.places.registry_host
        host = own
        if spec is not None and spec.image and spec.inference_config is not None and spec.conda_file is None:
            host = registry_of(spec.image)
            if host != own:
                ours = identity.kind == SYSTEM_ASSIGNED
                if ours or not self.has_login(host):
                    return []  # anybody may pull it, or the owner of this machine has logged in for it
        scope = self.places.registry if host == own else self.places.registry_at(host)
        if allowed(grants, PULL_IMAGE, [scope_of(scope), *registry_scopes(host or OWN_REGISTRY)]):
            return []
        where = f"the registry {host}" if host else "the workspace's registry, where its environment is kept"
        return [_denied("IdentityCannotPull", f"pull from {where}", identity, scope, endpoint)]

    def _read_problems(
        self, content: Content, identity: Principal, grants: list[Grant], endpoint: str
    ) -> list[Failure]:
        if not content.code_digest and content.model is None:
            return []
        scope = self.places.storage
        if allowed(grants, READ_BLOBS, [scope_of(scope)]):
            return []
        what = "read model and code from the workspace's storage"
        return [_denied("IdentityCannotRead", what, identity, scope, endpoint)]

    # --- secrets ---

    def _resolve(
        self,
        tx: Transaction,
        identity: Principal,
        grants: list[Grant],
        variables: Mapping[str, str],
        spec: DeploymentSpec,
    ) -> tuple[dict[str, str], list[Failure]]:
        values: dict[str, str] = {}
        problems: list[Failure] = []
        target = f"{spec.endpoint_name}/{spec.name}"
        for variable, text in variables.items():
            try:
                reference = secret_references.parse(text)
            except ValueError as problem:
                problems.append(_failed(variable, target, str(problem), None))
                continue
            if reference is None:
                continue
            found = (
                self._vault_value(tx, identity, grants, reference)
                if isinstance(reference, VaultSecret)
                else self._connection_value(tx, identity, grants, reference)
            )
            if found.value is not None:
                values[variable] = found.value
            problems += [_failed(variable, target, each.text, each.command) for each in found.problems]
        return values, problems

    def _vault_value(
        self, tx: Transaction, identity: Principal, grants: list[Grant], wanted: VaultSecret
    ) -> _Found:
        """All that is wrong at once: who has been given the role is not to hear then that there is no such secret."""
        problems = []
        vault = tx.vault(wanted.vault)
        name, rbac = wanted.vault, vault is None or vault.rbac
        if vault is None:
            problems.append(_Problem(f"the workspace has no vault {name}", f"moor keyvault create -n {name}"))
        policies = {} if vault is None else tx.policies(name)
        readable = secret_access.may_read_secret(
            grants, policies, identity.id, rbac=rbac, places=self.places, vault=name, name=wanted.name
        )
        if not readable:
            command = secret_access.grant_secret(
                identity.id, policies, rbac=rbac, places=self.places, vault=name
            )
            problems.append(_Problem(f"{_who(identity)} may not read secrets of the vault {name}", command))
        secret = tx.vault_secret(name, wanted.name, wanted.version)
        if secret is None or not secret.enabled:
            versions = tx.vault_secret_versions(name, wanted.name)
            return _Found(problems=[*problems, _missing(wanted, versions)])
        return _Found(problems=problems) if problems else _Found(self.cipher.decrypt(secret.value))

    def _connection_value(
        self, tx: Transaction, identity: Principal, grants: list[Grant], wanted: ConnectionPart
    ) -> _Found:
        problems = []
        if not secret_access.may_read_connection(grants, places=self.places, name=wanted.name):
            message = f"{_who(identity)} may not read the connections of the workspace"
            command = secret_access.grant_connection(identity.id, places=self.places)
            problems.append(_Problem(message, command))
        row = tx.connection(wanted.name)
        if row is None:
            message = f"the workspace has no connection {wanted.name}"
            problems.append(_Problem(message, "moor connection create -f <connection.yml>"))
            return _Found(problems=problems)
        if problems:
            return _Found(problems=problems)
        found = _part(row.body, json.loads(self.cipher.decrypt(row.credentials)), row.name, wanted)
        if found is None:
            what = wanted.part if wanted.key is None else f"{wanted.part}/{wanted.key}"
            message = f"the connection {wanted.name} has no {what}"
            return _Found(problems=[_Problem(message, f"moor connection show -n {wanted.name}")])
        return _Found(found)


@dataclass(frozen=True)
class _Problem:
    text: str
    command: str
    """What helps."""


@dataclass(frozen=True)
class _Found:
    """A value, or all that stands in its way."""

    value: str | None = None
    problems: Sequence[_Problem] = ()

    def __repr__(self) -> str:
        return f"_Found({self.problems!r})"


def _missing(wanted: VaultSecret, versions: Sequence[SecretRow]) -> _Problem:
    """`versions`: those there are of the secret, newest first."""
    secret = f"--vault-name {wanted.vault} --name {wanted.name}"
    where = f"of the vault {wanted.vault}"
    if not versions:
        return _Problem(
            f"the secret {wanted.name} {where} is not there",
            f"moor keyvault secret set {secret} --file <file>",
        )
    named = [each for each in versions if each.version == wanted.version]
    if wanted.version and not named:
        return _Problem(
            f"the secret {wanted.name} {where} has no version {wanted.version}",
            f"moor keyvault secret list-versions {secret} -o table",
        )
    version = (named or versions)[0].version
    message = f"the secret {wanted.name}, version {version}, {where} is disabled"
    if not named:
        message = f"all versions of the secret {wanted.name} {where} are disabled"
    return _Problem(
        message, f"moor keyvault secret set-attributes {secret} --version {version} --enabled true"
    )


def _part(
    body: Mapping[str, Any], credentials: Mapping[str, Any], name: str, wanted: ConnectionPart
) -> str | None:
    if wanted.part is None:
        return json.dumps({"name": name, **body, "credentials": credentials})
    if wanted.part == "target":
        found = body.get("target")
    else:
        source = credentials if wanted.part == "credentials" else body.get("metadata") or {}
        found = source.get(wanted.key or "")
    return None if found is None else str(found)


def _grants(tx: Transaction, identity: Principal) -> list[Grant]:
    return [Grant(each.role, each.scope) for each in tx.assignments(identity.id)]


def _who(identity: Principal) -> str:
    return f"the {identity.kind} identity {identity.name}"


def _denied(code: str, what: str, identity: Principal, scope: str, endpoint: str) -> Failure:
    return failure(
        code,
        f"{_who(identity)} of endpoint {endpoint} may not {what}",
        target=endpoint,
        evidence=(f"principal id: {identity.id}", f"needed at: {scope}"),
        fields={"principal": identity.id, "scope": scope},
    )


def _failed(variable: str, target: str, problem: str, command: str | None) -> Failure:
    message = f"environment variable {variable}: {problem}"
    fix = sentence("{command}; then: {again}", command=command, again=AGAIN) if command else None
    return failure("SecretsInjectionError", message, target=target, fix=fix)


def _gone(endpoint: str) -> Failure:
    message = f"the user-assigned identity of endpoint {endpoint} is no longer there"
    fix = sentence(
        "Delete the endpoint and create it with an identity that is there: moor identity list -o table"
    )
    return failure("IdentityNotFound", message, target=endpoint, fix=fix)


def _raise(found: list[Failure]) -> None:
    if not found:
        return
    first = found[0]
    if len(found) == 1:
        raise MooringsError(first)
    evidence = (*first.evidence, *(f"and: {each.message}" for each in found[1:]))
    commands = " && ".join(dict.fromkeys(filter(None, map(_command, found))))
    fix = sentence("{command}; then: {again}", command=commands, again=AGAIN) if commands else first.remedy
    raise MooringsError(
        failure(first.code, first.message, target=first.target, evidence=evidence, details=found, fix=fix)
    )


def _command(failed: Failure) -> str:
    """What is typed before the deployment is sent again; empty where a file is to be edited instead."""
    command, _, _ = failed.fix.partition("; then: ")
    return command if command.startswith("moor ") else ""
