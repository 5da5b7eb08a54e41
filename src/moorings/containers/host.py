"""A Docker Engine of this machine: what we ask of it, in coded failures. The only module that knows the client library.

The library is loaded with the first request. Every method blocks: call them on threads. Must not know what an image
or a container is for.
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorings.containers.credentials import Credentials, Login
from moorings.containers.reading import (
    BuildReader,
    no_space,
    pull_failure,
    push_failure,
    registry_of,
    split_tag,
)
from moorings.containers.tarring import UnreadableError, tar_stream
from moorings.errors.exceptions import MooringsError, error, failure
from moorings.errors.sentence import sentence

DEFAULT_HOST = "unix:///var/run/docker.sock"
REQUEST_TIMEOUT_S = 60.0
STOPPING_S = 0.5
"""How long an engine that is being stopped may still answer."""
BUILD_TIMEOUT_S = 3600.0
"""Longest silence of a build or a transfer."""
_SHORT_ID = 19
_CONFLICT = 409


@dataclass(frozen=True)
class Image:
    """An image of this machine."""

    id: str
    """`sha256:...`: its content."""
    labels: Mapping[str, str]
    environment: tuple[str, ...]
    """`NAME=value`."""
    user: str
    size_bytes: int


class _Absent(MooringsError):  # noqa: N818 - not a failure where the caller expects it
    """What was asked about is not there."""


class Output:
    """What a container says, in chunks as they come. Whoever reads it closes it when the reading has ended."""

    def __init__(self, stream: Any) -> None:
        """`stream`: the library's; it gives no public way to its connection, which it does not let go of by itself."""
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def cut(self) -> None:
        """End the reading, from another thread."""
        with contextlib.suppress(OSError, AttributeError):  # it has ended already
            self._stream.close()

    def close(self) -> None:
        self.cut()
        self._stream._response.close()


def kept_login(registry: str) -> Login | None:
    """What `docker login` (or a credential helper) keeps for a registry; None: nothing.

    Raises `ImagePullDenied` where it cannot be read.
    """
    import docker.auth
    import docker.errors

    try:
        found = docker.auth.load_config().resolve_authconfig(registry) or {}
    except docker.errors.DockerException as problem:
        message = f"what docker login keeps for {registry} cannot be read"
        fix = sentence(
            "docker login {registry} (as the user the workspace runs as), then run the same command again.",
            registry=registry,
        )
        raise error(
            "ImagePullDenied", message, target=registry, evidence=(str(problem)[:500],), fix=fix
        ) from None
    kept = {str(name).lower(): str(value) for name, value in found.items() if value}
    if "identitytoken" in kept:
        return Login("", kept["identitytoken"], is_identity=True)
    return Login(kept["username"], kept.get("password", "")) if "username" in kept else None


