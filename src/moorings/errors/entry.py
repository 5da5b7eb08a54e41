"""The shape of a catalogue entry: what one failure is, whose fault it is and what to do. Holds no entries itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Who has to act."""

    USER = "user"
    """The spec, the script, the request or the environment asked for."""
    PLATFORM = "platform"
    """Moorings itself."""
    MACHINE = "machine"
    """Disk, memory, ports, network, interpreters of the machine."""


class Step(StrEnum):
    """The step of the data path that raises it (design, section 3)."""

    CLIENT = "client"
    SPEC = "spec"
    API = "api"
    ASSETS = "assets"
    ENVIRONMENT = "environment"
    INSTANCE = "instance"
    SCRIPT = "script"
    GATEWAY = "gateway"
    SCORING = "scoring"


@dataclass(frozen=True)
class Entry:
    """One failure a user can cause or meet."""

    code: str
    """CamelCase name, stable: part of the API."""
    title: str
    cause: str
    """What brings it about, in one or two sentences."""
    fix: str
    """What to do; `{name}` fields are filled from the error's `fields`. Ends with a command where one exists."""
    fault: Fault
    step: Step
    http_status: int
    retryable: bool = False
    """Whether the same request may succeed later with nothing changed."""
    numeric: str | None = None
    """The 2021 numeric code (`ERR_2200`) where one exists (behaviour reference, section 8.2)."""
