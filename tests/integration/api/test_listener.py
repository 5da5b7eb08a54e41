"""The listener for clients on a real socket, over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorings.api import listener as module
from moorings.api.listener import Listener
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock, SystemClock


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


def make(folder: Path, port: int = 0, clock: Any = None) -> Listener:
    made = Listener(folder, port, clock or SystemClock())
    made.serve(hello)
    return made


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    made = make(tmp_path / "access")
    try:
        yield made
    finally:
        await made.close()


async def get(url: str, bundle: str) -> httpx.Response:
    context = ssl.create_default_context(cafile=bundle)
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return await client.get(url)


def port_of(access: module.Access) -> int:
    return int(access.base_url.rpartition(":")[2])


async def test_it_is_off_until_asked_for_and_then_answers_over_tls(
    listener: Listener, tmp_path: Path
) -> None:
    assert listener.base_url is None
    assert not (tmp_path / "access").exists(), "nothing is made for those who do not want it"
    access = await listener.turn_on()
    answer = await get(access.base_url, access.ca_bundle)
    assert (answer.status_code, answer.text) == (200, "https")
    assert stat.S_IMODE((tmp_path / "access").stat().st_mode) == 0o700
    assert (await listener.turn_on()) == access, "asking again changes nothing"


async def test_only_this_machine_reaches_it(listener: Listener) -> None:
    port = port_of(await listener.turn_on())
    hexed = f"{port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    bound = [fields[1] for fields in lines if fields[3] == "0A" and fields[1].endswith(f":{hexed}")]
    assert bound == [f"0100007F:{hexed}"]


async def test_clear_text_gets_no_answer(listener: Listener) -> None:
    access = await listener.turn_on()
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(access.base_url.replace("https:", "http:"))


async def test_port_and_secrets_are_the_same_after_a_restart(listener: Listener, tmp_path: Path) -> None:
    access = await listener.turn_on()
    await listener.close()
    again = make(tmp_path / "access")
    task = asyncio.create_task(again.run())
    try:
        for _ in range(200):
            if again.base_url is not None:
                break
            await asyncio.sleep(0.01)
        assert again.base_url == access.base_url and again.keys() == listener.keys()
        assert (await get(access.base_url, access.ca_bundle)).status_code == 200
    finally:
        task.cancel()
        await again.close()


async def test_once_off_it_stays_off_and_its_secrets_are_forgotten(
    listener: Listener, tmp_path: Path
) -> None:
    access = await listener.turn_on()
    await listener.turn_off()
    with pytest.raises(httpx.ConnectError):
        await get(access.base_url, access.ca_bundle)
    again = make(tmp_path / "access")
    task = asyncio.create_task(again.run())
    await asyncio.sleep(0.1)
    task.cancel()
    assert again.base_url is None
    assert (await again.turn_on()).identity_header != access.identity_header
    await again.close()


async def test_a_port_that_is_taken_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_PERIOD_S", 0.05)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = int(other.getsockname()[1])
        made = make(tmp_path / "access", port)
        with pytest.raises(MooringsError) as problem:
            await made.turn_on()
        assert problem.value.failure.code == "ListenerPortTaken" and str(port) in problem.value.failure.fix
        (tmp_path / "access" / "listener.json").write_text('{"on": true}')
        task = asyncio.create_task(made.run())
        await asyncio.sleep(0.1)
        assert made.base_url is None and not task.done()
    try:
        for _ in range(200):
            if made.base_url is not None:
                break
            await asyncio.sleep(0.02)
        assert made.base_url == f"https://localhost:{port}"
    finally:
        task.cancel()
        await made.close()


async def test_a_certificate_that_nears_its_end_is_replaced_while_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the listener is ahead of ours, so that all of it happens while TLS finds both certificates good."""
    import time

    monkeypatch.setattr(module, "LOOK_PERIOD_S", 0.05)
    clock = ManualClock(time.time() - 61 * 86400)
    made = make(tmp_path / "access", clock=clock)
    access = await made.turn_on()
    first = await _shown(port_of(access))
    task = asyncio.create_task(made.run())
    clock.advance(60.5 * 86400)
    try:
        for _ in range(100):
            if await _shown(port_of(access)) != first:
                break
            await asyncio.sleep(0.05)
        assert await _shown(port_of(access)) != first
        assert (await get(access.base_url, access.ca_bundle)).status_code == 200
    finally:
        task.cancel()
        await made.close()


async def _shown(port: int) -> bytes:
    """The certificate that the server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    assert isinstance(shown, bytes)
    return shown


@pytest.mark.parametrize("content", ["", "{", "[]", '{"on": "yes"}', '{"on": true, "port": "x"}'])
async def test_a_damaged_note_of_its_state_is_no_reason_to_fail(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "access"
    folder.mkdir(mode=0o700)
    (folder / "listener.json").write_text(content)
    made = make(folder)
    assert (await get((access := await made.turn_on()).base_url, access.ca_bundle)).status_code == 200
    await made.close()
