"""Keeps one instance alive with nobody else's help: storage initializer, then workers, restarts, liveness,
logs, stop.

Usage: python -m moorings.engines.supervisor INSTANCE_FOLDER [LOCK_FD PRIVATE_FD]

It holds the lock of the folder (a descriptor it was started with) for its whole life, reads
`instance.json`, obeys `stop.json`, writes `status.json`. One thread, one selector, standard library: it is
paid for by every instance. It knows neither the daemon nor the gateway; both may be down.

In a container it is the first process, run by the Python of the image: this module and all it imports have to
work with Python 3.8.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from moorings import contract
from moorings.engines import children, layout, policy
from moorings.engines.cgroup import ContainerGroup, Group, delegated_parent
from moorings.engines.ends import Ends, boot_report, how, report_of
from moorings.engines.initializing import Initializer
from moorings.engines.kernellog import KernelLog
from moorings.engines.lastword import with_last_word
from moorings.engines.launch import Launch, private_of
from moorings.engines.liveness import Liveness
from moorings.engines.metadata import Connection, Metadata
from moorings.engines.output import Output
from moorings.engines.outputs import Outputs
from moorings.engines.worker import Worker
from moorings.lib import atomic, procs
from moorings.lib.redaction import Redactor, secret_values, with_their_lines

SERVER, INITIALIZER = "inference-server", "storage-initializer"
STARTING, RUNNING, BACKOFF, FAILED, STOPPING = "starting", "running", "backoff", "failed", "stopping"
BOOT_POLL_S = 0.02
"""How often a worker that boots is looked at."""
LONGEST_SLEEP_S = 5.0
UNREADY_GRACE_S = 2.0
"""Grace on stop for what has no requests yet."""
LAST_KILL_S = 5.0
LAST_WORDS_S = 0.25
"""How long a worker that is to be killed may say where it is."""


class Supervisor:
    """The state of one instance and what to do about each event. Times are monotonic seconds unless named
    `at`."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.phase = STARTING
        self.started_at = time.time()
        self.workers = [Worker(index, path) for index, path in enumerate(launch.sockets)]
        self.ever_ran = False
        self.stop_at: float | None = None
        self.unready_stop_at: float | None = None
        self.grace_s = launch.grace_s
        self._written = b""
        self.group = _group(launch)
        self.ends = Ends(self.group, time.monotonic(), None if launch.in_container else KernelLog())
        self.selector = selectors.DefaultSelector()
        self.outputs = Outputs(self.selector, launch, self.redactor)
        self.initializer = Initializer(launch, INITIALIZER, lambda: self.outputs.writer(INITIALIZER))
        self.liveness = Liveness(self.selector, launch.liveness)
        self._signals = children.signal_socket()
        self._stop_asked = self._stacks_asked = False
        self.selector.register(self._signals, selectors.EVENT_READ, None)
        self.metadata = self._serve_metadata()

    def _serve_metadata(self) -> Metadata | None:
        """Tokens for the instance's identity, on loopback; an instance without them still serves."""
        if self.launch.identity is None:
            return None
        try:
            metadata = Metadata(self.selector, self.launch.identity)
        except OSError as problem:
            sys.stderr.write(f"no tokens for the identity: {problem}\n")
            return None
        self.launch.metadata = metadata.variables()
        return metadata

    def redactor(self) -> Redactor:
        """Knows what this instance must keep to itself."""
        values = [*secret_values(self.launch.variables), *self.launch.secrets.values()]
        if self.metadata is not None:
            values.append(self.metadata.header)
        return Redactor(with_their_lines(values))

    # --- the loop ---

    def run(self) -> int:
        """Until the instance has stopped or failed; 0 then."""
        self._write_status()
        self._look_for_stop()
        while True:
            now = time.monotonic()
            self._reap(now)
            self.ends.look(now)
            self._finish_kills(now)
            if self.phase == STOPPING:
                if self._stopping(now):
                    return self._stopped()
            elif self.phase != FAILED:
                self._start_what_is_due(now)
                self._watch_boots(now)
                self._watch_liveness(now)
                self._settle_phase()
            if self.phase == FAILED:
                return self._failed()
            self._write_status()
            self._wait(self._sleep_s(time.monotonic()))

    def _wait(self, timeout_s: float) -> None:
        for key, _ in self.selector.select(timeout_s):
            if isinstance(key.data, Output):
                key.data.pump()
            elif isinstance(key.data, (Metadata, Connection)):
                key.data.step()
            elif key.fileobj is self._signals:
                told = self._signals.recv(4096)
                self._stop_asked |= signal.SIGTERM in told
                self._stacks_asked |= children.STACKS in told
        self.outputs.settle(time.monotonic())
        if self._stacks_asked:
            self._stacks_asked = False
            for worker in self.workers:
                self._ask_where(worker)
        if self._stop_asked:
            self._stop_asked = False
            self._begin_stop()

    def _sleep_s(self, now: float) -> float:
        times = [now + LONGEST_SLEEP_S]
        times += [w.start_at for w in self.workers if w.start_at is not None and self.initializer.done]
        due = [self.initializer.start_at, self.unready_stop_at, self.stop_at, self.liveness.next_at(now)]
        due += [self.outputs.settle_at()]
        times += [t for t in due if t is not None]
        metadata_at = None if self.metadata is None else self.metadata.expire(now)
        times += [] if metadata_at is None else [metadata_at]
        times += [w.kill_at for w in self.workers if w.kill_at is not None]
        for w in self.workers if self.phase != STOPPING else []:
            if w.killed_for is not None:
                continue  # its end comes as a signal
            if w.pid is not None and not w.ready:
                times.append(now + BOOT_POLL_S)
        return max(0.0, min(times) - now)

    # --- starting ---

    def _start_what_is_due(self, now: float) -> None:
        if not self.initializer.done:
            if self.initializer.is_due(now):
                try:
                    self.initializer.start()
                except (OSError, subprocess.SubprocessError) as problem:
                    refused = report_of(layout.KIND_CANNOT_START, str(problem))
                    self._initializer_ended(now, None, None, refused)
            return
        for worker in self.workers:
            if worker.start_at is not None and worker.start_at <= now and self.phase != FAILED:
                self._start_worker(worker, now)

    def _start_worker(self, worker: Worker, now: float) -> None:
        launch = self.launch
        for path in (worker.socket, launch.boot_report(worker.index)):
            path.unlink(missing_ok=True)
        if self.ever_ran or (launch.proven and worker.crashes):
            worker.restarts += 1
        try:
            launch.app_root.mkdir(parents=True, exist_ok=True)
            pid = children.start(
                launch.worker_argv,
                env=launch.worker_environment(os.environ, worker.index),
                cwd=launch.app_root,
                output_fd=self.outputs.writer(SERVER),
                enter=self.group.enter,
            )
        except (OSError, subprocess.SubprocessError) as problem:
            text = f"cannot start {launch.python}: {problem}"
            self._worker_ended(worker, now, None, None, report_of(layout.KIND_CANNOT_START, text))
            return
        worker.started(pid, now)

    def _watch_boots(self, now: float) -> None:
        budget_s = self.launch.boot_budget_s()
        for worker in self.workers:
            if worker.pid is None or worker.ready or worker.killed_for is not None:
                continue
            if worker.socket.exists():
                worker.became_ready(now)
                first_at = max(now, worker.begun_at + float(self.launch.liveness["initial_delay_s"]))
                self.liveness.watch(worker.index, str(worker.socket), first_at)
            elif now - worker.begun_at > budget_s:
                text = f"worker {worker.index} was not ready {budget_s:g} s after its start"
                self._kill(worker, layout.KIND_BOOT_TIMEOUT, text, seconds=budget_s)

    def _settle_phase(self) -> None:
        if self.phase == FAILED:
            return
        ready = [w.ready for w in self.workers]
        if all(ready):
            self.ever_ran = True
        if not self.ever_ran and not self.launch.proven:
            self.phase = STARTING
        elif any(ready):
            self.phase = RUNNING
        else:
            waits = all(w.pid is None and w.crashes for w in self.workers)
            self.phase = BACKOFF if waits else STARTING

    # --- liveness ---

    def _watch_liveness(self, now: float) -> None:
        for index, failures in self.liveness.failed(now):
            text = f"worker {index} failed its liveness probe {failures} times in a row"
            self._kill(self.workers[index], layout.KIND_LIVENESS, text)

    def _kill(self, worker: Worker, kind: str, text: str, **more: Any) -> None:
        self.outputs.say(SERVER, f"{text}: killed")
        worker.killed_for = report_of(kind, text, **more)
        self.liveness.forget(worker.index)
        worker.kill_at = time.monotonic() + (LAST_WORDS_S if self._ask_where(worker) else 0.0)

    def _ask_where(self, worker: Worker) -> bool:
        """Have it print where its threads are; whether it can."""
        if worker.pid is None or not children.catches(worker.pid, children.STACKS):
            return False
        self.outputs.say(SERVER, f"worker {worker.index} is asked where it is:")
        children.kill(worker.pid, children.STACKS)
        return True

    def _finish_kills(self, now: float) -> None:
        for worker in self.workers:
            if worker.kill_at is not None and worker.pid is not None and now >= worker.kill_at:
                worker.kill_at = None
                procs.signal_group(worker.pid, signal.SIGKILL)

    # --- ends ---

    def _reap(self, now: float) -> None:
        ended = list(children.reap())
        for pid, code, signum, peak_bytes in ended:
            if pid == self.initializer.pid:
                self._initializer_ended(now, code, signum, None)
            for worker in self.workers:
                if worker.pid == pid:
                    report = worker.killed_for or boot_report(
                        self.launch.boot_report(worker.index), pid, self.redactor()
                    )
                    self._worker_ended(worker, now, code, signum, report, peak_bytes)
        if ended:
            self._end_strays()

    def _initializer_ended(
        self, now: float, code: int | None, signum: int | None, report: dict[str, Any] | None
    ) -> None:
        if self.initializer.ended(code):
            return
        self.ends.note(INITIALIZER, code, signum, report or report_of(layout.KIND_INITIALIZER, ""), now=now)
        if self.phase == STOPPING:
            return
        if not self.initializer.try_again(now, code, refused=report is not None):
            self.phase = FAILED

    def _worker_ended(
        self,
        worker: Worker,
        now: float,
        code: int | None,
        signum: int | None,
        report: dict[str, Any] | None,
        peak_bytes: int | None = None,
    ) -> None:
        self.liveness.forget(worker.index)
        served_s = now - worker.ready_at if worker.ready else None
        pid = worker.pid
        worker.ended()
        if self.phase == STOPPING:
            return
        self.ends.note(
            SERVER, code, signum, report, now=now, pid=pid, served_s=served_s, peak_bytes=peak_bytes
        )
        worker.crashes = policy.crashes_in_a_row(worker.crashes, served_s=served_s or 0.0)
        kind = None if report is None else report.get("kind")
        delay_s = policy.restart_delay_s(
            proven=self.ever_ran or self.launch.proven,
            code=code,
            kind=kind,
            crashes=worker.crashes,
            over_its_limit=self.ends.over_memory,
        )
        ended = f"worker {worker.index} ended ({how(code, signum)})"
        if delay_s is None:
            self.outputs.say(SERVER, f"{ended}; the instance has failed")
            self.phase = FAILED
        else:
            self.outputs.say(SERVER, f"{ended}; it starts again in {delay_s:g} s")
            worker.start_at = now + delay_s

    def _end_strays(self) -> None:
        """Kill what workers that are no more have left behind (by double fork, or in another session)."""
        known = {w.pid for w in self.workers if w.pid is not None}
        if self.initializer.pid is not None:
            known.add(self.initializer.pid)
        for pid in children.adopted(known):
            index = children.variable_of(pid, contract.ENV_WORKER_INDEX) or ""
            known_owner = index.isdigit() and int(index) < len(self.workers)
            owners = [self.workers[int(index)]] if known_owner else self.workers
            ticks = procs.start_ticks(pid)
            if ticks is None or all(w.pid is None or ticks < (w.ticks or 0) for w in owners):
                children.kill(pid)

    # --- the end ---

    def _look_for_stop(self) -> None:
        if (self.launch.folder / layout.STOP).exists():
            self._begin_stop()

    def _begin_stop(self) -> None:
        """Also when told again: a shorter grace counts, a longer one does not."""
        grace_s = self.grace_s
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            grace_s = float(json.loads((self.launch.folder / layout.STOP).read_bytes())["grace_s"])
        now = time.monotonic()
        stop_at = now + max(0.0, grace_s)
        first = self.stop_at is None
        self.stop_at = stop_at if self.stop_at is None else min(self.stop_at, stop_at)
        self.unready_stop_at = min(now + UNREADY_GRACE_S, self.stop_at)
        if not first:
            return
        self.phase = STOPPING
        self.initializer.start_at = None
        if self.initializer.pid is not None:
            procs.signal_group(self.initializer.pid, signal.SIGKILL)
        for worker in self.workers:
            worker.start_at = None
            self.liveness.forget(worker.index)
            if worker.pid is not None:
                # To it alone: what it has started may be needed to finish its requests.
                children.kill(worker.pid, signal.SIGTERM)

    def _stopping(self, now: float) -> bool:
        """Whether everything has ended; kills what is late."""
        living = [w for w in self.workers if w.pid is not None]
        if not living and self.initializer.pid is None:
            return True
        for worker in living:
            deadline = self.stop_at if worker.ready else self.unready_stop_at
            if deadline is not None and now >= deadline and worker.pid is not None:
                procs.signal_group(worker.pid, signal.SIGKILL)
        if self.stop_at is not None and now >= self.stop_at:
            # Killed already: what is left of it comes as a signal, not by the clock.
            self.stop_at = self.unready_stop_at = now + LONGEST_SLEEP_S
        elif self.unready_stop_at is not None and now >= self.unready_stop_at:
            self.unready_stop_at = None if all(w.ready for w in living) else now + LONGEST_SLEEP_S
        return False

    def _end_everything(self) -> None:
        """Kill and reap every child, ours and adopted, then clean up what only living processes need."""
        deadline = time.monotonic() + LAST_KILL_S
        while time.monotonic() < deadline:
            left = children.adopted(set())
            if not left:
                break
            for pid in left:
                children.kill(pid)
            time.sleep(0.005)
            for _ in children.reap():
                pass
        for worker in self.workers:
            worker.ended()
        self.group.remove()
        if self.metadata is not None:
            self.metadata.close()
        self.outputs.drain()

    def _failed(self) -> int:
        """The folder stays, with what there is to see; only the processes end."""
        self._end_everything()
        last = self.ends.last
        if last is not None and last["step"] == INITIALIZER:
            last["report"] = with_last_word(last["report"], self.launch.logs / f"{INITIALIZER}.log")
        self._write_status()
        if self.launch.in_container:
            # A container that ends is started again by its runtime, which would hide the failure.
            while not self._stop_asked:
                self._wait_for_signal()
        return 0

    def _wait_for_signal(self) -> None:
        self._signals.setblocking(True)
        self._stop_asked = signal.SIGTERM in self._signals.recv(4096)

    def _stopped(self) -> int:
        self._end_everything()
        self.phase = layout.PHASE_STOPPED
        self._write_status()
        if self.launch.in_container:
            return 0
        folder = self.launch.folder
        old = folder.with_name(f"{layout.OLD_PREFIX}{folder.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            folder.replace(old)
            shutil.rmtree(old, ignore_errors=True)
        return 0

    def _write_status(self) -> None:
        data = {
            "phase": self.phase,
            "started_at": self.started_at,
            "restarts": sum(w.restarts for w in self.workers),
            "supervisor": {"pid": os.getpid(), "ticks": procs.start_ticks(os.getpid())},
            "workers": [w.as_json() for w in self.workers],
            "exit": self.ends.last,
            "exits": self.ends.all,
            "code_dir": str(self.launch.app_root),
            "model_dir": str(self.launch.model_dir or ""),
            "boot_budget_s": self.launch.boot_budget_s(),
            "limits": self.group.limits,
            "cgroups": [str(folder) for folder in self.group.folders],
        }
        text = json.dumps(data, default=str).encode()
        if text == self._written:
            return
        try:
            atomic.write(self.launch.folder / layout.STATUS, text)
            self._written = text
        except OSError as problem:  # disk full: serving goes on, and the next change is written again
            sys.stderr.write(f"cannot write the status: {problem}\n")


def main(argv: list[str]) -> int:
    folder = Path(argv[0])
    if len(argv) > 1:
        os.set_inheritable(int(argv[1]), False)
    children.become_reaper()
    try:
        description = json.loads((folder / layout.INSTANCE).read_bytes())
        launch = Launch(folder, description, private_of(folder, argv[2:]))
        return Supervisor(launch).run()
    except Exception:  # noqa: BLE001 - process boundary: the workers die with us, the lock says so
        sys.stderr.write(traceback.format_exc())
        return 1


def _group(launch: Launch) -> Group:
    if launch.in_container:
        return ContainerGroup()
    parents = [Path(launch.cgroup_parent)] if launch.cgroup_parent else []
    if not parents:
        delegated = delegated_parent()
        parents = [] if delegated is None else [delegated]
    return Group(parents, launch.cgroup_name, memory_bytes=launch.memory_bytes, cpus=launch.cpus)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
