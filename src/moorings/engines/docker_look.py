"""What an instance is, from what is seen of it: its container, the status its supervisor writes, our own notes.

Reads files that the user's code may write to, so it trusts none of them. Decides nothing but the phase, and whether a
container with a server of its own still lives.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from moorings.engines import layout
from moorings.engines.base import CONTAINER_SERVER, CONTAINERS, Exit, Instance, Phase
from moorings.engines.docker_config import LOOPBACK

LONGEST_STATUS_BYTES = 512 * 1024
CRASHES_IN_A_ROW = 3
"""Ends of a container with a server of its own, each soon after its start, before it counts as failed."""
SOON_S = 10.0
MOST_EXITS = 8
LONGEST_PATH_CHARS = 4096
_RUNNING_PHASES = frozenset({Phase.STARTING, Phase.RUNNING, Phase.BACKOFF, Phase.FAILED, Phase.STOPPING})


@dataclass(frozen=True)
class Sight:
    instance: Instance
    running: bool
    """Whether a container runs, or is about to."""

    @property
    def phase(self) -> Phase:
        return self.instance.phase


def look(
    data: Mapping[str, Any],
    container: Mapping[str, Any] | None,
    notes: Mapping[str, Any],
    *,
    locked: bool,
    stopping: bool = False,
) -> Sight:
    """`data`: what it was made from. `notes`: our own status of a start that failed. `locked`: a start is under way."""
    routes = data["template"]["container"]["routes"]
    state = {} if container is None else container["State"]
    up = bool(state.get("Running") or state.get("Restarting"))
    status = {} if routes or not up else _status(Path(data["run_folder"]) / layout.STATUS)
    phase = _phase(routes, state, status, notes, locked=locked)
    if stopping and (up or locked):
        phase = Phase.STOPPING
    addresses, probes = _addresses(data, routes)
    if phase is Phase.RUNNING and not routes and any(_is_link(path) for path in addresses):
        phase = Phase.STARTING  # never lead requests to where somebody's link points
    pids: dict[str, int] = {}
    if state.get("Pid"):
        pids["container"] = int(state["Pid"])
        pids.update(_pids(status))
    began = _seconds(state.get("StartedAt")) if up else None
    instance = Instance(
        id=data["id"],
        owner=data["owner"],
        revision=data["revision"],
        ordinal=data["ordinal"],
        phase=phase,
        addresses=addresses,
        started_at=began or float(notes.get("started_at") or data["created_at"]),
        restarts=_whole(status.get("restarts")) + (_whole(container.get("RestartCount")) if container else 0),
        exit=_exit(state, status, notes, routes),
        pids=pids,
        limits=_limits(container),
        probes=probes,
        probe_ports={address: int(routes["readiness_port"]) for address in probes} if routes else {},
        exits=_exits(status),
        code_dir=_text(status.get("code_dir")),
        model_dir=_text(status.get("model_dir")),
        boot_budget_s=_number(status.get("boot_budget_s")),
    )
    return Sight(instance, up or locked)


def _phase(
    routes: Mapping[str, Any] | None,
    state: Mapping[str, Any],
    status: Mapping[str, Any],
    notes: Mapping[str, Any],
    *,
    locked: bool,
) -> Phase:
    if locked:
        return Phase.STARTING
    if state.get("Restarting"):
        return Phase.BACKOFF
    if not state.get("Running"):
        return Phase.FAILED if notes.get("phase") == Phase.FAILED else Phase.GONE
    if routes:
        return Phase.RUNNING
    with contextlib.suppress(ValueError):
        phase = Phase(str(status.get("phase")))
        if phase in _RUNNING_PHASES:
            return phase
    return Phase.STARTING


def _addresses(
    data: Mapping[str, Any], routes: Mapping[str, Any] | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    if not routes:
        return tuple(data["sockets"]), {}
    ports = data["ports"]
    address = f"{LOOPBACK}:{ports[str(routes['scoring_port'])]}"
    probe = f"{LOOPBACK}:{ports[str(routes['readiness_port'])]}{routes['readiness_path']}"
    return (address,), {address: probe}


def _exit(
    state: Mapping[str, Any],
    status: Mapping[str, Any],
    notes: Mapping[str, Any],
    routes: Mapping[str, Any] | None,
) -> Exit | None:
    told = status.get("exit") or notes.get("exit")
    if isinstance(told, Mapping):
        return _told(told)
    finished = _seconds(state.get("FinishedAt"))
    if not state or not finished or (state.get("Running") and not routes):
        return None
    if state.get("Running") and not state.get(
        "Restarting"
    ):  # of one that runs again Docker says 0, whatever it ended with
        return Exit(code=None, signal=None, at=finished, **_oom(state))
    code = _whole(state.get("ExitCode"))
    by_signal = code > 128
    return Exit(
        code=None if by_signal else code,
        signal=code - 128 if by_signal else None,
        at=finished,
        **_oom(state),
    )


def _oom(state: Mapping[str, Any]) -> dict[str, Any]:
    """What Docker knows of it."""
    return (
        {"oom": True, "oom_sign": "Docker says of the container: OOMKilled"} if state.get("OOMKilled") else {}
    )


def _exits(status: Mapping[str, Any]) -> tuple[Exit, ...]:
    """The supervisor's list, as far as it is one."""
    told = status.get("exits")
    entries = told[-MOST_EXITS:] if isinstance(told, list) else []
    return tuple(_told(entry) for entry in entries if isinstance(entry, Mapping))


