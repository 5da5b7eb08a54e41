"""The gateway lives through kills of each of its processes, and ends without loss or leftovers."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from pathlib import Path


def roles(gateway, kit) -> dict[str, int]:
    return {role: pid for pid, role in kit.processes_of(gateway.settings.home).items()}


def started(gateway, kit, name="shop"):
    worker = kit.backends.start(name, gate=20)
    gateway.control.ensure_agent()
    gateway.put(kit.endpoint(name, kit.route("blue", worker, mc=20)))
    return worker


def test_a_killed_agent_costs_nothing_and_its_successor_adopts_envoy(gateway, kit):
    worker = started(gateway, kit)
    envoy = gateway.status.envoy_pid
    with kit.load(gateway, "shop") as load:
        for _ in range(2):
            agent = roles(gateway, kit)["gateway-agent"]
            os.kill(agent, signal.SIGKILL)
            kit.until(lambda agent=agent: roles(gateway, kit).get("gateway-agent", agent) != agent)
            fresh = kit.backends.start("shop", gate=20)
            gateway.put(kit.endpoint("shop", kit.route("blue", worker, fresh, mc=20)))
            gateway.put(kit.endpoint("shop", kit.route("blue", fresh, mc=20)))
            worker = fresh
    assert load.failures == {}
    assert gateway.status.envoy_pid == envoy


def test_a_killed_keeper_is_replaced_by_the_agent_and_the_lock_is_never_free(gateway, kit):
    started(gateway, kit)
    envoy, before = gateway.status.envoy_pid, roles(gateway, kit)
    with kit.load(gateway, "shop", clients=2) as load:
        os.kill(before["gateway-keeper"], signal.SIGKILL)
        kit.until(
            lambda: (
                (now := roles(gateway, kit)).get("gateway-keeper") == before["gateway-agent"]
                and "gateway-agent" in now
            )
        )
        assert gateway.control.running()
        assert gateway.control.ensure_agent() is False
        gateway.put(kit.endpoint("more", kit.route("blue", kit.backends.start("more"))))
    assert load.failures == {}
    assert gateway.status.envoy_pid == envoy
    assert gateway.score("more").status == 200


def test_an_envoy_without_keeper_and_agent_serves_and_is_adopted_later(gateway, kit):
    started(gateway, kit)
    envoy, before = gateway.status.envoy_pid, roles(gateway, kit)
    with kit.load(gateway, "shop", clients=2) as load:
        os.kill(before["gateway-keeper"], signal.SIGSTOP)  # so that nobody takes over in between
        os.kill(before["gateway-agent"], signal.SIGKILL)
        os.kill(before["gateway-keeper"], signal.SIGKILL)
        kit.until(lambda: not gateway.control.running())
        time.sleep(0.2)
        assert gateway.control.ensure_agent() is True
        gateway.put(kit.endpoint("more", kit.route("blue", kit.backends.start("more"))))
    assert load.failures == {}
    assert gateway.status.envoy_pid == envoy


def test_an_orphaned_envoy_is_ended_by_stop(gateway, kit):
    started(gateway, kit)
    before = roles(gateway, kit)
    os.kill(before["gateway-keeper"], signal.SIGSTOP)
    os.kill(before["gateway-agent"], signal.SIGKILL)
    os.kill(before["gateway-keeper"], signal.SIGKILL)
    kit.until(lambda: set(roles(gateway, kit)) == {"envoy"})
    assert gateway.control.stop(10)
    assert kit.processes_of(gateway.settings.home) == {}


def test_a_killed_envoy_comes_back_by_itself_with_everything(gateway, kit):
    started(gateway, kit)
    envoy = gateway.status.envoy_pid
    os.kill(envoy, signal.SIGKILL)
    kit.until(lambda: gateway.status.envoy_pid not in (None, envoy) and gateway.status.ready)
    kit.until(lambda: "shop" in gateway.status.accepted)
    assert gateway.score("shop").status == 200


def test_a_starting_envoy_never_answers_before_it_knows_its_endpoints(gateway, kit):
    started(gateway, kit)
    envoy, codes = gateway.status.envoy_pid, []
    os.kill(envoy, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while 200 not in codes and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            codes.append(gateway.score("shop").status)
    assert codes[0] == 200, codes


def test_a_cold_start_needs_nothing_but_the_files(gateway, kit):
    started(gateway, kit)
    assert gateway.control.stop(15)
    assert kit.processes_of(gateway.settings.home) == {}
    gateway.control.ensure_agent()
    kit.until(lambda: gateway.status is not None and "shop" in gateway.status.accepted)
    kit.until(lambda: gateway.status.ready)
    assert gateway.score("shop").status == 200


def test_requests_in_flight_finish_when_the_gateway_is_stopped(gateway, kit):
    worker = started(gateway, kit)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(gateway.score("shop", x_sleep_ms="800")))
    thread.start()
    kit.until(lambda: worker.running == 1)
    assert gateway.control.stop(15)
    thread.join()
    assert answers[0].status == 200


def test_a_taken_port_is_named_with_its_holder_and_taken_as_soon_as_it_is_free(gateway, kit):
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", gateway.settings.port))
        squatter.listen()
        gateway.control.ensure_agent()
        kit.until(lambda: gateway.status is not None and gateway.status.problem is not None)
        status = gateway.status
        assert status.problem.code == "GatewayPortInUse"
        assert str(os.getpid()) in status.failure
        assert str(gateway.settings.port) in status.failure
        assert not status.ready
    kit.until(lambda: gateway.status.ready)
    assert gateway.status.failure is None


def test_two_gateways_never_share_a_port(gateway, kit, tmp_path_factory):
    started(gateway, kit)
    with kit.running_gateway(tmp_path_factory.mktemp("second")) as second:
        second.settings = second.control.settings = type(second.settings)(
            second.settings.home, second.settings.dir, second.settings.run_dir, gateway.settings.port
        )
        second.control.ensure_agent()
        kit.until(lambda: second.status is not None and second.status.problem is not None)
        assert second.status.problem.code == "GatewayPortInUse"
        assert [gateway.score("shop").status for _ in range(20)] == [200] * 20


def test_sockets_and_files_are_for_their_user_only(gateway, kit):
    started(gateway, kit)
    settings = gateway.settings
    for folder in (settings.dir, settings.run_dir):
        assert folder.stat().st_mode & 0o077 == 0
        for path in folder.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
    for pid in kit.processes_of(settings.home):
        with open(f"/proc/{pid}/cmdline") as handle:
            assert "key-one" not in handle.read()
    listening = [
        line.split()[1].split(":")
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    assert ["0100007F", f"{settings.port:04X}"] in listening


def test_callers_cannot_take_the_files_that_envoy_needs(gateway, kit):
    """Envoy ends itself when it cannot open a connection to a worker."""
    started(gateway, kit, "files")
    few = (700, 700)
    running = roles(gateway, kit)
    for role in ("gateway-keeper", "gateway-agent"):
        resource.prlimit(running[role], resource.RLIMIT_NOFILE, few)
    for role in ("gateway-agent", "envoy"):
        os.kill(running[role], signal.SIGKILL)
    kit.until(lambda: roles(gateway, kit).get("envoy") not in (None, running["envoy"]))
    kit.until(lambda: answers(gateway, "files"))
    envoy = roles(gateway, kit)["envoy"]
    assert resource.prlimit(envoy, resource.RLIMIT_NOFILE) == few

    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", gateway.settings.port)
        callers = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(10)]
        for _ in range(800):
            idle = stack.enter_context(socket.socket())
            idle.setblocking(False)
            idle.connect_ex(address)
        time.sleep(0.5)
        head = b"POST /api/v1/endpoint/files/score HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer key-one\r\n"
        for caller in callers:  # together: each needs a connection to the worker of its own
            caller.sendall(head + b"X-Sleep-Ms: 300\r\nContent-Length: 2\r\n\r\n{}")
        assert [caller.recv(4096)[:12] for caller in callers] == [b"HTTP/1.1 200"] * len(callers)
    kit.until(lambda: answers(gateway, "files"))
    assert roles(gateway, kit)["envoy"] == envoy


def answers(gateway, name) -> bool:
    try:
        return gateway.score(name).status == 200
    except OSError:
        return False
