"""From evidence to one coded failure with its proof and its fix. Pure: what is to be judged is handed in."""

from __future__ import annotations

from moorings.errors.diagnosis.deployment import DeploymentEvidence, diagnose
from moorings.errors.diagnosis.evidence import InstanceEvidence
from moorings.errors.diagnosis.instance import diagnose_instance, put_back

__all__ = ["DeploymentEvidence", "InstanceEvidence", "diagnose", "diagnose_instance", "put_back"]
