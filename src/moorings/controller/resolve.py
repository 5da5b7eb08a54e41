"""From the references of an accepted deployment to content: digests, folders, the environment's recipe. Reads the state only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from moorings.engines.base import ModelMount
from moorings.spec.arm import environment_version_from_arm
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.state.lookup import CODES, ENVIRONMENTS, MODELS, find_asset
from moorings.state.transaction import Transaction


@dataclass(frozen=True)
class Content:
    """What a deployment is made of."""

    code_digest: str
    code_folder: str
    scoring_script: str
    model: ModelMount | None
    model_type: str
    environment: EnvironmentSpec | None
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that its environment sets; those of the deployment win."""


def resolve(tx: Transaction, spec: DeploymentSpec) -> Content:
    """Everything a deployment refers to. Raises `AssetNotFound`."""
    model = None
    model_type = "custom_model"
    if isinstance(spec.model, str):
        asset = find_asset(tx, MODELS, spec.model)
        # An anonymous model is named by its content, so that sending the same files again changes nothing.
        name = (asset.digest or "")[:32] if asset.body.get("isAnonymous") else asset.name
        model = ModelMount(asset.digest or "", name, asset.version)
        model_type = str(asset.body.get("modelType") or model_type)
    environment = None
    if isinstance(spec.environment, str):
        asset = find_asset(tx, ENVIRONMENTS, spec.environment)
        environment = environment_version_from_arm(
            asset.name, asset.version, {"properties": asset.body}, check=False
        )
    digest, folder, script = "", "", ""
    if spec.code_configuration is not None:
        asset = find_asset(tx, CODES, spec.code_configuration.code)
        digest = asset.digest or ""
        folder = str(asset.body.get("moorings", {}).get("folder") or "code")
        script = spec.code_configuration.scoring_script
    return Content(digest, folder, script, model, model_type, environment)
