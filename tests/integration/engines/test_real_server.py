"""The engine with the real storage initializer and the real inference server: from content to a verdict."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from moorings.assets.store import AssetStore
from moorings.engines.base import ModelMount, Phase
from moorings.errors.diagnosis import InstanceEvidence, diagnose_instance

OWNER = "shop/blue"
GOOD = """
import json, os

def init():
    global factor
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "factor.json")) as handle:
        factor = json.load(handle)

def run(data):
    return [factor * x for x in json.loads(data)["data"]]
"""


@pytest.fixture
def real(harbour):
    harbour.use(
        initializer_argv=(sys.executable, "-m", "moorings.assets.initializer"),
        worker_argv=("-m", "moorings_server", "--worker"),
    )
    return harbour


async def deploy(real, tmp_path: Path, script: str):
    code, model = tmp_path / "code", tmp_path / "factor.json"
    code.mkdir()
    (code / "score.py").write_text(script)
    model.write_text("3")
    store = AssetStore(real.settings.store_root)
    group = real.group(
        code_digest=store.ingest(code, keep_name=False, use_ignore=True).digest,
        model=ModelMount(store.ingest(model, keep_name=True, use_ignore=False).digest, "factor", "1"),
        environment_variables={"WORKER_COUNT": "2"},
        max_concurrent_requests=2,
    )
    await real.engine.apply(group)
    return group


def score(address: str, body: str) -> tuple[int, bytes]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(address)
        head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        client.sendall((head + body).encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
    head_bytes, _, content = answer.partition(b"\r\n\r\n")
    return int(head_bytes.split(b" ")[1]), content


async def verdict(real):
    instance = (await real.phase(Phase.FAILED))[0]
    ended = instance.exit
    log = (await real.log(ended.step)).splitlines()
    return diagnose_instance(
        InstanceEvidence(
            "shop",
            "blue",
            str(instance.phase),
            exit_code=ended.code,
            signal=ended.signal,
            report=ended.report,
            step=ended.step,
            oom=ended.oom,
            log_tail=tuple(log),
        )
    )


async def test_a_model_and_a_script_serve_on_every_worker(real, tmp_path):
    await deploy(real, tmp_path, GOOD)
    instance = (await real.phase(Phase.RUNNING))[0]
    assert len(instance.addresses) == 2
    for address in instance.addresses:
        status, content = score(address, '{"data": [1, 2]}')
        assert (status, json.loads(content)) == (200, [3, 6])
    await real.engine.remove(OWNER, instance.revision, grace_s=5)
    await real.until(lambda seen: not seen)
    assert "POST /score 200" in await real.log()
    assert list(real.settings.run_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "code", "line"),
    [
        ("def init(:\n", "UserScriptSyntaxError", 1),
        ("import sklearn_of_nowhere\n", "UserScriptImportError", 1),
        ("x = 1\ny = {}['key']\n", "ScriptRaised", 2),
        ("def init():\n    pass\n", "UserScriptFunctionNotFound", None),
        ("def init():\n    pass\ndef run(*data):\n    pass\n", "UserScriptBadSignature", None),
        ("def init():\n    1 / 0\ndef run(data):\n    pass\n", "UserScriptInitFailed", 2),
        (GOOD.replace("factor.json", "model/factor.json"), "ModelPathNotFound", 6),
        ("import os\nos.abort()\n", "NativeCodeCrashed", 2),
        ("import os\nos._exit(9)\n", "UserContainerCrash", None),
    ],
)
async def test_every_way_to_fail_has_its_verdict(real, tmp_path, script, code, line):
    await deploy(real, tmp_path, script)
    failed = await verdict(real)
    assert failed.code == code, failed
    assert failed.evidence or code in ("UserContainerCrash", "KilledBySignal")
    if line is not None:
        assert failed.target is not None
        assert failed.target.endswith(f"score.py:{line}")


async def test_a_script_that_is_not_there(real, tmp_path):
    group = await deploy(real, tmp_path, GOOD)
    await real.engine.remove(OWNER, group.revision, grace_s=0)
    await real.until(lambda seen: not seen)
    template = dataclasses.replace(group.template, scoring_script="sub/other.py")
    await real.engine.apply(dataclasses.replace(group, revision="0" * 12, template=template))
    assert (await verdict(real)).code == "ScriptMissing"


async def test_content_that_was_lost(real, tmp_path):
    group = await deploy(real, tmp_path, GOOD)
    await real.engine.remove(OWNER, group.revision, grace_s=0)
    await real.until(lambda seen: not seen)
    template = dataclasses.replace(group.template, code_digest="0" * 64)
    await real.engine.apply(dataclasses.replace(group, revision="1" * 12, template=template))
    failed = await verdict(real)
    assert (failed.code, failed.entry.numeric) == ("ArtifactsUnavailable", "ERR_1300")
    assert failed.evidence


async def test_a_running_request_is_answered_before_the_instance_ends(real, tmp_path):
    script = "import time\ndef init(): pass\ndef run(data):\n    time.sleep(0.8)\n    return 'done'\n"
    group = await deploy(real, tmp_path, script)
    instance = (await real.phase(Phase.RUNNING))[0]
    answer = asyncio.create_task(asyncio.to_thread(score, instance.addresses[0], "{}"))
    await asyncio.sleep(0.3)
    await real.engine.remove(OWNER, group.revision, grace_s=10)
    assert await answer == (200, b'"done"')
    await real.until(lambda seen: not seen)


async def test_a_killed_supervisor_takes_the_real_workers_along(real, tmp_path):
    await deploy(real, tmp_path, GOOD)
    instance = (await real.phase(Phase.RUNNING))[0]
    os.kill(instance.pids["supervisor"], signal.SIGKILL)
    await real.phase(Phase.GONE)
    await real.settled(lambda: not real.processes())
