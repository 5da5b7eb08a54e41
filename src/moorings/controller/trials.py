"""One real score of every new instance before it may take traffic, where its deployment has a sample request.

The request goes to the instance itself, on the address and the route that the gateway would use, so that no caller of the
endpoint ever waits for what it comes to. It must not know what becomes of an instance whose answer is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from moorings.contract import ROUTE_SCORE
from moorings.engines.base import CONTAINER_SERVER, Engine, Instance, InstanceTemplate
from moorings.errors.diagnosis import lines
from moorings.errors.exceptions import Failure, failure
from moorings.lib.timing import Clock
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.own_settings import SAMPLE_REQUEST

LOG_LINES = 200
HEAD_CHARS = 400
"""How much of a wrong answer is shown."""
MOST_READ_BYTES = 4096
AGAIN_S = 30.0
"""An instance of a generation that serves is asked again so long after a wrong answer; a rollout has failed by then."""
LOG_PATIENCE_S = 0.3
"""A traceback may reach the log a moment after the answer."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int | None
    """None: no answer in the time that a request may take."""
    seconds: float
    head: str = ""
    """The beginning of the body."""


Post = Callable[[str, str, bytes, float], Awaitable[Answer | None]]
"""(address, path, body, time-out in seconds) -> the answer; None: nobody took the connection, or it was lost."""


@dataclass
class Trials:
    """Remembers, per deployment, which trials go on and what they came to; lost with the daemon but for what the caller
    writes down."""

    engine: Engine
    clock: Clock
    post: Post | None = None
    _running: dict[tuple[str, str], asyncio.Task[Answer | None]] = field(default_factory=dict)
    """By owner and instance, as what follows."""
    _failed: dict[tuple[str, str], tuple[float, Failure]] = field(default_factory=dict)
    _good: set[tuple[str, str]] = field(default_factory=set)
    """What may not have been written down yet."""
    _generations: dict[str, int] = field(default_factory=dict)

    async def look(
        self,
        owner: str,
        generation: int,
        spec: DeploymentSpec,
        template: InstanceTemplate,
        untried: Sequence[Instance],
    ) -> tuple[frozenset[str], Failure | None]:
        """Try each of `untried` once for a generation; returns the ids of those that have answered well, and the
        failure of one that has not. Takes only as long as a log takes to read."""
        if self._generations.get(owner) != generation:
            self.forget(owner)
            self._generations[owner] = generation
        body = spec.properties[SAMPLE_REQUEST].encode()
        routes = template.container.routes if template.container else None
        path = routes.scoring_path if routes else ROUTE_SCORE
        timeout_s = spec.request_settings.request_timeout_ms / 1000
        now = self.clock.monotonic()
        for instance in untried:
            key = (owner, instance.id)
            if key in self._good or (key in self._failed and now - self._failed[key][0] < AGAIN_S):
                continue
            task = self._running.get(key)
            if task is None:
                work = _guarded((self.post or post_sample)(instance.addresses[0], path, body, timeout_s))
                self._running[key] = asyncio.create_task(work, name=f"trial:{instance.id}")
            elif task.done():
                del self._running[key]
                answer = task.result()  # None: it is asked again at the next look, while the rollout has time
                self._failed.pop(key, None)
                if answer is not None and answer.status == 200:
                    self._good.add(key)
                elif answer is not None:
                    self._failed[key] = (now, await self._verdict(instance, spec, answer))
        wrong = next((self._failed[owner, i.id][1] for i in untried if (owner, i.id) in self._failed), None)
        return frozenset(i.id for i in untried if (owner, i.id) in self._good), wrong

    def keep(self, owner: str, ids: Collection[str]) -> None:
        """Forget instances of an owner that are not there any more."""
        for key in [each for each in (*self._running, *self._failed, *self._good) if each[0] == owner]:
            if key[1] not in ids:
                self._drop(key)

    def forget(self, owner: str) -> None:
        """The owner is gone, or begins anew."""
        self._generations.pop(owner, None)
        self.keep(owner, ())

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()

    def _drop(self, key: tuple[str, str]) -> None:
        self._failed.pop(key, None)
        self._good.discard(key)
        task = self._running.pop(key, None)
        if task is not None:
            task.cancel()

    async def _verdict(self, instance: Instance, spec: DeploymentSpec, answer: Answer) -> Failure:
        await asyncio.sleep(0 if self.post else LOG_PATIENCE_S)
        log = await self.engine.logs(
            instance.owner, container=CONTAINER_SERVER, tail=LOG_LINES, instance=instance.id
        )
        trace = lines.last_traceback((log or "").splitlines()) if answer.status != 404 else ()
        roots = {instance.code_dir: "", instance.model_dir: "$AZUREML_MODEL_DIR"}
        allowed = f"{spec.request_settings.request_timeout_ms} ms (request_timeout_ms)"
        if answer.status is None:
            said = f"was not answered within {allowed}"
            evidence = [f"no answer within {allowed}"]
        else:
            said = f"was answered with {answer.status}, not 200"
            evidence = [f"HTTP {answer.status} after {answer.seconds * 1000:.0f} ms"]
        evidence += [line for line in answer.head.splitlines() if line.strip()][:8]
        if trace:
            evidence += ["in the log of the instance:", *trace]
        shown = [lines.shown(lines.text_of(line), roots) for line in evidence]
        last = f": {lines.shown(lines.text_of(trace[-1]), roots)}" if trace else ""
        return failure(
            "SampleRequestFailed",
            f"the sample request {said}, by the new instance {instance.id}{last}"[:600],
            target=f"properties.{SAMPLE_REQUEST}",
            evidence=lines.fitted(shown),
            fields={"endpoint": spec.endpoint_name, "deployment": spec.name},
        )


async def _guarded(work: Awaitable[Answer | None]) -> Answer | None:
    return await work


async def post_sample(address: str, path: str, body: bytes, timeout_s: float) -> Answer | None:
    """POST `body` as JSON to a worker; see `Post`. `address`: a socket's path, or `host:port`."""
    import httpx

    clock = asyncio.get_running_loop().time
    began = clock()
    transport = httpx.AsyncHTTPTransport(uds=address if address.startswith("/") else None)
    base = "http://worker" if address.startswith("/") else f"http://{address}"
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client,  # noqa: S113 - above
            client.stream(
                "POST", base + path, content=body, headers={"content-type": "application/json"}
            ) as answer,
        ):
            read = bytearray()
            async for chunk in answer.aiter_bytes():
                read += chunk[:MOST_READ_BYTES]
                if answer.status_code != 200 and len(read) >= MOST_READ_BYTES:
                    break
            head = bytes(read[:MOST_READ_BYTES]).decode("utf-8", "replace")[:HEAD_CHARS]
            return Answer(answer.status_code, clock() - began, head)
    except TimeoutError:
        return Answer(None, clock() - began)
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        return None
