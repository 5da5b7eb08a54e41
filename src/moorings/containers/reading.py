"""What the Docker Engine says, read: lines of a build, the step that failed, and which failure a message means. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moorings.errors.exceptions import Failure, failure

LOCAL_PREFIX = "moorings/"
"""Begins the names of images that we have made and that no registry has."""
MOST_EVIDENCE = 24
LONGEST_LINE = 500
_STEP = re.compile(r"^Step (\d+)/(\d+) : (.*)$")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_NO_SPACE = ("no space left on device", "disk quota exceeded")
_NOT_THERE = (
    "manifest unknown",
    "manifest for",
    "name unknown",
    "repository does not exist",
    "repository name not known",
    "no such image",
    "not found: manifest",
    "not found",
)
_DENIED = (
    "unauthorized",
    "no basic auth credentials",
    "authentication required",
    "incorrect username or password",
    "requested access to the resource is denied",
    "denied:",
    "access forbidden",
    "403 forbidden",
)
_UNREACHABLE = (
    "connection refused",
    "no such host",
    "i/o timeout",
    "client.timeout",
    "context deadline exceeded",
    "tls handshake",
    "server gave http response to https client",
    "network is unreachable",
    "no route to host",
    "connection reset by peer",
    "x509:",
    "temporary failure in name resolution",
    "server misbehaving",
    ": eof",
    "503 service unavailable",
    "502 bad gateway",
    "500 internal server error",
)


def registry_of(image: str) -> str:
    """The registry of an image reference: `host[:port]`, or `docker.io` where it names none."""
    head, slash, _ = image.partition("/")
    return head if slash and ("." in head or ":" in head or head == "localhost") else "docker.io"


def repository_in(image: str) -> str:
    """The repository of an image reference as its registry calls it: without the registry and the tag."""
    name = split_tag(image)[0]
    return name.removeprefix(f"{registry_of(image)}/")


def split_tag(image: str) -> tuple[str, str]:
    """(repository, tag or digest); `latest` where the reference names neither."""
    name, at, digest = image.partition("@")
    if at:
        return name, digest
    head, colon, tag = image.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (image, "latest")


def no_space(text: str) -> bool:
    """Whether a message says that a disk is full."""
    lowered = text.lower()
    return any(sign in lowered for sign in _NO_SPACE)


def pull_failure(image: str, text: str, *, target: str | None = None) -> Failure:
    """Why an image cannot be had, from what the engine said when it pulled it."""
    registry = registry_of(image)
    fields = {"image": image, "registry": registry, "repository": repository_in(image)}
    said = (f"docker pull {image}: {text.strip()}"[:LONGEST_LINE],)
    lowered = _without_name(text, image)
    if no_space(text):
        return _made("DockerDiskFull", f"no space is left for the image {image}", target, said, fields)
    if any(sign in lowered for sign in _UNREACHABLE):
        message = f"the registry {registry} does not answer: {_short(text)}"
        return _made("RegistryUnreachable", message, target or image, said, fields)
    if any(sign in lowered for sign in _NOT_THERE):
        message = f"there is no image {image}, neither on this machine nor in {registry}"
        if "may require" in lowered:  # what some registries say of images that only some may see
            message += f", or it is private there: docker login {registry}"
        return _made("ImageNotFound", message, target or image, said, fields)
    if any(sign in lowered for sign in _DENIED):
        message = f"the registry {registry} does not give {image} to us: {_short(text)}"
        return _made("ImagePullDenied", message, target or image, said, fields)
    message = f"the image {image} cannot be pulled: {_short(text)}"
    return _made("RegistryUnreachable", message, target or image, said, fields)


def push_failure(image: str, text: str) -> Failure:
    """Why an image cannot be put into the registry."""
    registry = registry_of(image)
    fields = {"image": image, "registry": registry}
    said = (f"docker push {image}: {text.strip()}"[:LONGEST_LINE],)
    lowered = _without_name(text, image)
    denied = any(sign in lowered for sign in _DENIED)
    if denied and not any(sign in lowered for sign in _UNREACHABLE):
        message = f"the registry {registry} does not take {image} from us: {_short(text)}"
        return _made("ImagePushDenied", message, image, said, fields)
    message = f"the image {image} cannot be put into {registry}: {_short(text)}"
    return _made("RegistryUnreachable", message, image, said, fields)


@dataclass
class BuildReader:
    """Follows the messages of a build."""

    step: int = 0
    steps: int = 0
    instruction: str = ""
    image_id: str | None = None
    problem: str | None = None
    lines: list[str] = field(default_factory=list)
    _step_from: int = 0

    def feed(self, message: Mapping[str, Any]) -> list[str]:
        """Take in one message; the lines it adds to the log."""
        said: list[str] = []
        if "stream" in message:
            said = [_clean(line) for line in str(message["stream"]).splitlines()]
        elif "error" in message:
            self.problem = str((message.get("errorDetail") or {}).get("message") or message["error"])
            said = [_clean(line) for line in self.problem.splitlines()]
        elif "aux" in message and isinstance(message["aux"], Mapping):
            self.image_id = str(message["aux"].get("ID") or self.image_id or "") or None
        elif "status" in message and not message.get("progressDetail"):
            said = [_clean(f"{message.get('id', '')} {message['status']}".strip())]
        kept = [line for line in said if line.strip()]
        for line in kept:
            found = _STEP.match(line)
            if found:
                self.step, self.steps, self.instruction = int(found[1]), int(found[2]), found[3]
                self._step_from = len(self.lines)
            self.lines.append(line)
        return kept

    def failure(self, *, key: str, dockerfile: str) -> Failure:
        """The failure of a build whose messages ended with an error."""
        text = self.problem or "the build ended without an image"
        evidence = self._evidence()
        fields = {"key": key, "step": self.step, "steps": self.steps}
        if no_space(text) or any(no_space(line) for line in self.lines[self._step_from :]):
            return _made("DockerDiskFull", "no space is left to build the image", None, evidence, fields)
        if self.instruction.upper().startswith("FROM ") and self.step:
            words = [word for word in self.instruction.split()[1:] if not word.startswith("--")]
            if words:
                return pull_failure(words[0], text, target=f"{dockerfile}, step {self.step}")
        where = (
            f"step {self.step} of {self.steps} ({self.instruction})" if self.step else "before its first step"
        )
        message = f"{dockerfile} failed at {where}: {_short(text)}"
        return _made("ImageBuildFailure", message, f"{dockerfile}, step {self.step}", evidence, fields)

    def _evidence(self) -> tuple[str, ...]:
        """The step that failed, and the last of what it said."""
        lines = self.lines[self._step_from :] or self.lines
        if len(lines) > MOST_EVIDENCE:
            left_out = len(lines) - MOST_EVIDENCE + 2
            lines = [lines[0], f"... {left_out} more lines in the build log", *lines[-MOST_EVIDENCE + 2 :]]
        return tuple(line[:LONGEST_LINE] for line in lines)


def _without_name(text: str, image: str) -> str:
    """A message in small letters, without the image: what that is called says nothing of why it cannot be had."""
    lowered = text.lower()
    for part in (image, split_tag(image)[0], repository_in(split_tag(image)[0])):
        lowered = re.sub(rf"(?<![\w.-]){re.escape(part.lower())}(?![\w-])", "<image>", lowered)
    return lowered


def _clean(text: str) -> str:
    return _ESCAPES.sub("", text).rstrip()


def _short(text: str) -> str:
    """One line of a message, without the addresses of token services that make it long."""
    return " ".join(text.split())[:300]


def _made(
    code: str, message: str, target: str | None, evidence: tuple[str, ...], fields: Mapping[str, object]
) -> Failure:
    return failure(code, message, target=target, evidence=evidence, fields=fields)
