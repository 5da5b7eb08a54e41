"""Whether a conda file is solved as conda or translated, for folders and for images alike.

It must not know how what was resolved is installed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from moorings.environments.conda_request import CondaRequest
from moorings.environments.conda_way import CONDA, ChannelsUnreachableError, resolve_as_conda
from moorings.environments.index_way import INDEX
from moorings.environments.installer import without_credentials
from moorings.environments.recipe import Recipe, conda_recipe, make_recipe
from moorings.environments.work import Resolved, Work
from moorings.errors.exceptions import Failure, MooringsError, error
from moorings.spec.assets import EnvironmentSpec

AUTO = "auto"
SOLVERS = (AUTO, CONDA, INDEX)
"""How conda files are installed: as conda where the channels can be reached, always so, or always translated."""
UNREACHABLE_FOR_S = 60.0
"""How long channels that did not answer are not asked again."""


class Solving:
    """The choice, and what is known of channels that do not answer."""

    def __init__(self, solver: str) -> None:
        """`solver`: one of `SOLVERS`."""
        self._solver = solver
        self._unreachable: dict[tuple[str, ...], tuple[float, str]] = {}

    def recipe(self, spec: EnvironmentSpec, *, in_image: bool = False) -> Recipe:
        """Raises what `make_recipe` raises."""
        if self._solver == INDEX:
            return make_recipe(spec, in_image=in_image)
        return conda_recipe(spec, in_image=in_image)

    def accepts(self, recipe: Recipe, solver: str) -> bool:
        """Whether an environment that came from `solver` is what the recipe asks for."""
        return recipe.conda is None or self._solver != CONDA or solver == CONDA

    async def resolve(
        self, work: Work, from_index: Callable[[], Awaitable[Resolved]]
    ) -> tuple[Resolved, str]:
        """As conda where the file names channels that can be reached, else from the package index; and why."""
        recipe = work.recipe
        if recipe.conda is None:
            reason = (
                "no channels are named" if self._solver != INDEX else "environments.conda_solver is index"
            )
            return await from_index(), reason
        try:
            resolved = await self._as_conda(work, recipe.conda)
        except ChannelsUnreachableError as problem:
            work.log.line(f"note: a channel cannot be reached: {problem}")
            if self._solver == CONDA:
                raise error(
                    "CondaChannelUnreachable",
                    without_credentials(str(problem)),
                    target="environment.conda_file.channels",
                ) from None
            if recipe.untranslatable is not None:
                told = without_credentials(str(problem))
                raise MooringsError(_neither(recipe.untranslatable, told)) from None
            reason = f"the channels cannot be reached ({problem}), so the conda file was translated"
            return await from_index(), without_credentials(reason)
        return resolved, without_credentials(f"solved from {', '.join(recipe.conda.channels)}")

    async def _as_conda(self, work: Work, request: CondaRequest) -> Resolved:
        """Raises ChannelsUnreachableError, at once for channels that have just been found to be so."""
        until, why = self._unreachable.get(request.channels, (0.0, ""))
        if time.monotonic() < until:
            raise ChannelsUnreachableError(why)
        try:
            return await resolve_as_conda(work, request)
        except ChannelsUnreachableError as problem:
            self._unreachable[request.channels] = (time.monotonic() + UNREACHABLE_FOR_S, str(problem))
            raise


def _neither(untranslatable: Failure, unreachable: str) -> Failure:
    """No channel answers, and the file cannot be translated either: both are said."""
    line = f"channels: they cannot be reached, so the file is translated: {unreachable}"
    return replace(untranslatable, evidence=(*untranslatable.evidence, line))