class DockerHost:
    """One engine, at a unix socket."""

    def __init__(self, host: str, credentials: Credentials, *, owner: str = "") -> None:
        """`host`: `unix:///path`; empty for the usual place. `owner`: whose the containers are that serve for moments."""
        self.host = host or DEFAULT_HOST
        self._scratch = f"moorings-scratch-{owner or secrets.token_hex(8)}-"
        self._credentials = credentials
        self._client: Any = None
        self._lock = threading.Lock()

    # --- the engine itself ---

    def check(self) -> None:
        """Raises `DockerEngineNotAvailable` or `DockerAccessDenied` when it does not answer."""
        with self._coded():
            self._api.ping()

    def facts(self) -> Mapping[str, Any]:
        """What `docker info` shows."""
        with self._coded():
            found: dict[str, Any] = self._api.info()
            return found

    def speaks_plainly(self, registry: str) -> bool:
        """Whether the engine is set to speak to a registry (`host[:port]`) without TLS (`insecure-registries`)."""
        known = self.facts().get("RegistryConfig") or {}
        index = (known.get("IndexConfigs") or {}).get(registry)
        if index is not None:
            return index.get("Secure") is False
        try:
            address = ipaddress.ip_address(registry.rpartition(":")[0] or registry)
        except ValueError:
            return False
        return any(address in ipaddress.ip_network(each) for each in known.get("InsecureRegistryCIDRs") or ())

    # --- images ---

    def image(self, reference: str) -> Image | None:
        """An image that is on this machine; None when it is not."""
        with contextlib.suppress(_Absent), self._coded():
            found = self._api.inspect_image(reference)
            config = found.get("Config") or {}
            return Image(
                id=str(found["Id"]),
                labels=dict(config.get("Labels") or {}),
                environment=tuple(config.get("Env") or ()),
                user=str(config.get("User") or ""),
                size_bytes=int(found.get("Size") or 0),
            )
        return None

    def ensure_image(self, reference: str, say: Callable[[str], None], *, target: str | None = None) -> Image:
        """The image, pulled when this machine has it not.

        Raises `ImageNotFound`, `ImagePullDenied` (the user's), `RegistryUnreachable`, `DockerDiskFull` (the machine's).
        """
        found = self.image(reference)
        if found is None:
            self.pull(reference, say, target=target)
            found = self.image(reference)
        if found is None:
            raise MooringsError(pull_failure(reference, "no such image", target=target))
        return found

    def pull(self, reference: str, say: Callable[[str], None], *, target: str | None = None) -> None:
        """Raises as `ensure_image` does."""
        repository, tag = split_tag(reference)
        say(f"pulling {reference}")
        try:
            with self._coded():
                messages = self._api.pull(
                    repository, tag=tag, stream=True, decode=True, auth_config=self._auth(reference)
                )
                problem = self._transfer(messages, say)
        except MooringsError as refused:
            if refused.failure.code not in ("DockerRequestFailed", "DockerDiskFull"):
                raise
            problem = refused.failure.message
        if problem is not None:
            raise MooringsError(pull_failure(reference, problem, target=target))

    def push(self, reference: str, say: Callable[[str], None]) -> None:
        """Raises `ImagePushDenied` (the user's) or `RegistryUnreachable`."""
        repository, tag = split_tag(reference)
        say(f"pushing {reference}")
        try:
            with self._coded():
                auth = self._auth(reference)
                messages = self._api.push(repository, tag=tag, stream=True, decode=True, auth_config=auth)
                problem = self._transfer(messages, say)
        except MooringsError as refused:
            if refused.failure.code != "DockerRequestFailed":
                raise
            problem = refused.failure.message
        if problem is not None:
            raise MooringsError(push_failure(reference, problem))

    def tag(self, image: str, reference: str) -> None:
        repository, tag = split_tag(reference)
        with self._coded():
            self._api.tag(image, repository, tag=tag, force=True)

    def build(
        self,
        folder: Path,
        *,
        dockerfile: str,
        tag: str,
        network: str,
        say: Callable[[str], None],
        key: str,
    ) -> str:
        """Build a folder (less what its `.dockerignore` names); returns the id of the image. `key` names the build log.

        Raises `ImageBuildFailure` with the step and what it said, and what `ensure_image` raises for its FROM.
        """
        reader = BuildReader()
        with self._coded():
            messages = self._api.build(
                path=str(folder),
                dockerfile=dockerfile,
                tag=tag,
                network_mode=network or None,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=BUILD_TIMEOUT_S,
            )
            for message in messages:
                for line in reader.feed(message):
                    say(line)
        if reader.problem is not None or reader.image_id is None:
            # An engine that is being stopped ends builds with words of their own, or in the middle of a sentence.
            self.check()
            time.sleep(STOPPING_S)
            self.check()
            raise MooringsError(reader.failure(key=key, dockerfile=dockerfile))
        return reader.image_id

    def layer(self, base: str, folder: Path, target: str, *, tag: str, labels: Mapping[str, str]) -> str:
        """The image `base` with a folder of this machine at `target`, owned by root; its id.

        No build: that would copy the folder to a file, to the engine and into the image. Raises `DockerDiskFull`,
        and OSError for a folder that cannot be read.
        """
        try:
            with self._coded(), self._patient() as api:
                return _layered(api, self._scratch_name(), base, folder, target, tag, labels)
        except UnreadableError as unreadable:
            raise unreadable.problem from None

    def remove_image(self, reference: str) -> None:
        """Unknown is success; one that is in use stays."""
        with contextlib.suppress(_Absent), self._coded(conflict_is_absent=True):
            self._api.remove_image(reference)

    # --- containers ---

    def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """All containers, running or not, that carry the labels, as the engine's `inspect` shows them."""
        wanted = {"label": [f"{name}={value}" for name, value in labels.items()]}
        with self._coded():
            listed = self._api.containers(all=True, filters=wanted)
        found = (self.container(str(one["Id"])) for one in listed)
        return [one for one in found if one is not None]

    def container(self, name: str) -> dict[str, Any] | None:
        """`inspect` of one container; None when it is not there."""
        with contextlib.suppress(_Absent), self._coded():
            found: dict[str, Any] = self._api.inspect_container(name)
            return found
        return None

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """A container that does not run yet; returns its id. One of this name that is left over makes way.

        Raises `ImageNotFound` when the image is not on this machine.
        """
        for last in (False, True):
            try:
                with self._coded():
                    made = self._api.create_container_from_config(dict(config), name)
                    return str(made["Id"])
            except MooringsError as refused:
                text = refused.failure.message
                if "No such image" in text:
                    raise MooringsError(pull_failure(str(config.get("Image")), text)) from None
                if last or "is already in use by container" not in text:
                    raise
                self.remove(name)
        raise AssertionError("the second try returns or raises")

    def start(self, container: str) -> None:
        """Raises `ContainerCannotStart` where the engine cannot begin what the container is to run."""
        try:
            with self._coded():
                self._api.start(container)
        except MooringsError as refused:
            if refused.failure.code != "DockerRequestFailed":
                raise
            message = f"the container cannot be started: {refused.failure.message}"
            raise error("ContainerCannotStart", message, evidence=refused.failure.evidence) from None

    def signal(self, container: str, name: str) -> None:
        """Send a signal to the first process. A container that does not run, or is gone, is success."""
        with contextlib.suppress(_Absent), self._coded(conflict_is_absent=True):
            self._api.kill(container, signal=name)

    def restart(self, container: str) -> None:
        """Kill it and start it again. One that is gone is success."""
        with contextlib.suppress(_Absent), self._coded():
            self._api.restart(container, timeout=0)

    def remove(self, container: str) -> None:
        """End and remove, with its anonymous volumes. Unknown is success."""
        with contextlib.suppress(_Absent), self._coded(conflict_is_absent=True):
            self._api.remove_container(container, v=True, force=True)

    def logs(self, container: str, *, tail: int | None) -> bytes | None:
        """The last `tail` lines (all of them: None) of its output, each with its time; None when it is gone."""
        with contextlib.suppress(_Absent), self._coded():
            found: bytes = self._api.logs(container, tail="all" if tail is None else tail, timestamps=True)
            return found
        return None

    def follow(self, container: str, since: float) -> Output | None:
        """Its output after `since` (Unix seconds) as it comes, each line with its time; ends with the container. None:
        it is gone."""
        with contextlib.suppress(_Absent), self._coded():
            return Output(
                self._api.logs(container, stream=True, follow=True, since=since or None, timestamps=True)
            )
        return None

    def run(
        self, image: str, command: Sequence[str], *, user: str = "", seconds: float = 60.0
    ) -> tuple[int, str]:
        """Run a short command in a container of its own without a network; (exit status, its output)."""
        config = {
            "Image": image,
            "Entrypoint": list(command),
            "Cmd": [],
            "User": user,
            "NetworkDisabled": True,
            "HostConfig": {"NetworkMode": "none", "CapDrop": ["ALL"]},
        }
        with self._coded():
            made = str(self._api.create_container_from_config(config, self._scratch_name())["Id"])
        try:
            self.start(made)
            with self._coded():
                code = int(self._api.wait(made, timeout=seconds)["StatusCode"])
                text = self._api.logs(made).decode(errors="replace")
            return code, text
        finally:
            self.remove(made)

    def sweep(self) -> int:
        """Remove what calls of `run` and `layer` have left that were killed; none may be under way. How many."""
        with self._coded():
            found = self._api.containers(all=True, filters={"name": f"^/{self._scratch}"})
        for one in found:
            self.remove(str(one["Id"]))
        return len(found)

    def _scratch_name(self) -> str:
        """Not a label: those of a container get into the image that is made of it."""
        return f"{self._scratch}{secrets.token_hex(4)}"

    # --- the library ---

    @property
    def _api(self) -> Any:
        self._probe()
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _probe(self) -> None:
        """The library does not close a socket that could not be connected: so that is tried here first."""
        if not self.host.startswith("unix://"):
            raise error(
                "DockerHostRemote", f"{self.host} is not a socket of this machine", target="docker.host"
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(REQUEST_TIMEOUT_S)
            probe.connect(self.host.removeprefix("unix://"))

    def _connect(self, timeout_s: float = REQUEST_TIMEOUT_S) -> Any:
        import docker

        return docker.APIClient(base_url=self.host, version="auto", timeout=timeout_s, max_pool_size=16)

    @contextlib.contextmanager
    def _patient(self) -> Iterator[Any]:
        """Connections of their own, for requests that may take as long as a build."""
        self._probe()
        with contextlib.closing(self._connect(BUILD_TIMEOUT_S)) as api:
            yield api

    def _disconnect(self) -> None:
        """Forget the connections: the next request makes new ones, perhaps to another engine."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def _auth(self, reference: str) -> dict[str, str] | None:
        """None: what Docker's own configuration says, which is read anew (somebody may have logged in)."""
        given = self._credentials(registry_of(reference))
        if given is None:
            self._api.reload_config()
            return None
        return {"username": given.user, "password": given.password}

    @staticmethod
    def _transfer(messages: Iterable[Mapping[str, Any]], say: Callable[[str], None]) -> str | None:
        """Follow a push or pull to its end; what went wrong, if anything did."""
        problem = None
        for message in messages:
            if "error" in message:
                problem = str((message.get("errorDetail") or {}).get("message") or message["error"])
            elif "status" in message and not message.get("progressDetail"):
                say(f"{message.get('id', '')} {message['status']}".strip())
        return problem

    @contextlib.contextmanager
    def _coded(self, *, conflict_is_absent: bool = False) -> Iterator[None]:
        """What the library raises, as failures of ours. What is asked for and not there is `_Absent`."""
        import docker.errors
        import requests.exceptions
        import urllib3.exceptions

        try:
            yield
        except docker.errors.APIError as problem:
            status = problem.response.status_code if problem.response is not None else 0
            text = str(problem.explanation or problem)
            kind = _Absent if status == 404 or (conflict_is_absent and status == _CONFLICT) else MooringsError
            code = "DockerDiskFull" if no_space(text) else "DockerRequestFailed"
            evidence = (f"HTTP {status}: {text}"[:500],)
            raise kind(failure(code, text, target=self.host, evidence=evidence)) from None
        except (
            docker.errors.DockerException,
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as problem:
            self._disconnect()
            raise self._unavailable(problem) from None

    def _unavailable(self, problem: BaseException) -> MooringsError:
        text = " ".join(str(problem).split())
        denied = "Permission denied" in text or isinstance(problem, PermissionError)
        code = "DockerAccessDenied" if denied else "DockerEngineNotAvailable"
        message = f"the Docker Engine at {self.host} does not answer"
        return error(code, message, target=self.host, evidence=(text[:500],), fields={"host": self.host})


def _layered(
    api: Any, name: str, base: str, folder: Path, target: str, tag: str, labels: Mapping[str, str]
) -> str:
    """By a container that never runs. What the library raises."""
    repository, version = split_tag(tag)
    known = api.inspect_image(base).get("Config") or {}
    config: dict[str, Any] = {"Image": base, "HostConfig": {"NetworkMode": "none"}}
    if not known.get("Cmd") and not known.get("Entrypoint"):
        config["Cmd"] = ["/bin/sh"]  # the engine wants one
    made = str(api.create_container_from_config(config, name)["Id"])
    try:
        with tar_stream(folder, target) as chunks:
            api.put_archive(made, "/", chunks)
        return str(api.commit(made, repository, tag=version, conf={"Labels": dict(labels)})["Id"])
    finally:
        api.remove_container(made, v=True, force=True)
