"""What only real processes show: healing without an engine, no orphans, bounded logs, the environment."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from moorings.engines.base import Phase, ProbeTimes
from moorings.engines.cgroup import Group
from moorings.engines.kernellog import KernelLog
from moorings.engines.process import ProcessEngine
from moorings.errors.exceptions import MooringsError
from moorings.lib import atomic

OWNER = "shop/blue"
MIB = 1 << 20


async def test_it_heals_with_nobody_looking(harbour):
    before = await harbour.started(harbour.group())
    del harbour.engine  # what is left is the supervisor
    address = before.addresses[0]
    for _ in range(2):
        harbour.ask(address, "/exit?1")
        await harbour.settled(lambda: not Path(address).exists())
        await harbour.settled(lambda: Path(address).exists())
        assert harbour.ask(address, "/") == b"Healthy"
    harbour.engine = ProcessEngine(harbour.settings)
    after = (await harbour.phase(Phase.RUNNING))[0]
    assert after.restarts == 2
    assert after.pids["supervisor"] == before.pids["supervisor"]
    assert after.pids["worker-0"] != before.pids["worker-0"]
    text = await harbour.log()
    assert "starts again in 0.5 s" in text
    assert "starts again in 1 s" in text


async def test_a_killed_supervisor_leaves_no_orphan(harbour):
    group = harbour.group(environment_variables={"SPAWN": "1"})
    instance = await harbour.started(group)
    os.kill(instance.pids["supervisor"], signal.SIGKILL)
    await harbour.phase(Phase.GONE)
    await harbour.settled(lambda: instance.pids["worker-0"] not in harbour.processes())
    left = set(harbour.processes())
    assert left  # what the worker had put into another session
    await harbour.engine.apply(group)
    again = (await harbour.phase(Phase.RUNNING))[0]
    assert not left & set(harbour.processes())
    assert again.pids["supervisor"] != instance.pids["supervisor"]


async def test_a_supervisor_that_is_stopped_is_left_alone_until_a_worker_needs_it(harbour, monkeypatch):
    monkeypatch.setattr("moorings.engines.process.UNREAPED_S", 0.3)
    group = harbour.group()
    instance = await harbour.started(group)
    os.kill(instance.pids["supervisor"], signal.SIGSTOP)
    for _ in range(20):
        assert (await harbour.engine.observe())[0].phase is Phase.RUNNING
        await asyncio.sleep(0.05)
    assert harbour.ask(instance.addresses[0], "/") == b"Healthy"
    os.kill(instance.pids["worker-0"], signal.SIGKILL)
    await harbour.phase(Phase.GONE)
    await harbour.engine.apply(group)
    again = (await harbour.phase(Phase.RUNNING))[0]
    assert not {*instance.pids.values()} & {*again.pids.values()}
    assert harbour.ask(again.addresses[0], "/") == b"Healthy"


async def test_a_supervisor_that_is_stopped_keeps_nobody_from_removing_its_instance(harbour, monkeypatch):
    monkeypatch.setattr("moorings.engines.process.LATE_S", 0.3)
    group = harbour.group()
    instance = await harbour.started(group)
    os.kill(instance.pids["supervisor"], signal.SIGSTOP)
    await harbour.engine.remove(OWNER, group.revision, grace_s=0.1)
    assert await harbour.until(lambda seen: not seen) == []
    await harbour.settled(lambda: not harbour.processes())


async def test_what_a_worker_started_ends_with_it(harbour):
    instance = await harbour.started(harbour.group(environment_variables={"SPAWN": "1"}))
    family = set(harbour.processes()) - {instance.pids["supervisor"]}
    assert len(family) == 2
    harbour.ask(instance.addresses[0], "/exit?1")
    await harbour.settled(lambda: not family & set(harbour.processes()))
    await harbour.phase(Phase.RUNNING)
    await harbour.engine.remove(OWNER, instance.revision, grace_s=5)
    await harbour.until(lambda seen: not seen)
    await harbour.settled(lambda: not harbour.processes())
    assert list(harbour.settings.run_dir.iterdir()) == []


async def test_no_zombies(harbour):
    instance = await harbour.started(harbour.group(environment_variables={"SPAWN": "1"}))
    harbour.ask(instance.addresses[0], "/exit?1")
    await harbour.until(lambda seen: seen[0].restarts == 1)
    await harbour.phase(Phase.RUNNING)
    await harbour.settled(lambda: not harbour.zombies())
    own = {int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _parent(p) == os.getpid()}
    assert not [pid for pid in own if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()]


async def test_scaling_down_drains(harbour):
    variables = {"DRAIN": "0.4"}
    await harbour.engine.apply(harbour.group(2, environment_variables=variables))
    await harbour.phase(Phase.RUNNING, 2)
    await harbour.engine.apply(harbour.group(1, environment_variables=variables))
    leaving = await harbour.until(lambda seen: any(i.phase is Phase.STOPPING for i in seen))
    assert [(i.ordinal, i.phase) for i in leaving] == [(0, Phase.RUNNING), (1, Phase.STOPPING)]
    await harbour.phase(Phase.RUNNING)
    text = await harbour.engine.logs(OWNER, container="inference-server", tail=1, instance=leaving[1].id)
    assert text == "drained\n"


async def test_an_instance_ends_whose_wish_to_end_was_written_by_one_that_was_killed_then(harbour):
    instance = await harbour.started(harbour.group())
    folder = harbour.settings.root / "shop.blue" / instance.id
    atomic.write(folder / "stop.json", json.dumps({"grace_s": 5}).encode())  # and the supervisor was not told
    assert [i.phase for i in await harbour.engine.observe(OWNER)] == [Phase.STOPPING]
    await harbour.until(lambda seen: not seen)


async def test_a_flood_of_output_stays_within_its_bounds(harbour):
    group = harbour.group(environment_variables={"FLOOD": str(8 * 1024 * 1024)})
    await harbour.engine.apply(group)
    instance = (await harbour.phase(Phase.RUNNING))[0]
    await harbour.settled(lambda: b"Healthy" in harbour.ask(instance.addresses[0], "/"))
    harbour.ask(instance.addresses[0], "/print?after")
    logs = harbour.settings.logs_root / "shop.blue" / instance.id
    async_tail = ""
    while "after" not in async_tail:
        async_tail = await harbour.log(tail=1)
    sizes = {p.name: p.stat().st_size for p in logs.glob("inference-server.log*")}
    assert set(sizes) == {"inference-server.log", "inference-server.log.1", "inference-server.log.2"}
    assert max(sizes.values()) <= harbour.settings.log_file_bytes
    assert (await harbour.log(tail=2)).splitlines() == ["flood is over", "after"]


async def test_the_script_s_own_failure_is_not_tried_again(harbour):
    await harbour.engine.apply(harbour.group(environment_variables={"BOOT": "fail", "SPAWN": "1"}))
    instance = (await harbour.phase(Phase.FAILED))[0]
    assert instance.exit.report["message"] == "ValueError: no"
    assert (await harbour.log()).count("booting worker") == 1
    await harbour.settled(lambda: not harbour.processes())


async def test_a_boot_that_takes_too_long(harbour):
    times = ProbeTimes(0.2, 0.1, 1, 1, 2)
    await harbour.engine.apply(harbour.group(environment_variables={"BOOT": "hang"}, liveness=times))
    instance = (await harbour.phase(Phase.FAILED))[0]
    assert instance.exit.report["kind"] == "boot_timeout"
    assert instance.exit.signal == signal.SIGKILL
    assert "not ready 0.4 s after its start" in await harbour.log()


async def test_a_hung_worker_is_killed_and_comes_back(harbour):
    # The boot budget is the probe's: long enough for the worker's start on a busy machine.
    times = ProbeTimes(0.1, 0.1, 0.1, 1, 30)
    group = harbour.group(liveness=times)
    instance = await harbour.started(group)
    with contextlib.suppress(TimeoutError):
        harbour.ask(instance.addresses[0], "/hang", timeout_s=0.1)
    seen = await harbour.until(lambda seen: seen[0].restarts == 1 and seen[0].phase is Phase.RUNNING)
    assert seen[0].exit.report["kind"] == "liveness"
    assert seen[0].pids["worker-0"] != instance.pids["worker-0"]
    assert harbour.ask(instance.addresses[0], "/") == b"Healthy"


async def test_for_want_of_memory_a_worker_ends_before_its_supervisor(harbour):
    instance = await harbour.started(harbour.group())
    scores = {
        role: int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for role, pid in instance.pids.items()
    }
    assert scores["worker-0"] > scores["supervisor"]


async def again(harbour, before):
    """Its next worker, and how the last one ended."""
    seen = await harbour.until(
        lambda seen: seen[0].restarts > before.restarts and seen[0].phase is Phase.RUNNING
    )
    return seen[0], seen[0].exit


async def test_who_meets_the_memory_limit_of_its_group_is_told_from_who_is_killed(harbour, memory_group):
    harbour.use(cgroup_parent=memory_group)
    group = harbour.group(memory_bytes=64 * MIB)
    instance = await harbour.started(group)
    assert instance.limits == {"memory": "cgroup"}
    assert harbour.ask(instance.addresses[0], "/eat?200") == b""
    instance, ended = await again(harbour, instance)
    assert (ended.signal, ended.oom, ended.oom_certain) == (signal.SIGKILL, True, True)
    assert "Killed process" in ended.oom_sign or "oom" in ended.oom_sign
    assert 60 * MIB < ended.memory_peak_bytes <= 64 * MIB
    os.kill(instance.pids["worker-0"], signal.SIGKILL)
    instance, ended = await again(harbour, instance)
    assert (ended.signal, ended.oom, ended.oom_sign) == (signal.SIGKILL, False, "")
    assert len(list(memory_group.glob("moorings/*/"))) == 1
    os.kill(instance.pids["supervisor"], signal.SIGKILL)
    await harbour.engine.remove(OWNER, group.revision, grace_s=0)
    await harbour.until(lambda seen: not seen)
    assert list(memory_group.glob("moorings/*/")) == []


async def test_without_a_group_of_its_own_the_kernel_s_log_tells_who_it_was(harbour, memory_group):
    narrow = Group([memory_group], "narrow", memory_bytes=64 * MIB, cpus=None)
    instance = await harbour.started(harbour.group())
    for folder in narrow.folders:
        (folder / "cgroup.procs").write_text(str(instance.pids["worker-0"]))
    assert harbour.ask(instance.addresses[0], "/eat?200") == b""
    instance, ended = await again(harbour, instance)
    assert (ended.signal, ended.oom) == (signal.SIGKILL, True)

    other = [sys.executable, "-c", "b'x' * (200 << 20)"]
    assert subprocess.run(other, preexec_fn=narrow.enter, check=False).returncode == -signal.SIGKILL
    os.kill(instance.pids["worker-0"], signal.SIGKILL)
    instance, ended = await again(harbour, instance)
    narrow.remove()
    readable = KernelLog().killed() is not None
    assert (ended.oom, ended.oom_certain) == ((False, True) if readable else (True, False))


async def test_a_healthy_worker_is_left_alone(harbour):
    instance = await harbour.started(harbour.group(liveness=ProbeTimes(0.05, 0.05, 5, 1, 60)))
    answers = [harbour.ask(instance.addresses[0], "/") for _ in range(200)]
    assert set(answers) == {b"Healthy"}
    after = (await harbour.engine.observe())[0]
    assert (after.pids, after.restarts) == (instance.pids, 0)


async def test_content_that_is_gone(harbour):
    await harbour.engine.apply(harbour.group(code_digest="missing"))
    instance = (await harbour.phase(Phase.FAILED))[0]
    assert instance.exit.step == "storage-initializer"
    assert instance.exit.report["code"] == "ArtifactsUnavailable"
    assert instance.exit.report["message"] == "content code is gone"
    assert await harbour.engine.logs(OWNER, container="inference-server", tail=5) is None
    assert "one file is not there" in await harbour.log("storage-initializer")


async def test_content_that_comes_back_is_fetched_by_what_has_served_before(harbour):
    await harbour.engine.apply(dataclasses.replace(harbour.group(code_digest="late"), proven=True))
    seen = await harbour.until(lambda seen: len(seen[0].exits) > 1)
    assert (seen[0].exit.step, seen[0].phase) == ("storage-initializer", Phase.STARTING)
    harbour.settings.store_root.mkdir()
    (harbour.settings.store_root / "late").touch()
    await harbour.phase(Phase.RUNNING)


async def test_an_interpreter_that_is_gone(harbour):
    await harbour.engine.apply(harbour.group(python="/no/such/bin/python"))
    instance = (await harbour.phase(Phase.FAILED))[0]
    assert instance.exit.report["kind"] == "cannot_start"
    assert "/no/such/bin/python" in instance.exit.report["message"]


async def test_workers_share_the_permits_and_nothing_else(harbour):
    group = harbour.group(environment_variables={"WORKER_COUNT": "3"}, max_concurrent_requests=8)
    instance = await harbour.started(group)
    assert len(instance.addresses) == 3
    worlds = [json.loads(harbour.ask(a, "/env"))["env"] for a in instance.addresses]
    assert [w["MOORINGS_MAX_CONCURRENT"] for w in worlds] == ["3", "3", "2"]
    assert [w["MOORINGS_ROLE"] for w in worlds] == ["worker-0", "worker-1", "worker-2"]
    assert [w["WORKER_COUNT"] for w in worlds] == ["3", "3", "3"]
    pid = instance.pids["worker-1"]
    os.kill(pid, signal.SIGKILL)
    after = (
        await harbour.until(lambda seen: seen[0].restarts == 1 and seen[0].pids.get("worker-1", pid) != pid)
    )[0]
    assert after.phase is Phase.RUNNING  # the others serve
    assert (after.pids["worker-0"], after.exit.signal) == (instance.pids["worker-0"], signal.SIGKILL)


async def test_the_environment_of_a_worker(harbour, monkeypatch):
    monkeypatch.setenv("CLOUD_SECRET_KEY", "not for scripts")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    variables = {"SCORING_TIMEOUT_MS": "77", "MOORINGS_SOCKET": "/tmp/mine", "GREETING": "hello"}
    instance = await harbour.started(harbour.group(environment_variables=variables))
    told = json.loads(harbour.ask(instance.addresses[0], "/env"))
    env, app = told["env"], harbour.settings.root / "shop.blue" / instance.id / "app"
    assert (env["OMP_NUM_THREADS"], env["LC_ALL"], env["GREETING"]) == ("2", "C.UTF-8", "hello")
    assert not {"CLOUD_SECRET_KEY", "PYTHONPATH"} & set(env)
    assert env["SCORING_TIMEOUT_MS"] == "77"  # the user's wins over the product's
    assert env["MOORINGS_SOCKET"] == instance.addresses[0]  # but not over the contract
    assert told["cwd"] == env["AML_APP_ROOT"] == str(app / "src")
    assert env["AZUREML_MODEL_DIR"] == str(app / "azureml-models" / "m" / "3")
    assert env["AZUREML_ENTRY_SCRIPT"] == "score.py"
    assert env["MOORINGS_HOME"] == str(harbour.home)
    assert env["PATH"].split(":")[0] == str(Path(harbour.group().template.python).parent)


async def test_what_is_on_disk_is_private(harbour):
    instance = await harbour.started(harbour.group(environment_variables={"TOKEN": "secret"}))
    folder = harbour.settings.root / "shop.blue" / instance.id
    logs = harbour.settings.logs_root / "shop.blue" / instance.id
    for path in (
        harbour.settings.root,
        folder.parent,
        folder,
        logs.parent,
        logs,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    for path in (*folder.glob("*.json"), *logs.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_garbage_of_killed_processes_is_cleared(harbour):
    owner_dir = harbour.settings.root / "shop.blue"
    for name in (".new-shop-blue-x-0", ".old-shop-blue-y-0.1"):
        (owner_dir / name / "app").mkdir(parents=True)
    await harbour.started(harbour.group())
    assert [p.name for p in owner_dir.iterdir() if p.name.startswith(".")] == []


async def test_a_wish_to_stop_survives_everybody(harbour):
    """The wish was written, then everything was killed: what is left is not started again, but cleared."""
    instance = await harbour.started(harbour.group())
    folder = harbour.settings.root / "shop.blue" / instance.id
    atomic.write(folder / "stop.json", b'{"grace_s": 1}')
    os.kill(instance.pids["supervisor"], signal.SIGKILL)
    await harbour.until(lambda seen: not seen)
    assert not folder.exists()
    assert list(harbour.settings.run_dir.iterdir()) == []


async def test_a_folder_that_cannot_be_used_is_a_coded_failure(harbour):
    blocker = harbour.home / "file"
    blocker.write_text("")
    harbour.use(root=blocker / "instances")
    with pytest.raises(MooringsError) as caught:
        await harbour.engine.apply(harbour.group())
    assert caught.value.failure.code == "ContainerCannotStart"
    assert str(blocker) in caught.value.failure.evidence[0]


async def test_a_socket_path_that_is_too_long_is_refused(harbour):
    harbour.use(run_dir=harbour.home / ("r" * 100))
    with pytest.raises(MooringsError) as caught:
        await harbour.engine.apply(harbour.group())
    assert "too long" in caught.value.failure.message


def _parent(path: Path) -> int | None:
    with contextlib.suppress(OSError, IndexError):
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    return None
