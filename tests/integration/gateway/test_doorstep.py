"""Where the kernel hands connections on, nobody who comes while Envoy is gone is turned away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moorings.gateway import doorstep
from moorings.lib import procs

SETTING = Path("/proc/sys/net/ipv4/tcp_migrate_req")


@pytest.fixture
def handed_on() -> Iterator[None]:
    """The setting of the machine that it takes; as it was afterwards."""
    before = SETTING.read_text()
    SETTING.write_text("1")
    try:
        yield
    finally:
        SETTING.write_text(before)


def listening(port: int) -> int:
    return doorstep.listening("127.0.0.1", port)


def started(gateway, kit) -> int:
    worker = kit.backends.start("shop", gate=20)
    gateway.control.ensure_agent()
    gateway.put(kit.endpoint("shop", kit.route("blue", worker, mc=20)))
    kit.until(lambda: gateway.status.ready)
    return gateway.status.envoy_pid


def test_who_comes_while_envoy_is_gone_waits_and_is_answered(handed_on, gateway, kit):
    port = gateway.settings.port
    for _ in range(2):
        envoy = started(gateway, kit)
        kit.until(lambda: listening(port) == 2)
        os.kill(envoy, signal.SIGKILL)
        kit.until(lambda: listening(port) == 1)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: gateway.score("shop").status, range(60)))
        assert answers == [200] * 60
        kit.until(lambda envoy=envoy: gateway.status.envoy_pid not in (None, envoy))


def test_while_envoy_lives_it_gets_everybody(handed_on, gateway, kit):
    envoy = started(gateway, kit)
    kit.until(lambda: listening(gateway.settings.port) == 2)
    assert [gateway.score("shop").status for _ in range(200)] == [200] * 200
    assert gateway.status.envoy_pid == envoy


def test_nobody_waits_for_long_for_an_envoy_that_does_not_come(handed_on, gateway, kit):
    envoy, port = started(gateway, kit), gateway.settings.port
    kit.until(lambda: listening(port) == 2)
    agent = next(p for p, role in kit.processes_of(gateway.settings.home).items() if role == "gateway-agent")
    os.kill(agent, signal.SIGSTOP)
    os.kill(envoy, signal.SIGKILL)
    kit.until(lambda: listening(port) == 1)
    held = procs.try_lock(gateway.settings.envoy_lock)  # whoever starts an Envoy needs it
    assert held is not None
    os.kill(agent, signal.SIGCONT)
    with pytest.raises(ConnectionResetError):
        gateway.score("shop")
    assert listening(port) == 0
    held.release()
    kit.until(lambda: gateway.status.ready and gateway.status.envoy_pid not in (None, envoy))
    assert gateway.score("shop").status == 200


def test_two_gateways_do_not_share_a_port_then_either(handed_on, gateway, kit, tmp_path_factory):
    started(gateway, kit)
    kit.until(lambda: listening(gateway.settings.port) == 2)
    with kit.running_gateway(tmp_path_factory.mktemp("second")) as second:
        second.settings = second.control.settings = type(second.settings)(
            second.settings.home, second.settings.dir, second.settings.run_dir, gateway.settings.port
        )
        second.control.ensure_agent()
        kit.until(lambda: second.status is not None and second.status.problem is not None)
        assert second.status.problem.code == "GatewayPortInUse"
        assert [gateway.score("shop").status for _ in range(20)] == [200] * 20


def test_an_envoy_that_runs_is_adopted_whatever_the_setting_is_then(handed_on, gateway, kit):
    envoy = started(gateway, kit)
    port = gateway.settings.port
    kit.until(lambda: listening(port) == 2)
    for value, count in (("0", 1), ("1", 2)):
        SETTING.write_text(value)
        roles = {role: pid for pid, role in kit.processes_of(gateway.settings.home).items()}
        os.kill(roles["gateway-agent"], signal.SIGKILL)
        kit.until(
            lambda old=roles["gateway-agent"]: any(
                role == "gateway-agent" and pid != old
                for pid, role in kit.processes_of(gateway.settings.home).items()
            )
        )
        kit.until(lambda count=count: listening(port) == count)
        gateway.put(kit.endpoint("more", kit.route("blue", kit.backends.start("more"))))
        assert gateway.status.envoy_pid == envoy
        assert gateway.score("shop").status == 200
