"""Quota and capacity of the workspace: admitting deployments, what is used and by whom, setting limits. No HTTP here.

A deployment is admitted in the transaction that accepts it, which holds the write lock from its beginning: what is read
there is what is true when the row is written, however many ask at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from moorings.api.quota_refusal import failure_with, refusal, refuse
from moorings.errors.exceptions import Failure, MooringsError, failure
from moorings.errors.sentence import sentence
from moorings.spec import quota
from moorings.spec.quota import CORES, LIMITABLE, REGION, Capacity, Fit, Holding
from moorings.spec.scaling import most_of
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, Resource, Transaction

MAX_LIMIT = 1_000_000


@dataclass(frozen=True)
class Usage:
    """One limit of the workspace and what is used of it."""

    name: str
    limit: int
    """What may be used: the smaller of quota and capacity."""
    used: int
    quota: int | None
    """As the workspace has set it."""
    holders: tuple[tuple[Holding, int], ...]
    """Largest first."""


@dataclass(frozen=True)
class Quotas:
    database: Database
    capacity: Callable[[], Capacity]

    # --- admitting ---

    def admit(
        self,
        tx: Transaction,
        key: str,
        spec: Mapping[str, Any],
        old: Resource | None,
        capacity: Capacity,
        setting: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Take what `spec` (plain, as it will be stored) needs with this autoscale setting; returns `earlier` for the row.

        Raises OutOfQuota, OutOfCapacity, InstanceTypeTooLarge (the user's fault); nothing is taken then.
        """
        quotas = tx.quotas(REGION)
        found, before = self._fit(tx, key, spec, old, setting, quotas, capacity)
        if not found.fits:
            found = quota.held_by(found, self._others(tx, {key}, capacity))
        refuse(found, spec, quotas, capacity)
        return before.to_json(old.generation + 1) if old is not None else None

    def would_fit(
        self, key: str, spec: Mapping[str, Any] | None, beside: Mapping[str, Mapping[str, Any]] | None = None
    ) -> tuple[Fit, Failure | None]:
        """Whether a deployment of this spec would be admitted now, what the rest is held by, and the refusal.

        `spec` needs `instance_type`, `instance_count` and `scale_settings` only; None: what is deployed under the name.
        `beside`: others, by key, that are to be admitted before it. Raises DeploymentNotFound for None. Takes nothing.
        """
        capacity = self.capacity()
        with self.database.read() as tx:
            old = tx.resource(DEPLOYMENT, key)
            if spec is None:
                if old is None:
                    raise _not_there(key)
                spec = old.spec
            quotas = tx.quotas(REGION)
            first = {name: self._after(tx, name, given, capacity) for name, given in (beside or {}).items()}
            spec = {**(old.spec if old else {}), **spec}
            found, _ = self._fit(tx, key, spec, old, old.autoscale if old else None, quotas, capacity, first)
            others = self._others(tx, {key, *first}, capacity)
            found = quota.held_by(found, [*others, *first.values()])
        return found, None if found.fits else refusal(found, spec, quotas, capacity, first)

    def _after(self, tx: Transaction, key: str, spec: Mapping[str, Any], capacity: Capacity) -> Holding:
        """What a deployment will hold once it has been admitted."""
        old = tx.resource(DEPLOYMENT, key)
        setting = old.autoscale if old else None
        return _needs(key, {**(old.spec if old else {}), **spec}, old, setting, capacity)[0]

    def _fit(
        self,
        tx: Transaction,
        key: str,
        spec: Mapping[str, Any],
        old: Resource | None,
        setting: Mapping[str, Any] | None,
        quotas: Mapping[str, int],
        capacity: Capacity,
        first: Mapping[str, Holding] | None = None,
    ) -> tuple[Fit, quota.Carried]:
        """`first`: what others will hold that come before it, by key."""
        first = first or {}
        needs, before = _needs(key, spec, old, setting, capacity)
        now = None if old is None else held(old, capacity)
        used = quota.amounts_of(tx.held(apart={key, *first}), capacity)
        for one in first.values():
            for name, much in one.amounts.items():
                used[name] = used.get(name, 0) + much
        return quota.fit(needs, now, used, quotas, capacity), before

    def _others(self, tx: Transaction, apart: Collection[str], capacity: Capacity) -> list[Holding]:
        """What each of the others holds. Only whoever is to be told asks for it: there may be very many."""
        found = tx.holdings().items()
        return [quota.holding_of(name, counts, capacity) for name, counts in found if name not in apart]

    # --- what there is ---

    def usages(self) -> list[Usage]:
        """All limits in a fixed order: regional total, memory, GPUs, then the families."""
        capacity = self.capacity()
        with self.database.read() as tx:
            return self._usages(tx, capacity)

    def _usages(self, tx: Transaction, capacity: Capacity) -> list[Usage]:
        quotas = tx.quotas(REGION)
        amounts = [(one, one.amounts) for one in self._others(tx, (), capacity)]
        total = min(capacity.limits[CORES], quotas.get(CORES, MAX_LIMIT))
        found = []
        for name in (*capacity.limits, *quota.FAMILIES):
            holders = [(one, much[name]) for one, much in amounts if much.get(name)]
            holders.sort(key=lambda pair: (-pair[1], pair[0].deployment))
            most = total if name == CORES else capacity.limits.get(name, total)
            limit = min(most, quotas.get(name, most))
            found.append(
                Usage(name, limit, sum(much for _, much in holders), quotas.get(name), tuple(holders))
            )
        return found

    def limits(self) -> dict[str, int]:
        """Name -> quota, for what the workspace has set."""
        with self.database.read() as tx:
            return tx.quotas(REGION)

    def set_limits(self, wanted: Mapping[str, int | None]) -> None:
        """Set all of them or none; None takes a limit away. Raises QuotaLimitInvalid naming every wrong one."""
        capacity = self.capacity()
        named = {_canonical(name): limit for name, limit in wanted.items()}
        with self.database.write() as tx:
            used = {one.name: one for one in self._usages(tx, capacity)}
            after = {**tx.quotas(REGION), **named}
            problems = [
                p for name, limit in named.items() if (p := _wrong(name, limit, used, after)) is not None
            ]
            if problems:
                raise MooringsError(
                    problems[0] if len(problems) == 1 else failure_with(problems[0], tuple(problems))
                )
            for name, limit in named.items():
                tx.set_quota(REGION, name, limit)


