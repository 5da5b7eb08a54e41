"""Signs of life while `run()` occupies the event loop: one thread that answers liveness probes on new
connections, stops a `run()` that takes too long, and ends a drain whose time is up.

It sleeps until a run begins, wakes every 20 ms while there is work, and acts only inside a run longer than
that. Knows a listening socket and a clock; nothing of scripts or of HTTP beyond the first line of a request
and one fixed answer.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from time import perf_counter, sleep
from typing import Callable, Dict, Optional

from moorings_server.scoring import ScoringTimeout

TICK_S = 0.02
IDLE_TICKS = 50
PEEK_BYTES = 8192
HEAD_START = {b"GET / HTTP/1.": True, b"HEAD / HTTP/1.": False}


class RunWatch:
    """What the loop is doing: `started` is when the current `run()` began (perf_counter seconds), 0.0 between
    runs.

    The signal handler runs on the loop's thread, between two bytecodes: it sees `started` as the loop left
    it, so it can raise only inside the very run that was found too long.
    """

    __slots__ = ("_armed", "_expired", "_wake", "started")

    def __init__(self) -> None:
        self.started = 0.0
        self._expired = -1.0
        self._armed = False
        self._wake = threading.Event()

    def begin(self, started: float) -> None:
        """Note the beginning of a run and see to it that the sentinel is awake."""
        self.started = started
        if not self._armed:  # after `started` is set: see `rest`
            self._armed = True
            self._wake.set()

    def wait_for_work(self) -> None:
        """Block until a run has begun since the last `rest`."""
        self._wake.wait()
        self._wake.clear()

    def rest(self) -> bool:
        """Go to sleep unless a run has begun meanwhile; True when it is time to `wait_for_work`."""
        self._armed = False
        if self.started:
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

    `shared`: other processes accept from the same socket; an idle one of them is given the time to do so.
    """

    def __init__(
        self,
        watch: RunWatch,
        listener: socket.socket,
        healthy: bytes,
        hand_over: Callable[[socket.socket], None],
        timeout_s: float,
        *,
        shared: bool = False,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self._watch = watch
        self._listener = listener.dup()
        self._listener.setblocking(False)
        self._healthy = healthy
        self._healthy_head = healthy[: healthy.index(b"\r\n\r\n") + 4]
        self._hand_over = hand_over
        self._timeout_s = timeout_s
        self._shared = shared
        self._now = now
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

    def _run(self) -> None:
        idle = 0
        self._watch.wait_for_work()
        while not self._stopped:
            sleep(TICK_S)
            started = self._watch.started
            if not started:
                idle += 1
                if idle > IDLE_TICKS and self._watch.rest():
                    self._watch.wait_for_work()
                    idle = 0
            else:
                idle = 0
                if self._now() - started > TICK_S:
                    self._attend(started)
        self._listener.close()

    def _attend(self, started: float) -> None:
        """Stay beside one long run until it has ended."""
        poller = select.poll()
        listening = False
        waiting: Dict[int, socket.socket] = {}
        expired = False
        while self._watch.started == started and not self._stopped:
            if self._accepting != listening:
                listening = self._accepting
                if listening:
                    poller.register(self._listener, select.POLLIN)
                else:
                    poller.unregister(self._listener)
            for fd, _ in poller.poll(int(TICK_S * 1000)):
                if fd == self._listener.fileno():
                    self._accept(poller, waiting)
                else:
                    poller.unregister(fd)
                    self._attend_client(waiting.pop(fd))
            now = self._now()
            if not expired and now - started > self._timeout_s:
                expired = True
                self._watch.expire(started, self._loop_thread)
            if self._exit_at is not None and now > self._exit_at:
                self._on_exit()
        for client in waiting.values():
            self._hand_over(client)

    def _accept(self, poller: "select.poll", waiting: Dict[int, socket.socket]) -> None:
        if self._shared:
            sleep(0.005)
        try:
            client, _ = self._listener.accept()
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
                client.send(self._healthy if wants_body[0] else self._healthy_head)
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
