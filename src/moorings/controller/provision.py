"""From a deployment's recipe to an interpreter that can run it: the environment named, or the one its model brings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from moorings.assets.store import AssetStore
from moorings.controller.deployment import Built
from moorings.controller.resolve import Content
from moorings.environments.mlflow import MLFLOW_CODE, MLFLOW_SCRIPT, mlflow_environment
from moorings.environments.venv import EnvironmentBuilder
from moorings.errors.exceptions import error
from moorings.spec.arm import environment_version_from_arm
from moorings.spec.assets import EnvironmentSpec, ModelType


@dataclass(frozen=True)
class Provisioner:
    builder: EnvironmentBuilder
    store: AssetStore

    async def ensure(
        self, spec: EnvironmentSpec | None, content: Content, progress: Callable[[str], None]
    ) -> tuple[Content, Built]:
        """Build or reuse; an MLflow model without script or environment gets ours and the one it was saved with.

        Raises the codes of `environments` (mostly the user's fault).
        """
        mlflow = content.model_type == ModelType.MLFLOW
        if spec is None and mlflow:
            spec = await asyncio.to_thread(self._mlflow_environment, content)
        if not content.code_digest and mlflow:
            content = await asyncio.to_thread(self._mlflow_code, content)
        if spec is None or not content.code_digest:
            raise error(
                "EnvironmentNeedsContainer",
                "without an environment and a scoring script only a container could serve this",
                target="environment" if spec is None else "code_configuration",
            )
        built = await self.builder.ensure(spec, progress=progress)
        return content, Built(
            key=built.key,
            python=built.python,
            python_version=built.python_version,
            packages=len(built.packages),
            reused=built.reused,
            seconds=built.seconds,
        )

    def log(self, key: str) -> str | None:
        return self.builder.log(key)

    def key_of(self, properties: Mapping[str, Any]) -> str | None:
        """The recipe key of a registered environment, by which its build log is kept."""
        spec = environment_version_from_arm("any", "1", {"properties": properties}, check=False)
        return self.builder.recipe_key(spec)

    def _mlflow_environment(self, content: Content) -> EnvironmentSpec:
        """Read through the stored tree: the folder of the first `MLmodel` from the top."""
        tree = self.store.tree(content.model.digest) if content.model else None
        paths = {} if tree is None else {f.path: f.sha256 for f in tree.files}
        found = sorted((p for p in paths if PurePosixPath(p).name == "MLmodel"), key=lambda p: p.count("/"))
        folder = PurePosixPath(found[0]).parent if found else PurePosixPath()

        def read(name: str) -> str | None:
            sha256 = paths.get(str(folder / name))
            return None if sha256 is None else self.store.blob(sha256).read_text("utf-8", "replace")

        return mlflow_environment(read)

    def _mlflow_code(self, content: Content) -> Content:
        tree = self.store.ingest(MLFLOW_CODE, keep_name=False, use_ignore=False)
        return replace(content, code_digest=tree.digest, code_folder="mlflow", scoring_script=MLFLOW_SCRIPT)