def _needs(
    key: str,
    spec: Mapping[str, Any],
    old: Resource | None,
    setting: Mapping[str, Any] | None,
    capacity: Capacity,
) -> tuple[Holding, quota.Carried]:
    """What a deployment with this autoscale setting will hold, and what of that is of its earlier generations. `old`:
    what is deployed of it."""
    before = quota.Carried()
    if old is not None:
        left = quota.carried(old.earlier, old.status)
        rolling = left.rolling or quota.rolls(old.spec, spec)
        before = quota.carry_on(held(old, capacity), rolling=rolling)
    return quota.holding(key, spec, before, capacity, most_of(setting)), before


def held(row: Resource, capacity: Capacity) -> Holding:
    """What the row of a deployment holds; until the row is gone, whatever state it is in."""
    left = quota.carried(row.earlier, row.status)
    return quota.holding(row.name, row.spec, left, capacity, most_of(row.autoscale))


def _canonical(name: str) -> str:
    """The name as it is stored, whatever case it was written in; itself where there is no such."""
    return next((known for known in LIMITABLE if known.lower() == name.lower()), name)


def _wrong(
    name: str, limit: int | None, used: Mapping[str, Usage], after: Mapping[str, int | None]
) -> Failure | None:
    setting = f"moor quota set --resource-name {name} --limit"
    if name not in LIMITABLE:
        message = f"there is no quota named {name!r} (InvalidVMFamilyName)"
        return failure(
            "QuotaLimitInvalid",
            message,
            target=name,
            evidence=(f"names: {', '.join(LIMITABLE)}",),
            fix=sentence(
                "Name one of them: {command}",
                command=f"moor quota set --resource-name {CORES} --limit <vCPUs>",
            ),
        )
    if limit is None:
        return None
    fix = sentence("Give a whole number: {command}", command=f"{setting} {max(used[name].used, 0)}")
    if not 0 <= limit <= MAX_LIMIT:
        return failure(
            "QuotaLimitInvalid", f"{name}: {limit} is not from 0 to {MAX_LIMIT}", target=name, fix=fix
        )
    one = used[name]
    if limit < one.used:
        message = f"{name}: {limit} is less than the {one.used} vCPUs that are held (InvalidQuotaBelowClusterMinimum)"
        evidence = [f"held: {amount} by {who.deployment}" for who, amount in one.holders[:10]]
        endpoint, _, deployment = one.holders[0][0].deployment.partition("/")
        command = f"moor online-deployment delete -e {endpoint} -n {deployment} --yes"
        remedy = sentence("Delete what is not used first: {command}", command=command)
        return failure("QuotaLimitInvalid", message, target=name, evidence=evidence, fix=remedy)
    total = after.get(CORES)
    if name != CORES and total is not None and limit > total:
        message = (
            f"{name}: {limit} is more than the {total} of all families (InvalidQuotaExceedsSubscriptionLimit)"
        )
        command = f"moor quota set --resource-name {CORES} --limit {limit}"
        remedy = sentence("Raise that first: {command}", command=command)
        return failure("QuotaLimitInvalid", message, target=name, fix=remedy)
    return None


def _not_there(key: str) -> MooringsError:
    endpoint, _, name = key.partition("/")
    fields = {"endpoint": endpoint, "deployment": name}
    message = f"endpoint {endpoint} has no deployment {name}"
    return MooringsError(failure("DeploymentNotFound", message, target=key, fields=fields))
