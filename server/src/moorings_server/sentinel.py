"""Signs of life while `run()` occupies the event loop: one thread that answers liveness probes on new
connections, stops a `run()` that takes too long, ends a process that is stuck in one or cannot begin another, and ends a
drain whose time is up.

It sleeps until a run begins, wakes every 20 ms while there is work, and acts only inside a run longer than
that. Knows listening sockets and a clock; nothing of scripts or of HTTP beyond the first line of a request
and one fixed answer.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import socket
import threading
from time import perf_counter, sleep
from typing import Callable, Dict, Optional, Sequence

from moorings_server.scoring import ScoringTimeout

TICK_S = 0.02
IDLE_TICKS = 50
PEEK_BYTES = 8192
REARM_S = 1.0
LAST_RESORT_S = 5.0
LATE_S = 0.1
"""A run that is over its time limit may take so much longer to be stopped."""
HEAD_START = {b"GET / HTTP/1.": True, b"HEAD / HTTP/1.": False}


class RunWatch:
    """What the loop is doing: `started` is when the current `run()` began (perf_counter seconds), 0.0 between
    runs.

    The signal handler runs on the loop's thread, between two bytecodes: it sees `started` as the loop left
    it, so it can raise only inside the very run that was found too long.
    """

    __slots__ = ("_armed", "_expired", "_wake", "is_call", "on_wake", "started")

    def __init__(self) -> None:
        self.started = 0.0
        self.is_call = False
        self._expired = -1.0
        self._armed = False
        self._wake = threading.Event()
        self.on_wake: Callable[[], None] = lambda: None

    def begin(self, started: float) -> None:
        """Note the beginning of a run and see to it that the sentinel is awake."""
        self.started = started
        if not self._armed:  # after `started` is set: see `rest`
            self.arm()

    def begin_call(self, started: float) -> None:
        """`begin` of a run that may be interrupted, where the loop may be occupied otherwise too."""
        self.is_call = True
        self.begin(started)

    def arm(self) -> None:
        """See to it that the sentinel is awake, for work that does not occupy the loop."""
        if not self._armed:
            self._armed = True
            self.on_wake()
            self._wake.set()

    def end(self) -> None:
        """The loop has got round to calling this: nothing occupies it."""
        self.started = 0.0
        self.is_call = False

    def wait_for_work(self) -> None:
        """Block until a run has begun since the last `rest`."""
        self._wake.wait()
        self._wake.clear()

    def rest(self, is_working: Callable[[], bool]) -> bool:
        """Go to sleep unless a run has begun meanwhile; True when it is time to `wait_for_work`."""
        self._armed = False
        if self.started or is_working():
            self._armed = True
            return False
        return True

    def wake(self) -> None:
        self._wake.set()

    def expire(self, started: float, thread_id: int) -> None:
        """Raise ScoringTimeout in the run that began at `started`, if it still runs. C code is not
        interrupted."""
        if (
            signal.getsignal(signal.SIGALRM) == self.on_signal
        ):  # a script may have taken the signal for itself
            self._expired = started
            signal.pthread_kill(thread_id, signal.SIGALRM)

    def on_signal(self, number: int, frame: object) -> None:
        """The handler of SIGALRM."""
        if self.started and self.started == self._expired:
            raise ScoringTimeout


class Sentinel:
    """The thread. `hand_over` (called on it) takes an accepted socket that is not a liveness probe.

    `oldest` says when the oldest call that has not ended began (0.0: none); one that is older than `stuck_after_s`
    (None: no limit) makes it call `on_stuck`, which ends the process. `full_since` says since when nothing else can begin
    (0.0: it can); after `timeout_s` of that, where nobody waits for what runs any more, probes are told so, and after
    `hung_after_s` (None: never) it calls `on_hung`, which ends the process too. `ping`, for gates that do not mark their runs in
    `watch`, has the loop call `watch.end` as soon as it can. `shared`: other processes accept from the same sockets; an
    idle one of them is given the time to do so.
    """

    def __init__(
        self,
        watch: RunWatch,
        listeners: Sequence[socket.socket],
        healthy: bytes,
        unhealthy: bytes,
        hand_over: Callable[[socket.socket], None],
        timeout_s: float,
        *,
        oldest: Callable[[], float],
        stuck_after_s: Optional[float] = None,
        on_stuck: Callable[[], None] = lambda: None,
        full_since: Callable[[], float] = lambda: 0.0,
        hung_after_s: Optional[float] = None,
        on_hung: Callable[[], None] = lambda: None,
        ping: Optional[Callable[[], None]] = None,
        shared: bool = False,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self._watch = watch
        self._listeners: Dict[int, socket.socket] = {}
        for listener in listeners:
            own = listener.dup()
            own.setblocking(False)
            self._listeners[own.fileno()] = own
        self._healthy = healthy
        self._unhealthy = unhealthy
        self._hand_over = hand_over
        self._timeout_s = timeout_s
        self._oldest = oldest
        self._stuck_after_s = stuck_after_s
        self._on_stuck = on_stuck
        self._full_since = full_since
        self._hung_after_s = hung_after_s
        self._on_hung = on_hung
        limits = [each for each in (stuck_after_s, hung_after_s) if each is not None]
        self._last_resort_s = min(limits) + LAST_RESORT_S if limits else None
        self._ping = ping
        self._shared = shared
        self._now = now
        self._rearm_at = 0.0
        watch.on_wake = self._arm_last_resort  # before a first run could keep this thread from starting
        self._loop_thread = threading.get_ident()
        self._stopped = False
        self._accepting = True
        self._exit_at: Optional[float] = None
        self._on_exit: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="moorings-sentinel", daemon=True)

    def start(self) -> None:
        """Begin, from the loop's thread."""
        self._thread.start()

    def stop_accepting(self) -> None:
        self._accepting = False

    def exit_at(self, moment: float, on_exit: Callable[[], None]) -> None:
        """From `moment` (perf_counter) on, call `on_exit` from the thread if a run still blocks the loop."""
        self._on_exit = on_exit
        self._exit_at = moment

    def stop(self) -> None:
        """End the thread; returns when its copy of the listening socket is closed."""
        self._stopped = True
        self._watch.wake()
        self._thread.join(1.0)

    def is_hung(self) -> bool:
        """Whether nothing can begin, because of calls for which nobody waits any more. May be called from any thread."""
        return self._blocked_s() > self._timeout_s + LATE_S

    def _blocked_s(self) -> float:
        """How long nothing has been able to begin: the loop is occupied, or all places are."""
        began = [moment for moment in (self._watch.started, self._full_since()) if moment]
        return self._now() - min(began) if began else 0.0

    def _run(self) -> None:
        idle = 0
        self._watch.wait_for_work()
        while not self._stopped:
            self._rearm()
            sleep(TICK_S)
            started = self._watch.started
            working = bool(started) or self._is_working()
            idle = 0 if working else idle + 1
            if idle > IDLE_TICKS:
                self._disarm()
                if self._watch.rest(self._is_working):
                    self._watch.wait_for_work()
                idle = 0
            elif started and self._now() - started > TICK_S:
                self._attend(started)
            elif working:
                self._check_stuck()
                if self._ping is not None and not started:
                    self._watch.started = self._now()
                    self._ping()
        self._disarm()
        for listener in self._listeners.values():
            listener.close()

    def _is_working(self) -> bool:
        return bool(self._oldest())

    def _rearm(self) -> None:
        """Where C code keeps every thread of Python from running, this one included, only a timer that needs no
        Python can end the process: it is set anew as long as this thread lives."""
        if self._last_resort_s is not None and self._now() >= self._rearm_at:
            self._rearm_at = self._now() + REARM_S
            self._arm_last_resort()

    def _arm_last_resort(self) -> None:
        if self._last_resort_s is not None:
            faulthandler.dump_traceback_later(self._last_resort_s, exit=True)

    def _disarm(self) -> None:
        if self._last_resort_s is not None:
            self._rearm_at = 0.0
            faulthandler.cancel_dump_traceback_later()

    def _check_stuck(self) -> None:
        oldest = self._oldest()
        if self._stuck_after_s is not None and oldest and self._now() - oldest > self._stuck_after_s:
            self._on_stuck()
        if self._hung_after_s is not None and self._blocked_s() > self._hung_after_s:
            self._on_hung()

    def _attend(self, started: float) -> None:
        """Stay beside whatever occupies the loop until it has ended."""
        poller = select.poll()
        listening = False
        waiting: Dict[int, socket.socket] = {}
        # What is not marked as a run cannot be interrupted as one.
        expired = self._ping is not None and not self._watch.is_call
        while self._watch.started == started and not self._stopped:
            if self._accepting != listening:
                listening = self._accepting
                for fd in self._listeners:
                    if listening:
                        poller.register(fd, select.POLLIN)
                    else:
                        poller.unregister(fd)
            for fd, _ in poller.poll(int(TICK_S * 1000)):
                if fd in self._listeners:
                    self._accept(self._listeners[fd], poller, waiting)
                else:
                    poller.unregister(fd)
                    self._attend_client(waiting.pop(fd))
            now = self._now()
            if not expired and now - started > self._timeout_s:
                expired = True
                self._watch.expire(started, self._loop_thread)
            if self._exit_at is not None and now > self._exit_at:
                self._on_exit()
            self._rearm()
            self._check_stuck()
        for client in waiting.values():
            self._hand_over(client)

    def _accept(
        self, listener: socket.socket, poller: "select.poll", waiting: Dict[int, socket.socket]
    ) -> None:
        if self._shared:
            sleep(0.005)
        try:
            client, _ = listener.accept()
        except OSError:  # somebody else took it, or it went away
            return
        client.setblocking(False)
        waiting[client.fileno()] = client
        poller.register(client, select.POLLIN)

    def _attend_client(self, client: socket.socket) -> None:
        """Answer a liveness probe; give everything else to the loop."""
        try:
            head = client.recv(PEEK_BYTES, socket.MSG_PEEK)
        except OSError:
            client.close()
            return
        end = head.find(b"\r\n\r\n") + 4
        wants_body = [body for start, body in HEAD_START.items() if head.startswith(start)]
        if not head:
            client.close()
        elif wants_body and end == len(head) and b"\n" not in head.replace(b"\r\n", b""):
            try:
                client.recv(end)  # unread bytes at close would reset the connection before the answer is read
                answer = self._unhealthy if self.is_hung() else self._healthy
                client.send(answer if wants_body[0] else answer[: answer.index(b"\r\n\r\n") + 4])
                client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            client.close()
        else:
            self._hand_over(client)


def leave_now(flush: Callable[[], None]) -> None:
    """End the process although a run has not ended: the drain's time is up."""
    flush()
    os._exit(0)
