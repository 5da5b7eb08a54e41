"""From a deployment's recipe to an interpreter that can run it: the environment named, or the one its model brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moorings.assets.store import AssetStore
from moorings.controller.deployment import Built
from moorings.controller.resolve import Content
from moorings.environments.venv import EnvironmentBuilder
from moorings.errors.exceptions import error
from moorings.spec.arm import environment_version_from_arm
from moorings.spec.assets import EnvironmentSpec


@dataclass(frozen=True)
class Provisioner:
    builder: EnvironmentBuilder
    store: AssetStore

    async def ensure(
        self, spec: EnvironmentSpec | None, content: Content, progress: Callable[[str], None]
    ) -> tuple[Content, Built]:
        """Build or reuse. Raises the codes of `environments`; `EnvironmentMissing` when nothing names one."""
        if spec is None:
            raise error("EnvironmentMissing", "the deployment names no environment", target="environment")
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
