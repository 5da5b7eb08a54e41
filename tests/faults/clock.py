"""The clock jumps, for every process of the workspace and for nobody else: a small library in front of the C library."""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path

from corpus_site import workspace_with
from scenarios import Size
from scene import BLUE, Outcome, Scene

HOUR_S = 3600
SHIM = Path(__file__).with_name("clock_shim.c")
_ROLES = ("worker", "supervisor", "envoy", "daemon")


class Clock:
    """The wall clock of whatever is started with `env`."""

    def __init__(self, folder: Path) -> None:
        """Compiles the library; installs a compiler where that is allowed."""
        self._offset, library = folder / "offset", folder / "clock.so"
        self.jump(0)
        argv = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SHIM)]
        try:
            subprocess.run(argv, check=True)
        except FileNotFoundError:
            for install in (["update", "-qq"], ["install", "-y", "-qq", "gcc", "libc6-dev"]):
                subprocess.run(["apt-get", *install], capture_output=True, check=True)
            subprocess.run(argv, check=True)
        self.env = {"LD_PRELOAD": str(library), "CLOCK_SHIM_FILE": str(self._offset)}

    def jump(self, seconds: int) -> None:
        """Off by so much from now on, at once."""
        with self._offset.open("r+b" if self._offset.exists() else "w+b") as handle:
            handle.write(struct.pack("=q", seconds))


def clock_jump(size: Size, rate_per_s: float) -> Outcome:
    """An hour forward, an hour back: requests are answered, nothing is restarted, changes go through."""
    with workspace_with({}) as workspace:
        clock = Clock(Path(workspace.files))
        workspace.env.update(clock.env)
        scene = Scene(workspace, rate_per_s)
        scene.build()
        before = scene.pids(*_ROLES)
        with scene.load() as result:
            for seconds in (HOUR_S, 0, -HOUR_S, 0):
                clock.jump(seconds)
                time.sleep(size.hold_s / 2)
                assert scene.workspace.json("online-endpoint", "list")
        restarted = len(set(before) - set(scene.pids(*_ROLES)))
        for seconds in (HOUR_S, 0):
            clock.jump(seconds)
            scene.workspace.deploy(scene.spec(BLUE), verb="update")
    seen = result.seen
    notes = {"p99_ms": seen.report["p99_ms"], "statuses": seen.report["statuses"], "restarted": restarted}
    if seen.failed:
        notes["samples"] = [each.what for each in seen.failures()[:3]]
    held = seen.failed == 0 and restarted == 0
    title = "the clock jumps by an hour, both ways"
    return Outcome("clock-jump", title, 4, seen.sent, seen.failed, "0 failed, nothing restarted", held, notes)
