"""Envoy's discovery server: delta ADS over a unix socket, in an order that never names what isn't there yet.

It is told which bundles to serve and tells which versions Envoy has acknowledged or refused. It must not know
why. Ends of the protocol that matter here: several resources travel in one response, and a refusal names none
of them for certain; so a refused response is sent again one endpoint at a time, and the refusal falls on that
endpoint alone.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from moorings.gateway.descriptors import Messages
from moorings.gateway.envoy import (
    ASSIGNMENT,
    CLUSTER,
    EXTENSION,
    ROUTES,
    RUNTIME,
    SCOPE,
    Bundle,
    Resource,
    no_tokens,
    runtime,
)

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_URL = "type.googleapis.com/"
_ADDED = (RUNTIME, EXTENSION, CLUSTER, ASSIGNMENT, SCOPE, ROUTES)
_REMOVED = (SCOPE, ROUTES, CLUSTER, ASSIGNMENT)
_ABSENT = ""
"""Version of a name that Envoy asked for and was told does not exist."""
_BACKING = (CLUSTER, ASSIGNMENT)


@dataclass(frozen=True)
class _Entry:
    """A resource as it is served: whose it is (None: everybody's), of which bundle, and its bytes."""

    resource: Resource
    endpoint: str | None
    bundle: str
    packed: Any


@dataclass
class _Subscription:
    """What one stream wants of one type, and what it has been sent and has acknowledged (name -> version)."""

    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)
    acked: dict[str, str] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    """Names of a refused response, to be sent again apart from other endpoints'."""
    answered: bool = False


@dataclass
class _Stream:
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    types: dict[str, _Subscription] = field(default_factory=dict)
    outstanding: dict[str, tuple[str, list[_Entry]]] = field(default_factory=dict)
    """Nonce -> type and entries of responses without an answer yet."""
    closed: bool = False


