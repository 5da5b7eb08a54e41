"""The discovery protocol, spoken by a scripted Envoy: order, acknowledgements, refusals, reconnection."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from moorings.gateway import binary, descriptors, envoy, snapshot
from moorings.gateway.ads import DiscoveryServer
from moorings.gateway.envoy import ASSIGNMENT, CLUSTER, ROUTES, RUNTIME, SCOPE
from moorings.gateway.state import DeploymentRoute, EndpointRoute, GatewayState

URL = "type.googleapis.com/"


@pytest.fixture(scope="module")
def messages() -> descriptors.Messages:
    return descriptors.Messages(descriptors.extract(binary.find()))


@pytest.fixture
def server(messages, tmp_path) -> DiscoveryServer:
    return DiscoveryServer(messages, tmp_path / "ads.sock", lambda: None)


def bundles(*names: str, timeout_ms: int = 5000, period_s: float = 10.0) -> dict[str, envoy.Bundle]:
    deployment = DeploymentRoute("blue", ("/r/a",), 1, 1, timeout_ms, health_period_s=period_s)
    return envoy.resources(
        GatewayState(tuple(EndpointRoute(name, ("k",), (deployment,), {"blue": 100}) for name in names))
    )


class Envoy:
    """Speaks the protocol by hand on the server's stream method; acknowledges only when told."""

    def __init__(self, server: DiscoveryServer, messages: descriptors.Messages) -> None:
        self._request = messages.type("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        self._inbox: asyncio.Queue = asyncio.Queue()
        self._stream = server._serve(self._requests(), None)
        self._next: asyncio.Task | None = None

    async def _requests(self):
        while (item := await self._inbox.get()) is not None:
            yield item

    def subscribe(self, kind: str, *names: str, held: dict[str, str] | None = None) -> None:
        self._inbox.put_nowait(
            self._request(
                type_url=URL + kind, resource_names_subscribe=names, initial_resource_versions=held or {}
            )
        )

    def unsubscribe(self, kind: str, *names: str) -> None:
        self._inbox.put_nowait(self._request(type_url=URL + kind, resource_names_unsubscribe=names))

    def answer(self, response, refusal: str | None = None) -> None:
        request = self._request(type_url=response.type_url, response_nonce=response.nonce)
        if refusal is not None:
            request.error_detail.message = refusal
        self._inbox.put_nowait(request)

    async def receive(self):
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._stream))
        response = await asyncio.wait_for(asyncio.shield(self._next), 2)
        self._next = None
        return response

    async def silent(self) -> bool:
        """Whether nothing is owed now: the server has run until it waits for us."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._stream))
        for _ in range(20):
            await asyncio.sleep(0)
        return not self._next.done()

    async def expect(self, kind: str, *, ack: bool = True):
        response = await self.receive()
        assert response.type_url == URL + kind
        if ack:
            self.answer(response)
        return response

    async def boot(self, *names: str) -> None:
        """The whole start, everything acknowledged."""
        self.subscribe(RUNTIME, "caps")
        await self.expect(RUNTIME)
        self.subscribe(CLUSTER)
        await self.expect(CLUSTER)
        if names:
            self.subscribe(ASSIGNMENT, *(f"{name}~blue" for name in names))
            await self.expect(ASSIGNMENT)
        self.subscribe(SCOPE)
        await self.expect(SCOPE)
        if names:
            self.subscribe(ROUTES, *(f"endpoint-{name}" for name in names))
            await self.expect(ROUTES)
        assert await self.silent()

    async def close(self) -> None:
        self._inbox.put_nowait(None)
        if self._next is not None:
            with contextlib.suppress(StopAsyncIteration):
                await self._next
        await self._stream.aclose()


@pytest.fixture
async def connect(server, messages):
    opened: list[Envoy] = []

    def make() -> Envoy:
        opened.append(Envoy(server, messages))
        return opened[-1]

    yield make
    for client in opened:
        await client.close()


def names(response) -> list[str]:
    return sorted(resource.name for resource in response.resources)


async def test_scopes_and_routes_wait_for_the_acknowledgement_of_clusters_and_workers(server, connect):
    server.publish(bundles("shop"))
    client = connect()
    client.subscribe(RUNTIME, "caps")
    await client.expect(RUNTIME)
    client.subscribe(SCOPE)
    client.subscribe(CLUSTER)
    clusters = await client.expect(CLUSTER, ack=False)
    client.subscribe(ASSIGNMENT, "shop~blue")
    await client.expect(ASSIGNMENT)
    assert await client.silent()
    assert server.accepted == {}
    client.answer(clusters)
    scopes = await client.expect(SCOPE)
    assert names(scopes) == ["shop", "shop.localhost"]
    client.subscribe(ROUTES, "endpoint-shop")
    routes = await client.expect(ROUTES, ack=False)
    assert server.accepted == {}
    client.answer(routes)
    assert await client.silent()
    assert server.accepted == {"shop": bundles("shop")["shop"].version}


async def test_an_empty_state_is_answered_so_that_envoy_can_open_its_listener(server, connect):
    server.publish({})
    client = connect()
    await client.boot()


async def test_a_changed_cluster_is_followed_by_its_workers_again(server, connect):
    server.publish(bundles("shop", "bank"))
    client = connect()
    await client.boot("shop", "bank")
    server.publish({**bundles("shop", period_s=5.0), **bundles("bank")})
    assert names(await client.expect(CLUSTER)) == ["shop~blue"]
    assert names(await client.expect(ASSIGNMENT)) == ["shop~blue"]
    assert await client.silent()


async def test_what_is_gone_is_removed_from_the_front_to_the_back(server, connect):
    server.publish(bundles("shop", "bank"))
    client = connect()
    await client.boot("shop", "bank")
    server.publish(bundles("bank"))
    await client.expect(RUNTIME)
    # A named resource's end is told with its type; scopes and clusters are what Envoy acts on.
    order = []
    while not await client.silent():
        response = await client.receive()
        client.answer(response)
        order.append((response.type_url.removeprefix(URL), list(response.removed_resources)))
    removed = dict(order)
    assert sorted(removed[SCOPE]) == ["shop", "shop.localhost"]
    assert removed[CLUSTER] == ["shop~blue"]
    kinds = [kind for kind, _ in order]
    assert kinds.index(SCOPE) < kinds.index(CLUSTER)
    assert set(server.accepted) == {"bank"}


async def test_nothing_is_removed_while_what_replaces_it_is_not_there(server, connect):
    server.publish(bundles("shop"))
    client = connect()
    await client.boot("shop")
    server.publish(bundles("bank"))
    await client.expect(RUNTIME)
    added = await client.expect(CLUSTER, ack=False)
    assert names(added) == ["bank~blue"]
    assert not added.removed_resources
    while not await client.silent():
        response = await client.receive()
        assert response.type_url in (URL + ASSIGNMENT, URL + ROUTES)
        assert "bank" not in str(names(response))
        client.answer(response)
    client.answer(added)
    client.subscribe(ASSIGNMENT, "bank~blue")
    await client.expect(ASSIGNMENT)
    assert names(await client.expect(SCOPE)) == ["bank", "bank.localhost"]


async def test_a_refused_response_is_repeated_per_endpoint_and_blames_only_the_guilty(server, connect):
    first = bundles("shop", "bank", "mill")
    server.publish(first)
    client = connect()
    await client.boot("shop", "bank", "mill")
    second = bundles("shop", "bank", "mill", timeout_ms=9000)
    server.publish(second)
    together = await client.expect(ROUTES, ack=False)
    assert len(together.resources) == 3
    client.answer(together, "something in there is wrong")
    for _ in range(3):
        response = await client.expect(ROUTES, ack=False)
        (name,) = names(response)
        client.answer(response, "no good" if name == "endpoint-bank" else None)
    assert await client.silent()
    assert server.refused == {"bank": (second["bank"].version, "no good")}
    assert server.accepted == {
        "shop": second["shop"].version,
        "bank": first["bank"].version,
        "mill": second["mill"].version,
    }


async def test_a_refusal_is_forgotten_with_the_version_it_was_about(server, connect):
    server.publish(bundles("shop"))
    client = connect()
    await client.boot("shop")
    server.publish(bundles("shop", timeout_ms=1))
    client.answer(await client.expect(ROUTES, ack=False), "no")
    assert await client.silent()
    assert set(server.refused) == {"shop"}
    server.publish(bundles("shop"))
    assert server.refused == {}


async def test_an_envoy_that_reconnects_with_everything_is_sent_nothing_and_counts_as_accepted(
    server, connect
):
    served = bundles("shop")
    server.publish(served)
    held: dict[str, dict[str, str]] = {}
    for resource in served["shop"].resources:
        held.setdefault(resource.type, {})[resource.name] = resource.version
    client = connect()
    client.subscribe(RUNTIME, "caps", held={"caps": envoy.runtime(list(served.values())).version})
    client.subscribe(CLUSTER, held=held[CLUSTER])
    client.subscribe(ASSIGNMENT, "shop~blue", held=held[ASSIGNMENT])
    client.subscribe(SCOPE, held=held[SCOPE])
    client.subscribe(ROUTES, "endpoint-shop", held=held[ROUTES])
    while not await client.silent():
        response = await client.receive()
        assert not response.resources
        assert not response.removed_resources
        client.answer(response)
    assert server.accepted == {"shop": served["shop"].version}


async def test_an_envoy_that_reconnects_with_leftovers_loses_them(server, connect):
    server.publish(bundles("shop"))
    client = connect()
    client.subscribe(RUNTIME, "caps")
    await client.expect(RUNTIME)
    client.subscribe(CLUSTER, held={"gone~blue": "old", "shop~blue": "old"})
    assert names(await client.expect(CLUSTER)) == ["shop~blue"]
    client.subscribe(ASSIGNMENT, "shop~blue")
    await client.expect(ASSIGNMENT)
    assert (await client.expect(CLUSTER)).removed_resources == ["gone~blue"]


async def test_acceptance_waits_for_the_caps(server, connect):
    server.publish(bundles("shop"))
    client = connect()
    client.subscribe(RUNTIME, "caps")
    caps = await client.expect(RUNTIME, ack=False)
    client.subscribe(CLUSTER)
    await client.expect(CLUSTER)
    client.subscribe(ASSIGNMENT, "shop~blue")
    await client.expect(ASSIGNMENT)
    client.subscribe(SCOPE)
    await client.expect(SCOPE)
    client.subscribe(ROUTES, "endpoint-shop")
    await client.expect(ROUTES)
    assert await client.silent()
    assert server.accepted == {}
    client.answer(caps)
    assert await client.silent()
    assert set(server.accepted) == {"shop"}


async def test_a_change_of_one_endpoint_costs_the_same_whatever_others_there_are(
    messages, tmp_path, monkeypatch
):
    async def cost(count: int) -> tuple[list[str], list[str]]:
        """What is packed, and of which endpoints it is asked whether all was acknowledged, until the change is accepted."""
        server = DiscoveryServer(messages, tmp_path / "ads.sock", lambda: None)
        every = [f"shop-{number}" for number in range(count)]
        server.publish(bundles(*every))
        client = Envoy(server, messages)
        await client.boot(*every)
        packed: list[str] = []
        asked: list[str] = []
        pack, whole = messages.pack, server._acked
        monkeypatch.setattr(messages, "pack", lambda kind, body: packed.append(kind) or pack(kind, body))

        def acked(stream, bundle, kinds):
            if CLUSTER in kinds and ROUTES in kinds:
                asked.append(bundle.endpoint)
            return whole(stream, bundle, kinds)

        server._acked = acked
        changed = {**bundles(*every), **bundles("shop-1", timeout_ms=6000)}
        server.publish(changed)
        routes = await client.expect(ROUTES)
        assert names(routes) == ["endpoint-shop-1"]
        assert await client.silent()
        assert server.accepted == {name: bundle.version for name, bundle in changed.items()}
        await client.close()
        monkeypatch.undo()
        return packed, asked

    few, many = await cost(3), await cost(40)
    assert few == many
    assert len(few[0]) == 1
    assert set(few[1]) == {"shop-1"}


def test_the_hosts_of_a_bundle_are_found_once(monkeypatch):
    found = []
    (bundle,) = bundles("shop").values()
    original = envoy.envoy_clusters.address_of
    monkeypatch.setattr(envoy.envoy_clusters, "address_of", lambda a: found.append(a) or original(a))
    for _ in range(3):
        assert list(snapshot.workers([bundle])) == [("shop~blue", "/r/a")]
        assert list(snapshot.rooms([bundle])) == []
    assert len(found) == 2, "once for workers, once for rooms"


async def test_a_field_that_the_binary_does_not_know_is_a_refusal_of_that_endpoint(server):
    found = bundles("shop", "bank")
    resource = found["shop"].resources[0]
    wrong = envoy.Resource(resource.type, resource.name, {**resource.body, "no_such_field": 1})
    server.publish({**found, "shop": envoy.Bundle("shop", (wrong,), {})})
    assert set(server.refused) == {"shop"}
    assert "no_such_field" in server.refused["shop"][1]


def test_descriptors_come_from_the_cache_and_from_the_binary_when_it_is_spoilt(tmp_path):
    first = descriptors.load(binary.find(), tmp_path, "ab" * 32)
    (cache,) = tmp_path.iterdir()
    whole = cache.read_bytes()
    assert cache.stat().st_mode & 0o777 == 0o600
    cache.write_bytes(whole[: len(whole) // 2])
    descriptors.load(binary.find(), tmp_path, "ab" * 32)
    assert cache.read_bytes() == whole
    packed = first.pack(CLUSTER, {"name": "x", "connect_timeout": "1.500s"})
    assert packed.type_url == URL + CLUSTER
