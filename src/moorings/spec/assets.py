"""Models, code, environments and data as users write them inline or in files of their own (sections 3.9 and
3.10)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from moorings.spec.base import NO_BOOL, AssetName, Spec


class ModelType(StrEnum):
    CUSTOM = "custom_model"
    MLFLOW = "mlflow_model"
    TRITON = "triton_model"


class ModelSpec(Spec):
    """A model file or folder. `path` is absolute after loading (or a URI); `name` is absent for an anonymous
    model."""

    schema_: str | None = Field(default=None, alias="$schema")
    name: AssetName | None = None
    version: str | None = None
    path: str | None = None
    type: ModelType = ModelType.CUSTOM
    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    stage: str | None = None
    flavors: dict[str, Any] = Field(default_factory=dict)
    datastore: str | None = None


class AssetWords(Spec):
    """What can be said about all versions of a name."""

    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)


class CodeVersion(Spec):
    """A registered folder with a scoring script. `uri` is where it comes from (`file:///...` or an
    address)."""

    name: AssetName
    version: AssetName
    uri: str
    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)


class DataSpec(Spec):
    """A named address of data: nothing of it is read. `path` is an `azureml://datastores/...` path or a URL."""

    schema_: str | None = Field(default=None, alias="$schema")
    name: AssetName | None = None
    version: str | None = None
    type: Literal["uri_folder", "uri_file", "mltable"] = "uri_folder"
    path: str
    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)


class DataVersion(DataSpec):
    """A data asset as it is registered."""

    type: Literal["uri_folder", "uri_file", "mltable"]
    referenced_uris: tuple[str, ...] = ()
    """Of an mltable: the addresses its file names."""
    archived: bool = False
    anonymous: bool = False


class CodeConfiguration(Spec):
    """The folder with the scoring script; `code` is absolute after loading (or `azureml:...`)."""

    code: str
    scoring_script: str
    """Path of the script relative to `code`."""


class Route(Spec):
    path: Annotated[str, StringConstraints(pattern=r"^/")]
    port: Annotated[int, Field(ge=1, le=65535), NO_BOOL]


class InferenceConfig(Spec):
    """Routes of a custom container."""

    liveness_route: Route
    readiness_route: Route
    scoring_route: Route


class BuildContext(Spec):
    path: str
    dockerfile_path: str = "Dockerfile"


class EnvironmentSpec(Spec):
    """The recipe of an environment. `conda_file` is the parsed mapping after loading."""

    schema_: str | None = Field(default=None, alias="$schema")
    name: AssetName | None = None
    version: str | None = None
    image: str | None = None
    conda_file: dict[str, Any] | None = None
    build: BuildContext | None = None
    os_type: Literal["linux", "windows"] = "linux"
    inference_config: InferenceConfig | None = None
    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    datastore: str | None = None
