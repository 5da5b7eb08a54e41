"""A thousand concurrent creates and deletes against a quota, over the control API of a real workspace.

    python -m bench.quota            (in a workspace of its own: MOORINGS_HOME, MOORINGS_GATEWAY_PORT)

A thousand are carried out, half of them creates and half deletes; what is refused meanwhile comes on top. Prints how many
were admitted and refused, the most that was held at any moment by the answers of the API, and what is held when all are
gone. Needs a workspace with nothing deployed; makes its own endpoint and removes it.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moorings.client import daemon_control
from moorings.client import quota as remote
from moorings.client.client import Client
from moorings.client.deploy import create_or_update_deployment
from moorings.client.operations import wait
from moorings.client.transport import SocketTransport
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import SystemClock
from moorings.settings import Settings
from moorings.spec.loader import examine_deployment

QUOTA, EACH = 20, 4
OPERATIONS, CALLERS = 1_000, 20
TURN_S = 0.2
"""About how long a caller that was refused waits before it asks again."""
ENDPOINT = "quota-bench"


def client_of(settings: Settings) -> Client:
    return Client(SocketTransport(settings.api_socket), settings.workspace.path)


def first(settings: Settings, folder: Path) -> Mapping[str, Any]:
    """Deploy once as a user does, so that code and environment are there; returns the body of the deployment."""
    (folder / "code").mkdir()
    (folder / "code" / "score.py").write_text("def init(): pass\ndef run(data): return 1\n")
    spec = {
        "name": "first",
        "endpoint_name": ENDPOINT,
        "code_configuration": {"code": "code", "scoring_script": "score.py"},
        "environment": {"conda_file": {"dependencies": ["python=3.11"]}},
        "instance_type": "Standard_F2s_v2",
    }
    (folder / "first.yml").write_text(json.dumps(spec))
    client = client_of(settings)
    wait_for(client, client.put_endpoint(ENDPOINT, {"location": "local", "properties": {"authMode": "Key"}}))
    wait_for(
        client, create_or_update_deployment(client, examine_deployment(folder / "first.yml").valid(), print)
    )
    body = client.deployment(ENDPOINT, "first")
    wait_for(client, client.delete_deployment(ENDPOINT, "first"))
    return body


def wait_for(client: Client, accepted: Any) -> None:
    if accepted.operation is not None:
        wait(client, accepted.operation, on_progress=lambda _: None, clock=SystemClock())


@dataclass
class Tally:
    """Counts of all callers."""

    admitted: int = 0
    refused: int = 0
    deleted: int = 0
    most: int = 0
    """Deployments that were there at once, as the API listed them."""
    most_said: int = 0
    """vCPUs that were held at once, as the API said."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, **changes: int) -> None:
        with self._lock:
            for name, by in changes.items():
                setattr(self, name, getattr(self, name) + by)

    def saw(self, there: int) -> None:
        with self._lock:
            self.most = max(self.most, there)

    @property
    def carried_out(self) -> int:
        return self.admitted + self.deleted


def caller(settings: Settings, number: int, body: Mapping[str, Any], tally: Tally) -> None:
    """Creates, and gives back what it got, so that the others get their turn; until enough has been carried out."""
    client, choice = client_of(settings), random.Random(number)  # noqa: S311 - no secret
    step = 0
    while tally.carried_out < OPERATIONS:
        step += 1
        name = f"d{number}-{step}"
        try:
            client.put_deployment(ENDPOINT, name, body)
        except MooringsError as problem:
            if problem.failure.code != "OutOfQuota":
                raise
            tally.note(refused=1)
            time.sleep(choice.uniform(0.5, 1.5) * TURN_S)
            continue
        tally.note(admitted=1)
        tally.saw(len(client.deployments(ENDPOINT)))
        wait_for(client, client.delete_deployment(ENDPOINT, name))
        tally.note(deleted=1)


def cores(client: Client) -> int:
    return next(int(u["currentValue"]) for u in remote.usages(client) if u["name"]["value"] == "cores")


def main() -> int:
    settings = Settings.load()
    daemon_control.ensure_running(settings, settings.workspace.path, print)
    client = client_of(settings)
    if cores(client):
        print("something is deployed in this workspace: use one of its own", file=sys.stderr)
        return 1
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        body = first(settings, Path(folder))
    remote.set_quotas(client, {"cores": QUOTA})
    began = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as pool:
        done = [pool.submit(caller, settings, n, body, tally) for n in range(CALLERS)]
        while not all(one.done() for one in done):
            tally.most_said = max(tally.most_said, cores(client))
            time.sleep(0.02)
        for one in done:
            one.result()
    seconds = time.monotonic() - began
    left = cores(client)
    remote.set_quotas(client, {"cores": None})
    wait_for(client, client.delete_endpoint(ENDPOINT))
    over = max(0, tally.most * EACH - QUOTA, tally.most_said - QUOTA)
    print(
        f"{tally.carried_out} creates and deletes of {CALLERS} callers in {seconds:.1f} s: {tally.admitted} creates admitted, "
        f"{tally.deleted} deletes; {tally.refused} creates refused on top\n"
        f"quota {QUOTA} vCPUs, {EACH} each: most at once {tally.most} deployments ({tally.most_said} vCPUs said); "
        f"over-allocation {over}, leak {left}"
    )
    return 0 if over == left == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