def _told(data: Mapping[str, Any]) -> Exit:
    """An end as the supervisor wrote it down; of what is not of its kind nothing is taken over."""
    report, step = data.get("report"), data.get("step")
    return Exit(
        code=_whole_or_none(data.get("code")),
        signal=_whole_or_none(data.get("signal")),
        at=_number(data.get("at")) or 0.0,
        report=report if isinstance(report, Mapping) else None,
        step=step if step in CONTAINERS else CONTAINER_SERVER,
        oom=data.get("oom") is True,
        oom_sign=str(data.get("oom_sign") or ""),
        oom_certain=data.get("oom_certain") is not False,
        served_s=_number(data.get("served_s")),
        memory_peak_bytes=_whole_or_none(data.get("memory_peak_bytes")),
    )


def _limits(container: Mapping[str, Any] | None) -> dict[str, str]:
    if container is None:
        return {}
    host = container.get("HostConfig") or {}
    held = {"memory": host.get("Memory"), "cpu": host.get("CpuQuota")}
    return {name: "cgroup" for name, value in held.items() if value}


def _pids(status: Mapping[str, Any]) -> dict[str, int]:
    """Of the workers, as they are called inside the container."""
    workers = status.get("workers")
    found: dict[str, int] = {}
    for worker in workers if isinstance(workers, list) else ():
        if isinstance(worker, Mapping) and worker.get("pid") is not None:
            found[f"worker-{_whole(worker.get('index'))}"] = _whole(worker["pid"])
    return found


def _status(path: Path) -> dict[str, Any]:
    """The supervisor's status: a plain file of bounded size or nothing, since code of the user may have put it there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return {}
        with os.fdopen(os.dup(fd), "rb") as handle:
            data = json.loads(handle.read(LONGEST_STATUS_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(fd)
    return data if isinstance(data, dict) else {}


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False


def _text(value: object) -> str:
    return value[:LONGEST_PATH_CHARS] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _whole_or_none(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(text: object) -> float | None:
    """Docker's time (nanoseconds, `0001-01-01` for never) as Unix seconds."""
    if not isinstance(text, str) or text.startswith("0001"):
        return None
    with contextlib.suppress(ValueError):
        head, _, tail = text.partition(".")
        fraction = "".join(c for c in tail if c.isdigit())[:6] if tail else ""
        base = datetime.fromisoformat(f"{head.removesuffix('Z')}+00:00").timestamp()
        return base + (float(f"0.{fraction}") if fraction else 0.0)
    return None


@dataclass
class _Life:
    """What is known of one start of a container."""

    begun: str
    next_at: float
    """When it is asked next, on the monotonic clock."""
    failures: int = 0
    """In a row."""
    asking: bool = False


class Liveness:
    """Liveness probes of containers with a server of their own, which nobody inside asks.

    Each question is asked on a thread of its own, at most one of an instance at a time, so that a server which hangs
    makes nobody wait; its answer counts at the next look. May be used from any thread.
    """

    def __init__(
        self,
        ask: Callable[[str, float], bool] | None = None,
        begin: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """`ask`: (address and path, seconds it may take) -> whether it lives; blocks. `begin`: runs one on a thread."""
        self._ask = ask or answers
        self._begin = begin or _on_a_thread
        self._lives: dict[str, _Life] = {}
        self._lock = threading.Lock()

    def is_dead(
        self, instance: str, container: Mapping[str, Any], address: str, times: Mapping[str, Any]
    ) -> bool:
        """Ask when it is time; True when it has failed as often in a row as `times` allow, and counting begins anew."""
        begun, now = str(container["State"].get("StartedAt")), time.monotonic()
        with self._lock:
            life = self._lives.get(instance)
            if life is None or life.begun != begun:
                self._lives[instance] = _Life(begun, now + float(times["initial_delay_s"]))
                return False
            if life.failures >= int(times["failure_threshold"]):
                del self._lives[instance]
                return True
            if life.asking or now < life.next_at:
                return False
            life.asking = True
            life.next_at = now + float(times["period_s"])
        self._begin(lambda: self._question(life, address, float(times["timeout_s"])))
        return False

    def forget(self, instance: str) -> None:
        with self._lock:
            self._lives.pop(instance, None)

    def _question(self, life: _Life, address: str, timeout_s: float) -> None:
        alive = False
        try:
            alive = self._ask(address, timeout_s)
        finally:
            with self._lock:
                life.failures = 0 if alive else life.failures + 1
                life.asking = False


def _on_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="liveness", daemon=True).start()


def answers(address: str, timeout_s: float) -> bool:
    """Whether `GET` at `host:port/path` is answered with 200. Blocks at most the time-out."""
    where, _, path = address.partition("/")
    host, _, port = where.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
