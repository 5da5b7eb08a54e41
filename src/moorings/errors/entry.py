"""The shape of a catalogue entry: what one failure is, whose fault it is and what to do. Holds no entries itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


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


class Evidence(StrEnum):
    """A kind of line that proves a failure. What each one is, in words: `WORDS_OF_EVIDENCE`."""

    LOG = "log"
    TRACEBACK = "traceback"
    EXIT = "exit"
    PROBES = "probes"
    MEMORY = "memory"
    DISK = "disk"
    FILES = "files"
    PLACES = "places"
    BUILD_LOG = "build_log"
    PACKAGES = "packages"
    REGISTRY = "registry"
    STORE = "store"
    PROGRAM = "program"
    OPERATING_SYSTEM = "operating_system"
    CHOICES = "choices"
    QUOTA = "quota"
    ROLES = "roles"
    ANSWER = "answer"
    EVENTS = "events"


WORDS_OF_EVIDENCE: Mapping[Evidence, str] = MappingProxyType(
    {
        Evidence.LOG: "the last lines of the instance's log",
        Evidence.TRACEBACK: "the frames of your own code in the last traceback, with file and line",
        Evidence.EXIT: "exit code or signal of the process, and how often it ended",
        Evidence.PROBES: "the history of its probes",
        Evidence.MEMORY: "peak memory beside the limit",
        Evidence.DISK: "space needed beside space free",
        Evidence.FILES: "the files and paths it is about, and what is there instead",
        Evidence.PLACES: "every place of the file or text that is wrong, with its line",
        Evidence.BUILD_LOG: "the end of the build log",
        Evidence.PACKAGES: "the packages that contradict each other or are missing",
        Evidence.REGISTRY: "what the image registry or the Docker Engine answered",
        Evidence.STORE: "what the store or the web server answered",
        Evidence.PROGRAM: "the last words of the program that failed",
        Evidence.OPERATING_SYSTEM: "the error of the operating system",
        Evidence.CHOICES: "what there is instead",
        Evidence.QUOTA: "what is needed, what is left, and who holds the rest",
        Evidence.ROLES: "the identity, the role it lacks and the scope",
        Evidence.ANSWER: "status, headers and body of the answer",
        Evidence.EVENTS: "the events of the pod",
    }
)


class Origin(StrEnum):
    """Where a failure can be met."""

    MOORINGS = "moorings"
    """Raised by Moorings, on every engine that can fail so."""
    KUBERNETES = "kubernetes"
    """Left to the Kubernetes engine: until there is one nothing raises it, and it is kept for those who look it up."""
    CLOUD = "cloud"
    """A name of the cloud service for something that does not exist here; kept for those who look it up."""


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
    evidence: tuple[Evidence, ...] = ()
    """The kinds of lines a failure of this code may carry; none means that it never carries any."""
    family: str | None = None
    """The name under which the ecosystem groups it (`OutOfQuota`), where it is not the code itself."""
    aliases: tuple[str, ...] = ()
    """Other names of the same failure: of the ecosystem, or its code in an older version."""
    origin: Origin = Origin.MOORINGS
