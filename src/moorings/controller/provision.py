"""From a deployment's recipe to what can run it: the environment named, or the one its model brings, as a folder of this
machine or as an image."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from moorings.assets.store import AssetStore
from moorings.controller.preparation import Built
from moorings.controller.resolve import Content
from moorings.engines.base import ContainerTemplate, Routes
from moorings.environments.conda import variables_of
from moorings.environments.image import Context, ImageBuilder
from moorings.environments.mlflow import MLFLOW_CODE, MLFLOW_SCRIPT, mlflow_environment, stored_reader
from moorings.environments.onnx import ONNX_CODE, ONNX_SCRIPT, onnx_environment
from moorings.environments.venv import EnvironmentBuilder
from moorings.errors.exceptions import error
from moorings.spec.arm import environment_version_from_arm
from moorings.spec.assets import EnvironmentSpec, InferenceConfig, ModelType

_CODE_OF: Mapping[str, tuple[str, Path, str]] = {
    ModelType.MLFLOW: ("mlflow", MLFLOW_CODE, MLFLOW_SCRIPT),
    ModelType.TRITON: ("onnx", ONNX_CODE, ONNX_SCRIPT),
}
"""Type of model -> (name of the code folder, our code, the script in it)."""


@dataclass(frozen=True)
class Recipes:
    """What the model brings where the deployment names nothing."""

    store: AssetStore

    async def complete(
        self, spec: EnvironmentSpec | None, content: Content
    ) -> tuple[EnvironmentSpec | None, Content]:
        """An MLflow model, or one of ONNX files, without script or environment gets those that fit it.

        Raises the codes of `environments` for models that no script of ours can serve.
        """
        if spec is None:
            spec = await asyncio.to_thread(self._environment_of_model, content)
        if not content.code_digest and spec is not None and spec.inference_config is None:
            content = await asyncio.to_thread(self._code_of_model, content)
        if spec is not None and spec.conda_file is not None:
            content = replace(content, variables=variables_of(spec.conda_file)[0])
        return spec, content

    def _environment_of_model(self, content: Content) -> EnvironmentSpec | None:
        """Read through the stored tree; None for a model whose type says nothing about how it is served."""
        tree = self.store.tree(content.model.digest) if content.model else None
        paths = {} if tree is None else {f.path: f.sha256 for f in tree.files}
        if content.model_type == ModelType.TRITON:
            return onnx_environment(paths)
        if content.model_type != ModelType.MLFLOW:
            return None
        return mlflow_environment(stored_reader(paths, self.store.text))

    def _code_of_model(self, content: Content) -> Content:
        """The same with our script for its type of model, where there is one."""
        ours = _CODE_OF.get(content.model_type)
        if ours is None:
            return content
        folder, source, script = ours
        tree = self.store.ingest(source, keep_name=False, use_ignore=False)
        return replace(content, code_digest=tree.digest, code_folder=folder, scoring_script=script)


@dataclass(frozen=True)
class Provisioner:
    """Environments as folders of this machine, for instances that are processes."""

    builder: EnvironmentBuilder
    store: AssetStore

    async def ensure(
        self,
        spec: EnvironmentSpec | None,
        content: Content,
        progress: Callable[[str], None],
        said: Callable[[str], None],
    ) -> tuple[Content, Built]:
        """Build or reuse. Raises the codes of `environments` (mostly the user's fault)."""
        given = content.code_digest
        spec, content = await Recipes(self.store).complete(spec, content)
        bare = spec is not None and spec.conda_file is None and not given
        if spec is None or not content.code_digest or bare:
            raise error(
                "EnvironmentNeedsContainer",
                "without an environment and a scoring script only a container could serve this",
                target="environment" if spec is None else "code_configuration",
            )
        built = await self.builder.ensure(spec, progress=progress, said=said)
        content = replace(content, variables={**built.variables, **content.variables})
        return content, Built(
            key=built.key,
            python=built.python,
            python_version=built.python_version,
            packages=len(built.packages),
            reused=built.reused,
            seconds=built.seconds,
            solver=built.solver,
            solver_reason=built.solver_reason,
        )

    def release(self, key: str) -> None:
        self.builder.release(key)

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
        self,
        spec: EnvironmentSpec | None,
        content: Content,
        progress: Callable[[str], None],
        said: Callable[[str], None],
    ) -> tuple[Content, Built]:
        """Build or reuse. Raises the codes of `environments` and `containers` (mostly the user's fault)."""
        spec, content = await Recipes(self.store).complete(spec, content)
        if spec is None or (spec.inference_config is None and not content.code_digest):
            raise error(
                "ScoringMissing",
                "there is neither a scoring script nor a server of the image's own (inference_config)",
                target="environment" if spec is None else "code_configuration",
            )
        built = await self.builder.ensure(spec, self._context(content), progress=progress, said=said)
        content = replace(content, variables={**built.variables, **content.variables})
        return content, Built(
            key=built.build_key,
            python=PurePosixPath(built.python),
            python_version=built.python_version,
            packages=len(built.packages),
            reused=built.reused,
            seconds=built.seconds,
            solver=built.solver,
            solver_reason=built.solver_reason,
            container=ContainerTemplate(
                image=built.reference, image_id=built.image_id, routes=_routes(spec.inference_config)
            ),
        )

    def release(self, key: str) -> None:
        self.builder.release(key)

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
