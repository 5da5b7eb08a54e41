"""Which phase of a deployment's life a line of one of its containers belongs to. Pure."""

from __future__ import annotations

import re

PLAN, BUILD, PULL, INITIALISE, BOOT, PROBE, SERVE = (
    "plan",
    "build",
    "pull",
    "initialise",
    "boot",
    "probe",
    "serve",
)
PHASES = (PLAN, BUILD, PULL, INITIALISE, BOOT, PROBE, SERVE)
OF_CONTAINER = {"storage-initializer": INITIALISE, "image-puller": PULL}
_READY = re.compile(r"azmlinfsrv - Worker with pid \d+ ready for serving traffic$")
_BOOTS = re.compile(r"azmlinfsrv - (?:moorings-server \S+ on Python |Invoking user's init function$)")
_REQUEST = re.compile(r"azmlinfsrv - [A-Z]+ /\S* \d{3} ")
_ENDED = re.compile(r"^moorings: worker \d+ ended ")
_LIVENESS = re.compile(r"^moorings: worker \d+ failed its liveness probe")


class Labels:
    """Goes through the lines of one container from the oldest on. The server says itself when it is ready, and its
    supervisor when it has ended; between the two it serves."""

    def __init__(self, container: str, *, serving: bool) -> None:
        """`serving`: whether it did so before the first line."""
        self._fixed = OF_CONTAINER.get(container)
        self.serving = serving

    def of(self, text: str) -> str:
        if self._fixed is not None:
            return self._fixed
        if _LIVENESS.match(text):
            return PROBE
        phase = SERVE if self.serving else BOOT
        if _READY.search(text):
            self.serving = True
        elif _ENDED.match(text):
            self.serving = False
        elif _BOOTS.search(text):
            self.serving, phase = False, BOOT
        elif not self.serving and _REQUEST.search(text):
            self.serving, phase = True, SERVE
        return phase


def began_serving(texts: list[str], *, running: bool) -> bool:
    """Whether a container served before the first of these lines: the first that tells says so, else what it does now."""
    for text in texts:
        if _READY.search(text) or _BOOTS.search(text):
            return False
        if _ENDED.match(text) or _REQUEST.search(text) or _LIVENESS.match(text):
            return True
    return running
