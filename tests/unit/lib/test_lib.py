"""Files replaced in one step, locks that die with their holder, back-off, processes found by their variables."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.lib import atomic, processes, procs
from moorings.lib.timing import Backoff, ManualClock, rfc3339

KILLED_INSIDE = """
import os, signal, sys
from pathlib import Path
from moorings.lib import atomic

with atomic.replacing(Path(sys.argv[1])) as handle:
    os.kill(os.getpid(), signal.SIGKILL)
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from moorings.lib import atomic

path, at = Path(sys.argv[1]), int(sys.argv[2])
count = 0

def hook(event, args):
    global count
    if event in ("open", "os.rename", "moorings.fsync", "os.chmod"):
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
atomic.write(path, b"new" * 100_000)
print("done")
"""


# --- files --------------------------------------------------------------------------------------------------


def test_a_kill_at_any_step_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seen = set()
    for at in range(1, 20):
        path.write_bytes(b"old")
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(path), str(at)], capture_output=True, text=True, timeout=60
        )
        content = path.read_bytes()
        assert content in (b"old", b"new" * 100_000)
        seen.add(content)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.returncode == 0, "it never came to its end"
    assert at >= 4
    assert len(seen) == 2


def test_an_exception_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic.write(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic.replacing(path) as handle:
        handle.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_it_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), fsync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda a, b: (done.append("rename"), replace(a, b))[1])
    atomic.write(tmp_path / "file", b"x")
    assert done == ["sync", "rename", "sync"]


@pytest.mark.parametrize("wanted", [0o600, 0o444])
def test_its_mode_is_as_asked_whatever_the_umask(tmp_path: Path, wanted: int) -> None:
    before = os.umask(0)
    try:
        atomic.write(tmp_path / "file", b"x", mode=wanted)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == wanted


def test_equal_content_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert atomic.write_if_changed(path, b"x")
    inode = path.stat().st_ino
    assert not atomic.write_if_changed(path, b"x")
    assert path.stat().st_ino == inode
    assert atomic.write_if_changed(path, b"y")
    assert path.read_bytes() == b"y"


# --- locks --------------------------------------------------------------------------------------------------

HOLDER = """
import sys
import time
from pathlib import Path
from moorings.lib import procs
held = procs.try_lock(Path(sys.argv[1]))
print("held" if held else "taken", flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "held\n"
    return started


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(20)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()


def test_a_lock_is_held_by_one_and_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not procs.is_locked(path)
    held = procs.try_lock(path)
    assert held is not None
    assert procs.is_locked(path)
    assert procs.try_lock(path) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    held.release()
    assert not procs.is_locked(path)
    again = procs.try_lock(path)
    assert again is not None
    again.release()


def test_looking_at_a_lock_does_not_take_it_or_make_it(tmp_path: Path) -> None:
    assert not procs.is_locked(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_lock_goes_with_its_holder_however_it_dies(tmp_path: Path) -> None:
    process = holder(tmp_path / "lock")
    assert procs.is_locked(tmp_path / "lock")
    assert not procs.wait_unlocked(tmp_path / "lock", 0.0)
    end(process)
    assert procs.wait_unlocked(tmp_path / "lock", 20.0)


def test_an_inherited_descriptor_keeps_the_lock_after_the_holder_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = procs.try_lock(path)
    assert held is not None
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=(held.fd,)
    )
    try:
        held.release()
        assert procs.is_locked(path)
    finally:
        child.kill()
        child.wait(20)
        assert child.stdin is not None
        child.stdin.close()
    assert procs.wait_unlocked(path, 20.0)


def test_a_descriptor_is_not_inherited_unasked(tmp_path: Path) -> None:
    held = procs.try_lock(tmp_path / "lock")
    assert held is not None
    assert not os.get_inheritable(held.fd)
    held.release()


# --- processes ----------------------------------------------------------------------------------------------

SLEEPER = "import sys, time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[int]:
    """A detached process of the home `tmp_path`."""
    env = {
        **os.environ,
        "MOORINGS_HOME": str(tmp_path),
        "MOORINGS_ROLE": "worker-3",
        "MOORINGS_OWNER": "shop/blue",
    }
    held = procs.try_lock(tmp_path / "life")
    assert held is not None
    pid = procs.start_detached(
        [sys.executable, "-c", SLEEPER],
        env=env,
        cwd=tmp_path,
        stdout=tmp_path / "log",
        pass_fds=(held.fd,),
        session=procs.Session.NEW,
    )
    held.release()
    try:
        yield pid
    finally:
        procs.signal_group(pid, signal.SIGKILL)
        assert procs.wait_unlocked(tmp_path / "life", 20.0)


def test_a_detached_process_has_a_session_of_its_own_and_is_no_child_of_ours(sleeper: int) -> None:
    assert os.getsid(sleeper) == sleeper != os.getsid(0)
    with pytest.raises(ChildProcessError):
        os.waitpid(sleeper, os.WNOHANG)


def test_a_shared_session_is_shared_through_the_starter_of_a_new_one(tmp_path: Path) -> None:
    """A process without a terminal starts another: same session, a group of its own."""
    program = f"""
import os, sys, pathlib
sys.path.insert(0, {str(Path(procs.__file__).parents[2])!r})
from moorings.lib import procs
here = pathlib.Path({str(tmp_path)!r})
pid = procs.start_detached(
    [sys.executable, "-c", "import os; print('inner', os.getsid(0), os.getpgid(0), os.getpid(), flush=True)"],
    env=dict(os.environ), cwd=here, stdout=here / "inner", session=procs.Session.SHARED)
print("outer", os.getsid(0), flush=True)
"""
    procs.start_detached(
        [sys.executable, "-c", program],
        env=dict(os.environ),
        cwd=tmp_path,
        stdout=tmp_path / "outer",
        session=procs.Session.NEW,
    )
    lines: dict[str, list[int]] = {}
    deadline = time.monotonic() + 20
    while len(lines) < 2 and time.monotonic() < deadline:
        for name in ("inner", "outer"):
            if (tmp_path / name).exists() and (words := (tmp_path / name).read_text().split()):
                lines[name] = [int(word) for word in words[1:]]
        time.sleep(0.02)
    session, group, pid = lines["inner"]
    assert session == lines["outer"][0] != os.getsid(0)
    assert group == pid != session


def test_its_output_is_for_its_owner_only(sleeper: int, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_what_cannot_be_started_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="could not start"):
        procs.start_detached(
            ["/no/such/program"],
            env=dict(os.environ),
            cwd=tmp_path,
            stdout=tmp_path / "log",
            session=procs.Session.NEW,
        )


def test_processes_of_a_home_are_found_by_their_variables(sleeper: int, tmp_path: Path) -> None:
    deadline = 200
    found: list[processes.ProcessInfo] = []
    while not found and deadline:
        found = [p for p in processes.scan(tmp_path) if p.pid == sleeper]
        deadline -= 1
    (one,) = found
    assert (one.role, one.owner, one.pid) == ("worker-3", "shop/blue", sleeper)
    assert one.rss_bytes > 0
    assert processes.is_alive(one)
    assert processes.scan(tmp_path / "other") == []


def test_only_that_very_process_is_signalled(sleeper: int, tmp_path: Path) -> None:
    ticks = procs.start_ticks(sleeper)
    assert ticks is not None
    other = processes.ProcessInfo("worker-3", sleeper, 0, 0.0, None, ticks + 1, 1)
    assert not processes.is_alive(other)
    assert not processes.send(other, signal.SIGKILL)
    assert procs.is_locked(tmp_path / "life")
    same = processes.ProcessInfo("worker-3", sleeper, 0, 0.0, None, ticks, 1)
    assert processes.send(same, signal.SIGKILL)
    assert procs.wait_unlocked(tmp_path / "life", 20.0)
    assert not processes.send(same, signal.SIGKILL)


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert procs.start_ticks(child.pid) is None
    child.wait()
    child.stdout.close()


@pytest.mark.parametrize("text, pid", [("123\n", 123), ("", None), ("x", None)])
def test_the_pid_of_a_file(tmp_path: Path, text: str, pid: int | None) -> None:
    (tmp_path / "pid").write_text(text)
    assert procs.pid_in(tmp_path / "pid") == pid
    assert procs.pid_in(tmp_path / "none") is None


# --- time ---------------------------------------------------------------------------------------------------


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(first_s=0.5, cap_s=3.0)
    assert [backoff.delay_s(n) for n in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.delay_s(0) == backoff.delay_s(1)


@given(st.integers(-5, 10**9), st.floats(0, 0.9))
def test_jitter_stays_in_its_share_and_many_failures_do_not_overflow(failures: int, jitter: float) -> None:
    plain = Backoff(first_s=0.5, cap_s=60.0).delay_s(failures)
    delay = Backoff(first_s=0.5, cap_s=60.0, jitter=jitter).delay_s(failures)
    assert plain * (1 - jitter) - 1e-9 <= delay <= plain * (1 + jitter) + 1e-9


def test_a_manual_clock_moves_when_told_only() -> None:
    clock = ManualClock(10.0)
    assert (clock.now(), clock.monotonic()) == (10.0, 10.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (12.5, 12.5)


def test_times_are_written_in_utc() -> None:
    assert rfc3339(0.5) == "1970-01-01T00:00:00.500000Z"


def test_sweep_removes_what_killed_writers_left_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    subprocess.run([sys.executable, "-c", KILLED_INSIDE, str(target)], check=False)
    (left,) = tmp_path.iterdir()
    for other in (".file.json", ".hidden.1.2", "file.json"):
        (tmp_path / other).write_text("stays")
    with atomic.replacing(target) as handle:
        handle.write(b"under way")
        assert atomic.sweep(tmp_path) == 1
    assert not left.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".file.json", ".hidden.1.2", "file.json"]
    assert target.read_bytes() == b"under way"
    assert atomic.sweep(tmp_path / "missing") == 0


def test_the_age_of_a_process_counts_from_its_start() -> None:
    begun = time.monotonic()
    code = "from moorings.lib import procs; print(procs.age_s())"
    told = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    tick_s = 0.02
    assert 0 < told <= time.monotonic() - begun + tick_s
