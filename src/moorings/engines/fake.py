"""An engine in memory that does as it is told, for tests and dry runs.

It starts nothing, and time passes only when its clock is moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from moorings import contract
from moorings.engines import layout
from moorings.engines.base import (
    CONTAINER_INITIALIZER,
    CONTAINER_SERVER,
    CONTAINERS,
    Exit,
    GroupSpec,
    Inspection,
    Instance,
    Phase,
)
from moorings.engines.policy import crashes_in_a_row, restart_delay_s
from moorings.errors.exceptions import error
from moorings.lib.logfile import Line, LogSource, most_telling, stamp
from moorings.lib.timing import Clock

FOLLOW_PERIOD_S = 0.01


@dataclass(frozen=True)
class Script:
    """How the instances of a revision behave. Times in seconds of the engine's clock."""

    boot_s: float = 0.0
    fails_with: Exit | None = None
    """The boot ends so, instead of becoming ready."""
    drain_s: float = 0.0
    """How long an instance takes to stop, if its grace allows."""


@dataclass
class _Running:
    group: GroupSpec
    ordinal: int
    script: Script
    began_at: float
    """Monotonic: of the current boot."""
    started_at: float
    ever_ran: bool = False
    ready_at: float | None = None
    restart_at: float | None = None
    restarts: int = 0
    crashes: int = 0
    stop_at: float | None = None
    gone: bool = False
    failed: bool = False
    exit: Exit | None = None
    exits: tuple[Exit, ...] = ()


