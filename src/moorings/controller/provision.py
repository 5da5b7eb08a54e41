"""From a deployment's recipe to what can run it: the environment named, or the one its model brings, as a folder of this
machine or as an image."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from moorings.assets.store import AssetStore
from moorings.controller.deployment import Built
from moorings.controller.resolve import Content
from moorings.engines.base import ContainerTemplate, Routes
from moorings.environments.image import Context, ImageBuilder
from moorings.environments.mlflow import MLFLOW_CODE, MLFLOW_SCRIPT, mlflow_environment
from moorings.environments.venv import EnvironmentBuilder
from moorings.errors.exceptions import error
from moorings.spec.arm import environment_version_from_arm
from moorings.spec.assets import EnvironmentSpec, InferenceConfig, ModelType


@dataclass(frozen=True)
class Recipes:
    """What the model brings where the deployment names nothing."""

    store: AssetStore

    async def complete(
        self, spec: EnvironmentSpec | None, content: Content
    ) -> tuple[EnvironmentSpec | None, Content]:
        """An MLflow model without script or environment gets ours and the one it was saved with."""
        if content.model_type == ModelType.MLFLOW:
            if spec is None:
                spec = await asyncio.to_thread(self._mlflow_environment, content)
            if not content.code_digest and spec.inference_config is None:
                content = await asyncio.to_thread(self._mlflow_code, content)
        return spec, content

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


@dataclass(frozen=True)
class Provisioner:
    """Environments as folders of this machine, for instances that are processes."""

    builder: EnvironmentBuilder
    store: AssetStore

    async def ensure(
        self, spec: EnvironmentSpec | None, content: Content, progress: Callable[[str], None]
    ) -> tuple[Content, Built]:
        """Build or reuse. Raises the codes of `environments` (mostly the user's fault)."""
        spec, content = await Recipes(self.store).complete(spec, content)
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


@dataclass(frozen=True)
class ImageProvisioner:
    """Environments as images, for instances that are containers."""

    builder: ImageBuilder
    store: AssetStore

    async def ensure(
        self, spec: EnvironmentSpec | None, content: Content, progress: Callable[[str], None]
    ) -> tuple[Content, Built]:
        """Build or reuse. Raises the codes of `environments` and `containers` (mostly the user's fault)."""
        spec, content = await Recipes(self.store).complete(spec, content)
        if spec is None or (spec.inference_config is None and not content.code_digest):
            raise error(
                "ScoringMissing",
                "there is neither a scoring script nor a server of the image's own (inference_config)",
                target="environment" if spec is None else "code_configuration",
            )
        built = await self.builder.ensure(spec, self._context(content), progress=progress)
        return content, Built(
            key=built.key or built.image_id.removeprefix("sha256:")[:16],
            python=PurePosixPath(built.python),
            python_version=built.python_version,
            packages=len(built.packages),
            reused=built.reused,
            seconds=built.seconds,
            container=ContainerTemplate(
                image=built.reference, image_id=built.image_id, routes=_routes(spec.inference_config)
            ),
        )

    def log(self, key: str) -> str | None:
        return self.builder.log(key)

    def key_of(self, properties: Mapping[str, Any]) -> str | None:
        """The recipe key of a registered environment, by which its build log is kept."""
        spec = environment_version_from_arm("any", "1", {"properties": properties}, check=False)
        digest = str((properties.get("moorings") or {}).get("digest") or "")
        return self.builder.recipe_key(spec, digest)

    def _context(self, content: Content) -> Context | None:
        digest = content.build_context
        if not digest:
            return None

        def lay_out(folder: Path) -> None:
            self.store.materialise(digest, folder, link=False)

        return Context(digest, lay_out)


def _routes(config: InferenceConfig | None) -> Routes | None:
    if config is None:
        return None
    live, ready, score = config.liveness_route, config.readiness_route, config.scoring_route
    return Routes(live.path, live.port, ready.path, ready.port, score.path, score.port)
