"""What a reconciler has found out about a resource: read from its row, changed in memory, written back when it differs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from moorings.errors.exceptions import Failure
from moorings.spec.status import READY, Condition, Conditions, Truth, mark
from moorings.state.database import Database
from moorings.state.transaction import OperationStatus, Resource

DEPLOYMENT_PHASES = ("accept", "assets", "environment", "instances", "gateway")
"""Phases of a deployment operation, in order; shown to whoever waits for it."""
ENDPOINT_PHASES = ("accept", "gateway")


class Status:
    """The observed half of a resource. `data` is JSON-safe and is what gets stored."""

    def __init__(self, resource: Resource, now: float) -> None:
        self._now = now
        self._generation = resource.generation
        self._name = resource.name
        self._before = dict(resource.status)
        self.data: dict[str, Any] = copy.deepcopy(self._before)

    @property
    def conditions(self) -> Conditions:
        return {k: Condition.from_json(v) for k, v in self.data.get("conditions", {}).items()}

    def mark(
        self, kind: str, truth: Truth, reason: str, message: str = "", failed: Failure | None = None
    ) -> None:
        """Set one condition for the current generation."""
        new = Condition(
            kind, truth, reason, message, self._generation, self._now, failed.to_json() if failed else None
        )
        marked = mark(self.conditions, new)
        self.data["conditions"] = {k: v.to_json() for k, v in marked.items()}

    def is_true(self, kind: str) -> bool:
        """Whether a condition is True for the current generation."""
        condition = self.conditions.get(kind)
        return (
            condition is not None
            and condition.generation == self._generation
            and condition.truth is Truth.TRUE
        )

    def begin(self, phases: Sequence[str]) -> bool:
        """Start a generation: phases anew, Ready unknown. False when it has begun before."""
        if self.data.get("generation") == self._generation:
            return False
        self.data["generation"] = self._generation
        self.data["gave_up"] = None
        self.data["phases"] = [
            {"name": name, "status": "waiting", "startedAt": None, "endedAt": None, "message": ""}
            for name in phases
        ]
        self.phase("accept", "done")
        self.mark(READY, Truth.UNKNOWN, "Progressing", "accepted")
        return True

    def phase(self, name: str, status: str, message: str = "") -> None:
        """Move a phase to `running`, `done` or `failed`; times move with the status."""
        for phase in self.data.get("phases", []):
            if phase["name"] != name:
                continue
            if phase["startedAt"] is None:
                phase["startedAt"] = self._now
            if status in ("done", "failed") and phase["endedAt"] is None:
                phase["endedAt"] = self._now
            phase["status"] = status
            if message or status == "running":
                phase["message"] = message

    def fail(self, phase: str, failed: Failure) -> None:
        """This generation has failed at `phase`: Ready is False with the failure, and it is not tried again."""
        failed = self._named(failed)
        self.phase(phase, "failed", failed.message)
        self.data["gave_up"] = {"generation": self._generation, "failure": failed.to_json()}
        self.mark(READY, Truth.FALSE, failed.code, failed.message, failed)

    def _named(self, failed: Failure) -> Failure:
        """The fix with the names of this deployment where whoever failed did not know them."""
        endpoint, _, deployment = self._name.partition("/")
        if not deployment:
            return failed
        return replace(failed, remedy=failed.remedy.knowing(endpoint=endpoint, deployment=deployment))

    @property
    def gave_up(self) -> Failure | None:
        found = self.data.get("gave_up")
        if found and found["generation"] == self._generation:
            return Failure.from_json(found["failure"])
        return None

    @property
    def before(self) -> Mapping[str, Any]:
        """As it is stored."""
        return self._before

    @property
    def changed(self) -> bool:
        return self.data != self._before

    def stored(self) -> None:
        self._before = copy.deepcopy(self.data)


def current_failure(status: Mapping[str, Any]) -> Failure | None:
    """The failure a resource's stored status carries, for views."""
    found = status.get("gave_up")
    return Failure.from_json(found["failure"]) if found else None


def fail_operations(database: Database, row: Resource, failed: Failure) -> None:
    """End what waits for `row` with a failure that is not its own; what is desired stays, and is worked on."""
    with database.write() as tx:
        tx.finish_operations(row, OperationStatus.FAILED, failed.to_json())
