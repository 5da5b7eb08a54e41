"""How assets are named: `azureml:...`, ARM ids and registry addresses, as values and back to text. Knows no
stored asset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MODELS: Final = "models"
ENVIRONMENTS: Final = "environments"
CODES: Final = "codes"
LATEST: Final = "latest"

_KINDS: Final = (MODELS, ENVIRONMENTS, CODES, "data", "components")
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9\-_.]{0,254}"
_SHORT = re.compile(rf"azureml:(?P<name>{_NAME})(?::(?P<version>{_NAME})|@(?P<label>{_NAME}))?")
_ARM = re.compile(
    r"(?:azureml:)?/subscriptions/[^/\s]+/resourcegroups/[^/\s]+/providers/Microsoft\.MachineLearningServices"
    rf"/workspaces/(?P<workspace>[^/\s]+)/(?P<kind>{'|'.join(_KINDS)})/(?P<name>{_NAME})"
    rf"(?:/versions/(?P<version>{_NAME})|/labels/(?P<label>{_NAME}))?/?",
    re.IGNORECASE,
)
_REGISTRY = re.compile(
    rf"azureml://registries/(?P<registry>{_NAME})/(?P<kind>{'|'.join(_KINDS)})/(?P<name>{_NAME})"
    rf"(?:/versions/(?P<version>{_NAME})|/labels/(?P<label>{_NAME}))?/?"
)
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*://|runs:/")

EXPECTED = (
    "azureml:<name>:<version>, azureml:<name>@latest, "
    "azureml://registries/<registry>/<kind>/<name>/versions/<version> or an ARM id"
)


@dataclass(frozen=True)
class AssetRef:
    """A model, environment or code version as a reference names it.

    `kind` is `models`, `environments`, `codes` (or None: the short form does not say). At most one of
    `version` and
    `label` is given; neither means the reference leaves it open. `registry` is set for a registry address
    only.
    """

    kind: str | None
    name: str
    version: str | None = None
    label: str | None = None
    registry: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError("a reference has a version or a label, not both")
        if self.registry is not None and self.kind is None:
            raise ValueError("a registry reference names its kind")


def parse_reference(text: str) -> AssetRef:
    """The reference `text` stands for.

    Raises ValueError, with a sentence for the user, when it has none of the forms of a reference.
    """
    for pattern in (_SHORT, _ARM, _REGISTRY):
        found = pattern.fullmatch(text)
        if found is not None:
            groups = found.groupdict()
            kind = groups.get("kind")
            return AssetRef(
                kind=kind.lower() if kind else None,
                name=groups["name"],
                version=groups["version"],
                label=groups["label"],
                registry=groups.get("registry"),
            )
    raise ValueError(f"{text[:200]!r} is not a reference; expected {EXPECTED}")


def workspace_of(text: str) -> str | None:
    """The workspace an ARM id is in; None for other references, which mean this one."""
    found = _ARM.fullmatch(text)
    return found["workspace"] if found is not None else None


def format_reference(ref: AssetRef) -> str:
    """The short text of `ref` (`azureml:name:version`); the full address for a registry reference."""
    if ref.registry is not None:
        return f"azureml://registries/{ref.registry}/{ref.kind}/{ref.name}{_tail(ref)}"
    if ref.version is not None:
        return f"azureml:{ref.name}:{ref.version}"
    if ref.label is not None:
        return f"azureml:{ref.name}@{ref.label}"
    return f"azureml:{ref.name}"


def arm_id(ref: AssetRef, workspace_path: str) -> str:
    """The ARM id of `ref` below `workspace_path` (`/subscriptions/.../workspaces/<w>`), in the exact case
    clients need.

    Raises ValueError for a reference without a kind or of a registry: it has no ARM id in a workspace.
    """
    if ref.kind is None or ref.registry is not None:
        raise ValueError(f"{format_reference(ref)} has no id in a workspace")
    return f"{workspace_path.rstrip('/')}/{ref.kind}/{ref.name}{_tail(ref)}"


def is_reference(text: str) -> bool:
    """Whether `text` claims to be a reference to a registered asset (it may still be misspelt)."""
    lowered = text.lower()
    if lowered.startswith("azureml://"):
        return lowered.startswith("azureml://registries/")
    return lowered.startswith(("azureml:", "/subscriptions/"))


def is_uri(text: str) -> bool:
    """Whether `text` is an address with a scheme (https, azureml, runs, file://, ...) and no path of this
    machine."""
    return _URI.match(text) is not None


def is_local_path(text: str) -> bool:
    """Whether `text` names something on this machine: neither a reference nor an address."""
    return not is_reference(text) and not is_uri(text)


def _tail(ref: AssetRef) -> str:
    if ref.version is not None:
        return f"/versions/{ref.version}"
    if ref.label is not None:
        return f"/labels/{ref.label}"
    return ""