@dataclass
class FakeEngine:
    """`Engine` in memory. See `engines/base.py` for what its methods promise."""

    clock: Clock
    scripts: Mapping[str, Script] = field(default_factory=dict)
    """Behaviour by revision; others boot at once."""
    run_dir: str = "/fake"
    """Prefix of the addresses, which nobody listens on."""
    name: str = "fake"

    def __post_init__(self) -> None:
        self._instances: dict[str, _Running] = {}
        self._owned: dict[str, dict[str, _Running]] = {}
        """The same by owner: to look at one must not cost a look at all."""
        self._logs: dict[tuple[str, str, str], list[Line]] = {}

    # --- Engine ---

    async def apply(self, group: GroupSpec) -> None:
        self._advance(group.owner)
        for ordinal in range(group.count):
            self._begin(group, ordinal)
        for running in self._of(group.owner, group.revision):
            if running.ordinal >= group.count:
                self._end(running, group.grace_s)

    async def observe(self, owner: str | None = None) -> Sequence[Instance]:
        self._advance(owner)
        found = [self._instance(key, running) for key, running in self._known(owner)]
        return sorted(found, key=lambda i: (i.owner, i.revision, i.ordinal))

    async def remove(self, owner: str, revision: str, *, grace_s: float) -> None:
        self._advance(owner)
        for running in self._of(owner, revision):
            self._end(running, grace_s)
        self._advance(owner)

    async def forget(self, owner: str) -> None:
        self._advance(owner)
        mine = self._known(owner)
        if any(_lives(r) for _, r in mine):
            return
        for key, running in mine:
            self._drop(key, running)

    async def logs(self, owner: str, *, container: str, tail: int, instance: str | None = None) -> str | None:
        if container not in CONTAINERS:
            raise error("LogContainerUnknown", f"there is no container {container!r}", target=container)
        source = most_telling(await self.log_sources(owner), container, instance)
        if source is None:
            return None
        lines = self._logs[owner, container, source.instance]
        return "".join(f"{line.text}\n" for line in (lines[-tail:] if tail > 0 else []))

    async def log_sources(self, owner: str) -> Sequence[LogSource]:
        self._advance()
        return [
            LogSource(
                key,
                container,
                running=key in self._instances and _phase(self._instances[key]) is Phase.RUNNING,
                ended=key not in self._instances,
                last_at=_last_at(self._logs[of, container, key], number),
            )
            for number, (of, container, key) in enumerate(self._logs)
            if of == owner
        ]

    async def log_lines(self, owner: str, source: LogSource, *, most: int | None) -> Iterator[Line]:
        return reversed(list(self._logs[owner, source.container, source.instance]))

    async def follow_log(self, owner: str, source: LogSource, *, after: float) -> AsyncGenerator[Line, None]:
        limit, position = stamp(after).decode().strip(), 0
        while True:
            lines = self._logs[owner, source.container, source.instance]
            while position < len(lines):
                position += 1
                if lines[position - 1].at > limit:
                    yield lines[position - 1]
            if source.instance not in self._instances:
                return
            await asyncio.sleep(FOLLOW_PERIOD_S)

    async def inspect(self, instance: Instance) -> Inspection:
        return Inspection()

    # --- what a test makes happen ---

    def crash(self, instance: str, *, code: int | None = 1, signal: int | None = None) -> None:
        """Its workers end, as by themselves."""
        self._advance()
        self._worker_ended(self._instances[instance], Exit(code, signal, self.clock.now()))

    def lose(self, instance: str) -> None:
        """Whoever keeps it alive is killed, and it with it: GONE."""
        self._advance()
        self._instances[instance].gone = True

    def write_log(self, instance: str, line: str, *, container: str = CONTAINER_SERVER) -> None:
        self._advance()
        owner = self._instances[instance].group.owner
        said = Line(stamp(self.clock.now()).decode().strip(), line)
        self._logs.setdefault((owner, container, instance), []).append(said)

    def leave_log(self, owner: str, container: str, instance: str, lines: Sequence[Line]) -> None:
        """A log, as an instance that has ended leaves it."""
        self._logs[owner, container, instance] = list(lines)

    # --- the passing of time ---

    def _advance(self, owner: str | None = None) -> None:
        """To this moment; `owner`: its instances alone."""
        now = self.clock.monotonic()
        for key, running in self._known(owner):
            if running.stop_at is not None and now >= running.stop_at:
                self._drop(key, running)
            elif running.stop_at is None and not running.gone and not running.failed:
                self._advance_one(key, running, now)

    def _advance_one(self, key: str, running: _Running, now: float) -> None:
        if running.restart_at is not None and now >= running.restart_at:
            running.began_at, running.restart_at = running.restart_at, None
            running.restarts += _proven(running)
        ready_at = running.began_at + running.script.boot_s
        if running.restart_at is None and running.ready_at is None and now >= ready_at:
            owner = running.group.owner
            self._logs.setdefault((owner, CONTAINER_INITIALIZER, key), [])
            self._logs.setdefault((owner, CONTAINER_SERVER, key), [])
            if running.script.fails_with is not None and not running.ever_ran:
                self._worker_ended(running, running.script.fails_with)
            else:
                running.ready_at, running.ever_ran = ready_at, True

    def _worker_ended(self, running: _Running, exit: Exit) -> None:
        now = self.clock.monotonic()
        served_s = None if running.ready_at is None else now - running.ready_at
        running.exit, running.ready_at = exit, None
        running.exits = (*running.exits, replace(exit, served_s=served_s))
        running.crashes = crashes_in_a_row(running.crashes, served_s=served_s or 0.0)
        kind = None if exit.report is None else exit.report.get("kind")
        delay_s = restart_delay_s(proven=_proven(running), code=exit.code, kind=kind, crashes=running.crashes)
        if delay_s is None:
            running.failed = True
        else:
            running.restart_at = now + delay_s

    # --- instances ---

    def _begin(self, group: GroupSpec, ordinal: int) -> None:
        key = layout.instance_id(group.owner, group.revision, ordinal)
        known = self._instances.get(key)
        if known is None or known.gone:
            script = self.scripts.get(group.revision, Script())
            made = _Running(group, ordinal, script, self.clock.monotonic(), self.clock.now())
            self._instances[key] = self._owned.setdefault(group.owner, {})[key] = made

    def _end(self, running: _Running, grace_s: float) -> None:
        now = self.clock.monotonic()
        needs_s = min(running.script.drain_s, grace_s) if _lives(running) else 0.0
        stop_at = now + needs_s
        running.stop_at = stop_at if running.stop_at is None else min(running.stop_at, stop_at)

    def _of(self, owner: str, revision: str) -> list[_Running]:
        return [running for _, running in self._known(owner) if running.group.revision == revision]

    def _known(self, owner: str | None) -> list[tuple[str, _Running]]:
        return list((self._instances if owner is None else self._owned.get(owner, {})).items())

    def _drop(self, key: str, running: _Running) -> None:
        del self._instances[key], self._owned[running.group.owner][key]

    def _instance(self, key: str, running: _Running) -> Instance:
        template = running.group.template
        workers = layout.worker_count(
            dict(template.environment_variables),
            contract.ENV_WORKER_COUNT,
            template.max_concurrent_requests,
        )
        return Instance(
            id=key,
            owner=running.group.owner,
            revision=running.group.revision,
            ordinal=running.ordinal,
            phase=_phase(running),
            addresses=tuple(f"{self.run_dir}/{key}-{index}.sock" for index in range(workers)),
            started_at=running.started_at,
            restarts=running.restarts,
            exit=running.exit,
            exits=running.exits,
        )


def _last_at(lines: Sequence[Line], number: int) -> float:
    """When a log was written last; of those with the same time the one that was made last is the newest."""
    at = datetime.fromisoformat(lines[-1].at).timestamp() if lines and lines[-1].at else 0.0
    return at + number * 1e-6


def _lives(running: _Running) -> bool:
    return not running.gone and not running.failed


def _proven(running: _Running) -> bool:
    return running.ever_ran or running.group.proven


def _phase(running: _Running) -> Phase:
    if running.stop_at is not None:
        return Phase.STOPPING
    if running.gone:
        return Phase.GONE
    if running.failed:
        return Phase.FAILED
    if running.ready_at is not None:
        return Phase.RUNNING
    waits = running.restart_at is not None and _proven(running)
    return Phase.BACKOFF if waits else Phase.STARTING
