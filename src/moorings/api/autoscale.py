"""Autoscale settings: which deployment is scaled by what. No HTTP here.

A setting lives in the row of its deployment and goes with it. Quota is held for the most it allows, from the moment it is
accepted: an instance that scaling asks for is never refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moorings.api.quota import Quotas
from moorings.errors.exceptions import MooringsError, error
from moorings.spec.autoscale import OF_ENDPOINTS, AutoscaleSetting, setting_from_arm, setting_to_arm
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.scaling import count_of, most_of, scales
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, Resource, Transaction

_TARGET = re.compile(
    r".*/onlineEndpoints/(?P<endpoint>[^/]+)(?:/deployments/(?P<deployment>[^/]+))?/?", re.IGNORECASE
)


@dataclass(frozen=True)
class AutoscaleSettings:
    database: Database
    quotas: Quotas
    workspace: str
    """ARM path of the workspace."""
    hint: Callable[[str, str], None]

    def all(self) -> list[dict[str, Any]]:
        with self.database.read() as tx:
            found = [row.autoscale for row in tx.resources(DEPLOYMENT) if row.autoscale and not row.deleting]
        return sorted((self._document(one) for one in found), key=lambda one: str(one["name"]))

    def get(self, name: str) -> dict[str, Any]:
        """Raises AutoscaleNotFound."""
        with self.database.read() as tx:
            return self._document(self._row(tx, name).autoscale or {})

    def put(self, name: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Create or replace; whether it is new. Raises SpecInvalid, DeploymentNotFound, AutoscaleConflict, OutOfQuota,
        OutOfCapacity (the user's fault)."""
        setting = setting_from_arm(name, body)
        key = _key(setting)
        _check_resources(setting, key)
        capacity = self.quotas.capacity()
        with self.database.write() as tx:
            row = _deployment(tx, key)
            self._check_alone(tx, name, row)
            document = self._document(setting_to_arm(setting))
            old = row.autoscale
            if document == old:
                return document, False
            self._accept(tx, row, document, capacity)
        self.hint(DEPLOYMENT, key)
        return document, old is None

    def delete(self, name: str) -> bool:
        """False when it is not there (which is success). The deployment keeps the instances it has."""
        capacity = self.quotas.capacity()
        with self.database.write() as tx:
            try:
                row = self._row(tx, name)
            except MooringsError:
                return False
            self._accept(tx, row, None, capacity)
        self.hint(DEPLOYMENT, row.name)
        return True

    # --- parts ---

    def _accept(
        self, tx: Transaction, row: Resource, document: Mapping[str, Any] | None, capacity: Any
    ) -> None:
        plain = dict(row.spec)
        going_on = scales(plain, document)
        if not going_on and row.scale is not None:
            # Switched off it stays as it is: the count that was decided becomes the one that is asked for.
            spec = DeploymentSpec.model_validate(row.spec)
            plain["instance_count"] = max(1, count_of(spec, row.autoscale, row.scale))
        earlier = self.quotas.admit(tx, row.name, plain, row, capacity, document)
        held = most_of(document) != most_of(row.autoscale)
        changed = tx.put(DEPLOYMENT, row.name, plain, touch=held, earlier=earlier)
        tx.set_autoscale(changed, document)
        if not going_on:
            tx.set_scale(changed, None)

    def _check_alone(self, tx: Transaction, name: str, row: Resource) -> None:
        endpoint, _, deployment = row.name.partition("/")
        fields = {"name": name, "endpoint": endpoint, "deployment": deployment}
        for other in tx.resources(DEPLOYMENT):
            if other.name != row.name and other.autoscale and _named(other.autoscale, name):
                message = f"the autoscale setting {name} scales {other.name}, not {row.name}"
                raise error("AutoscaleConflict", message, target=name, fields=fields)
        if row.autoscale and not _named(row.autoscale, name):
            message = f"{row.name} has the autoscale setting {row.autoscale['name']} already"
            fields["name"] = row.autoscale["name"]
            raise error("AutoscaleConflict", message, target=name, fields=fields)
        if scales(row.spec, None):
            message = f"{row.name} scales by target utilization: scale_settings.type is target_utilization"
            raise error("AutoscaleConflict", message, target=name, fields=fields)

    def _row(self, tx: Transaction, name: str) -> Resource:
        for row in tx.resources(DEPLOYMENT):
            if row.autoscale and not row.deleting and _named(row.autoscale, name):
                return row
        raise error("AutoscaleNotFound", f"there is no autoscale setting {name}", target=name)

    def _document(self, document: Mapping[str, Any]) -> dict[str, Any]:
        group = self.workspace.partition("/providers/")[0]
        id_ = f"{group}/providers/Microsoft.Insights/autoscaleSettings/{document['name']}"
        return {**document, "id": id_}


def _named(document: Mapping[str, Any], name: str) -> bool:
    return str(document["name"]).lower() == name.lower()


def _key(setting: AutoscaleSetting) -> str:
    found = _TARGET.fullmatch(setting.target)
    if found is None or found["deployment"] is None:
        message = (
            f"properties.targetResourceUri: found {setting.target[:200]!r}; expected the id of a deployment"
        )
        raise error("RequestInvalid", message, target="properties.targetResourceUri")
    return f"{found['endpoint']}/{found['deployment']}"


def _check_resources(setting: AutoscaleSetting, key: str) -> None:
    """A rule looks at the deployment itself, or at the endpoint it is of."""
    endpoint = key.partition("/")[0]
    for profile in setting.profiles:
        for rule in profile.rules:
            found = _TARGET.fullmatch(rule.resource or setting.target)
            own = found is not None and found["endpoint"] == endpoint
            if not own or (found and found["deployment"] and f"{endpoint}/{found['deployment']}" != key):
                message = f"{rule.condition}: it looks at {rule.resource}; expected {key} or its endpoint"
                raise error("RequestInvalid", message, target="metricResourceUri")
            if found is not None and found["deployment"] is None and rule.metric not in OF_ENDPOINTS:
                names = ", ".join(sorted(OF_ENDPOINTS))
                message = f"{rule.condition}: an endpoint has no {rule.metric}; it has {names}"
                raise error("RequestInvalid", message, target="metricName")


def _deployment(tx: Transaction, key: str) -> Resource:
    row = tx.resource(DEPLOYMENT, key)
    if row is None or row.deleting:
        endpoint, _, deployment = key.partition("/")
        fields = {"endpoint": endpoint, "deployment": deployment}
        message = f"endpoint {endpoint} has no deployment {deployment}"
        raise error("DeploymentNotFound", message, target=key, fields=fields)
    return row