class DiscoveryServer:
    """Serves bundles to one Envoy. `changed()` is called after every answer of Envoy; it must return at
    once."""

    def __init__(self, messages: Messages, socket: Path, changed: Callable[[], None]) -> None:
        self._messages = messages
        self._socket = socket
        self._changed = changed
        self._request = messages.type("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        self._response = messages.type("envoy.service.discovery.v3.DeltaDiscoveryResponse")
        self._bundles: dict[str, Bundle] = {}
        self._entries: dict[str, dict[str, _Entry]] = {kind: {} for kind in _ADDED}
        self._packed: dict[str, list[_Entry]] = {}
        """The same by endpoint."""
        self._stream: _Stream | None = None
        self._nonces = itertools.count(1)
        self._server: grpc.aio.Server | None = None
        self.accepted: dict[str, str] = {}
        """Endpoint -> version of the bundle that Envoy has acknowledged in every part."""
        self.refused: dict[str, tuple[str, str]] = {}
        """Endpoint -> version of the bundle and Envoy's message."""

    @property
    def connected(self) -> bool:
        return self._stream is not None

    async def start(self) -> None:
        """Listen on the socket (0600). Raises OSError or RuntimeError when it can't be bound."""
        self._socket.unlink(missing_ok=True)
        server = grpc.aio.server(
            options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        )
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=self._request.FromString,
            response_serializer=self._response.SerializeToString,
        )
        method = {"DeltaAggregatedResources": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, method),))
        server.add_insecure_port(f"unix:{self._socket}")
        await server.start()
        self._socket.chmod(0o600)
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=0)
            self._server = None

    def publish(self, bundles: Mapping[str, Bundle]) -> None:
        """Serve exactly `bundles` from now on."""
        before, were, packed = self._entries, self._bundles, self._packed
        after: dict[str, dict[str, _Entry]] = {kind: {} for kind in _ADDED}
        self._bundles, self._packed = {}, {}
        for name, bundle in bundles.items():
            if name in were and were[name].version == bundle.version:
                entries = packed[name]
            else:
                try:
                    entries = [self._entry(r, name, bundle.version, before) for r in bundle.resources]
                except ValueError as problem:
                    self.refused[name] = (bundle.version, str(problem))
                    continue
            self._bundles[name], self._packed[name] = bundle, entries
            for entry in entries:
                after[entry.resource.type][entry.resource.name] = entry
        caps = runtime(list(self._bundles.values()))
        after[RUNTIME][caps.name] = self._entry(caps, None, caps.version, before)
        closed = no_tokens()
        if closed.name not in after[EXTENSION]:
            after[EXTENSION][closed.name] = self._entry(closed, None, closed.version, before)
        self._entries = after
        self.accepted = {name: version for name, version in self.accepted.items() if name in bundles}
        self.refused = {
            name: found
            for name, found in self.refused.items()
            if name in bundles and bundles[name].version == found[0]
        }
        self._settle()
        if self._stream is not None:
            self._stream.wake.set()

    def seed(self, accepted: Mapping[str, str]) -> None:
        """What a running Envoy had acknowledged to the agent before this one."""
        self.accepted = dict(accepted)

    def forget(self) -> None:
        """The Envoy of the acknowledgements is gone."""
        self.accepted = {}

    def _entry(
        self,
        resource: Resource,
        endpoint: str | None,
        bundle: str,
        before: Mapping[str, Mapping[str, _Entry]],
    ) -> _Entry:
        known = before[resource.type].get(resource.name)
        if known is not None and known.resource.version == resource.version:
            return _Entry(resource, endpoint, bundle, known.packed)
        return _Entry(resource, endpoint, bundle, self._messages.pack(resource.type, resource.body))

    async def _serve(self, requests: AsyncIterator[Any], context: object) -> AsyncIterator[Any]:
        stream = _Stream()
        self._stream = stream
        reader = asyncio.ensure_future(self._read(stream, requests))
        try:
            while not stream.closed:
                await stream.wake.wait()
                stream.wake.clear()
                for response in self._due(stream):
                    yield response
        finally:
            reader.cancel()
            if self._stream is stream:
                self._stream = None
            self._changed()

    async def _read(self, stream: _Stream, requests: AsyncIterator[Any]) -> None:
        try:
            async for request in requests:
                self._take(stream, request)
                stream.wake.set()
                self._changed()
        finally:
            stream.closed = True
            stream.wake.set()

    def _take(self, stream: _Stream, request: Any) -> None:
        """One request of Envoy: subscriptions, and the answer to a response of ours."""
        kind = request.type_url.removeprefix(_URL)
        if kind not in self._entries:
            return
        subscription = stream.types.get(kind)
        if subscription is None:
            subscription = stream.types[kind] = _Subscription()
            asked = request.resource_names_subscribe
            subscription.wildcard = not asked or "*" in asked
            # A reconnecting Envoy says what it holds; versions are hashes of content, so equal ones need no
            # resend.
            subscription.sent.update(request.initial_resource_versions)
            subscription.acked.update(request.initial_resource_versions)
            subscription.names.update(name for name in asked if name != "*")
        else:
            for name in request.resource_names_subscribe:
                subscription.names.add(name)
                subscription.sent.pop(name, None)
        for name in request.resource_names_unsubscribe:
            subscription.names.discard(name)
            subscription.sent.pop(name, None)
            subscription.acked.pop(name, None)
        if request.response_nonce in stream.outstanding:
            _, entries = stream.outstanding.pop(request.response_nonce)
            message = request.error_detail.message if request.HasField("error_detail") else None
            self._answered(subscription, entries, message)
        if stream is self._stream:
            self._settle()

    def _answered(self, subscription: _Subscription, entries: list[_Entry], message: str | None) -> None:
        names = [entry.resource.name for entry in entries]
        if message is None:
            for entry in entries:
                subscription.acked[entry.resource.name] = entry.resource.version
            subscription.alone.difference_update(names)
            return
        endpoints = {entry.endpoint: entry.bundle for entry in entries if entry.endpoint is not None}
        if len(endpoints) > 1:
            subscription.alone.update(names)
            for name in names:
                subscription.sent.pop(name, None)
            return
        for endpoint, bundle in endpoints.items():
            current = self._bundles.get(endpoint)
            if current is not None and current.version == bundle:
                self.refused[endpoint] = (bundle, message)

    def _settle(self) -> None:
        """Mark as accepted what is acknowledged in every part."""
        stream = self._stream
        if stream is None:
            return
        capped = self._caps_acked(stream)
        answers = {entry.endpoint for _, entries in stream.outstanding.values() for entry in entries}
        for name, bundle in self._bundles.items():
            if self.accepted.get(name) == bundle.version and name not in answers:
                continue
            if self._acked(stream, bundle, _ADDED) and all(
                capped.get(f"circuit_breakers.{cluster}.default.max_requests") == cap
                for cluster, cap in bundle.caps.items()
            ):
                self.accepted[name] = bundle.version
            elif self.accepted.get(name) == bundle.version and self._in_flight(stream, bundle):
                # Another version is on its way to Envoy: it may hold that one before it comes back to this.
                del self.accepted[name]

    def _in_flight(self, stream: _Stream, bundle: Bundle) -> bool:
        return any(
            entry.endpoint == bundle.endpoint and entry.bundle != bundle.version
            for _, entries in stream.outstanding.values()
            for entry in entries
        )

    def _caps_acked(self, stream: _Stream) -> Mapping[str, int]:
        subscription = stream.types.get(RUNTIME)
        for name, entry in self._entries[RUNTIME].items():
            if subscription is not None and subscription.acked.get(name) == entry.resource.version:
                layer: Mapping[str, int] = entry.resource.body["layer"]
                return layer
        return {}

    def _acked(self, stream: _Stream, bundle: Bundle, kinds: Iterable[str]) -> bool:
        return all(
            resource.type in stream.types
            and stream.types[resource.type].acked.get(resource.name) == resource.version
            for resource in bundle.resources
            if resource.type in kinds
        )

    def _due(self, stream: _Stream) -> Iterator[Any]:
        """Responses that are owed, in order: clusters, their workers, then what names them; removals the
        other way."""
        held = {name for name, bundle in self._bundles.items() if not self._acked(stream, bundle, _BACKING)}
        for kind in _ADDED:
            subscription = stream.types.get(kind)
            if subscription is None:
                continue
            # Routes wait until Envoy has acknowledged the clusters they name. The first answer waits for all
            # of them: it is what lets a starting Envoy open its listener.
            waiting = held if kind in (SCOPE, ROUTES) else set()
            if waiting and not subscription.answered:
                continue
            due = [entry for entry in self._wanted(subscription, kind) if entry.endpoint not in waiting]
            gone = self._unknown(subscription, kind)
            if due or gone or not subscription.answered:
                yield from self._respond(stream, kind, due, gone)
        if held:
            return
        for kind in _REMOVED:
            subscription = stream.types.get(kind)
            if subscription is None or not subscription.wildcard:
                continue
            gone = [name for name in subscription.sent if name not in self._entries[kind]]
            if gone:
                yield from self._respond(stream, kind, [], gone)

    def _wanted(self, subscription: _Subscription, kind: str) -> list[_Entry]:
        entries = self._entries[kind]
        names = entries if subscription.wildcard else sorted(subscription.names & entries.keys())
        return [
            entries[name] for name in names if subscription.sent.get(name) != entries[name].resource.version
        ]

    def _unknown(self, subscription: _Subscription, kind: str) -> list[str]:
        """Names Envoy asks for that do not exist (any more): it waits for them unless told."""
        if subscription.wildcard:
            return []
        missing = subscription.names - self._entries[kind].keys()
        return sorted(name for name in missing if subscription.sent.get(name) != _ABSENT)

    def _respond(self, stream: _Stream, kind: str, due: list[_Entry], gone: list[str]) -> Iterator[Any]:
        subscription = stream.types[kind]
        subscription.answered = True
        for name in gone:
            subscription.acked.pop(name, None)
            if subscription.wildcard:
                subscription.sent.pop(name, None)
            else:
                subscription.sent[name] = _ABSENT
        together = [entry for entry in due if entry.resource.name not in subscription.alone]
        apart: dict[str | None, list[_Entry]] = {}
        for entry in due:
            if entry.resource.name in subscription.alone:
                apart.setdefault(entry.endpoint, []).append(entry)
        if together or gone or not apart:
            yield self._message(stream, kind, together, gone)
        for group in apart.values():
            yield self._message(stream, kind, group, [])

    def _message(self, stream: _Stream, kind: str, entries: list[_Entry], gone: list[str]) -> Any:
        subscription = stream.types[kind]
        nonce = str(next(self._nonces))
        response = self._response(type_url=_URL + kind, nonce=nonce, removed_resources=gone)
        for entry in entries:
            name, version = entry.resource.name, entry.resource.version
            item = response.resources.add()
            item.name = name
            item.version = version
            item.resource.CopyFrom(entry.packed)
            if kind == CLUSTER and ASSIGNMENT in stream.types:
                # Envoy rebuilds a changed cluster but does not ask for its workers again: without them the
                # new one would wait 15 s.
                stream.types[ASSIGNMENT].sent.pop(name, None)
                stream.types[ASSIGNMENT].acked.pop(name, None)
            subscription.sent[name] = version
        stream.outstanding[nonce] = (kind, entries)
        return response
