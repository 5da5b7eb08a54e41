"""Building images: the environment that a venv would be, with the same lock and key, as a layer on a base image.

Packages are installed on this machine for the Python of the base image and copied in, so that indexes, their
credentials and the package cache are those of every other build, and none of them gets into an image. Build contexts are
built by the Docker Engine; images with a server of their own are taken as they are. It must not know deployments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from moorings.containers.host import DockerHost, Image
from moorings.containers.reading import LOCAL_PREFIX, split_tag
from moorings.environments import dockerfile as texts
from moorings.environments.buildlog import BuildLog, held_lock
from moorings.environments.image_inventory import LABEL_KEY, ImageInventory
from moorings.environments.image_layer import PYTHON, fill_for_image, packages_of, resolve_for_image
from moorings.environments.image_memory import BuiltImage, ImageMemory
from moorings.environments.image_python import choose_python, pythons_of
from moorings.environments.installer import Installer
from moorings.environments.interpreters import Interpreters, minor_of
from moorings.environments.leases import Leases
from moorings.environments.recipe import SERVER, Recipe, recipe_key
from moorings.environments.server_wheel import ServerWheel, ServerWheels
from moorings.environments.shelf import Shelf
from moorings.environments.solving import AUTO, Solving
from moorings.environments.verdict import verdict
from moorings.environments.work import Progress, Resolved, Work
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import procs
from moorings.spec.assets import EnvironmentSpec

LayOut = Callable[[Path], None]
"""Puts the files of a build context into a folder that is not there yet."""

LABEL_BASE = "moorings.base"
LABEL_VARIABLES = "moorings.variables"
REPOSITORY = f"{LOCAL_PREFIX}environment"
CONTEXT_REPOSITORY = f"{LOCAL_PREFIX}context"
DEFAULT_BASE = "python:{minor}-slim"
"""Where an environment names no image: the official image of the Python it asks for."""
DEFAULT_MINOR = "3.12"
VERIFY = f"import {SERVER.replace('-', '_')}"


@dataclass(frozen=True)
class ImageSettings:
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Image names of specs -> names of this machine (`dockerfile.aliased`)."""
    repository: str = ""
    """Where built images are put and looked for (`registry.example:5000/team`); empty: nowhere."""
    build_network: str = ""
    """Network of the steps of a build; empty: the engine's default."""


@dataclass(frozen=True)
class Context:
    """A build context: its content's digest, and what puts its files into a folder."""

    digest: str
    lay_out: LayOut


class ImageBuilder:
    """Builds on one Docker Engine. Any number of builders may share the folder of logs and locks."""

    def __init__(
        self,
        root: Path,
        host: DockerHost,
        settings: ImageSettings,
        *,
        home: Path,
        uv: Path | None = None,
        environ: Mapping[str, str] | None = None,
        solver: str = AUTO,
        leases: Leases | None = None,
    ) -> None:
        """`uv`, `environ`, `solver`, `leases`: as for `EnvironmentBuilder`."""
        env = os.environ if environ is None else environ
        self._shelf = Shelf(root)
        self._images = root / "images"
        self._memory = ImageMemory(self._images)
        self._host = host
        self._settings = settings
        self._leases = leases or Leases()
        self._wheels = ServerWheels(root / "wheels")
        self._installer = Installer(uv, home=home, environ=env)
        self._interpreters = Interpreters(env)
        self._solving = Solving(solver)
        self._platform = f"{platform.system().lower()}-{platform.machine()}"

    async def ensure(
        self,
        spec: EnvironmentSpec,
        context: Context | None,
        *,
        progress: Progress,
        said: Progress | None = None,
    ) -> BuiltImage:
        """The image of `spec`: found or built now. `context` is given where the spec has a build context.

        It is leased: it will not be pruned until `release(build_key)` is called, or for `leases.LEASE_S`.

        Raises what `EnvironmentBuilder.ensure` raises, and what images and registries can fail with:
        `ImageNotFound`, `ImagePullDenied`, `ImagePushDenied`, `ImageBuildFailure`, `ImagePythonMissing`,
        `ImageUnusable`, `RegistryUnreachable`, `DockerDiskFull`, `DockerEngineNotAvailable`.
        """
        began = time.monotonic()
        if spec.os_type != "linux":
            message = "environment.os_type: only Linux containers run here"
            raise error("ImageUnusable", message, target="environment.os_type")
        try:
            recipe = self._solving.recipe(spec, in_image=True)
            wheel, key = await asyncio.to_thread(self._identify, spec, recipe, context)
            async with held_lock(self._shelf, key, progress) as held:
                kept = await asyncio.to_thread(self._kept, recipe, key)
                if kept is not None:
                    return replace(kept, reused=True, seconds=time.monotonic() - began)
                with BuildLog(self._shelf.log_file(key), said) as log:
                    means = (self._shelf, self._installer, recipe, key, wheel, self._platform)
                    build = _Build(self, spec, Work(*means, log, progress), context, held)
                    return await build.run(began)
        except OSError as problem:
            place = problem.filename or self._shelf.root
            lines = [f"error: {problem.strerror} (os error {problem.errno}): {place}"]
            failed = verdict(lines, fields={"path": self._shelf.root, "key": ""})
            raise MooringsError(failed) from None

    def release(self, key: str) -> None:
        """Give back the lease of an image: who uses it is written down now."""
        self._leases.release(key)

    def log(self, key: str) -> str | None:
        """The build log of a recipe key, or of the key of an image that is remembered."""
        found = self._shelf.log(key)
        if found is None:
            recipes = [recipe for recipe, (_, built) in self._memory.all().items() if built.build_key == key]
            found = self._shelf.log(recipes[0]) if recipes else None
        return found

    def recipe_key(self, spec: EnvironmentSpec, context_digest: str = "") -> str | None:
        """The key by which the build log of `spec` is kept; None when it cannot be translated at all."""
        context = Context(context_digest, lambda _folder: None) if context_digest else None
        try:
            return self._identify(spec, self._solving.recipe(spec, in_image=True), context)[1]
        except (MooringsError, OSError):
            return None

    def inventory(self) -> ImageInventory:
        return ImageInventory(self._shelf, self._memory, self._host, self._leases)

    def sweep(self) -> int:
        """Remove what killed builds left unfinished; how many there were. Blocking."""
        swept = self._shelf.sweep()
        with contextlib.suppress(MooringsError):  # Docker is away: a later start looks again
            swept += self._host.sweep()
        for folder in self._images.glob(".stage-*") if self._images.is_dir() else ():
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
        return swept

    def _identify(
        self, spec: EnvironmentSpec, recipe: Recipe, context: Context | None
    ) -> tuple[ServerWheel, str]:
        self._shelf.prepare()
        self._images.mkdir(mode=0o700, parents=True, exist_ok=True)
        wheel = self._wheels.current()
        name = recipe.image
        if spec.build is not None and context is not None:
            name = f"context {context.digest} {spec.build.dockerfile_path}"
        if spec.inference_config is not None:
            name = f"as it is: {name}"
        keyed = replace(recipe, image=name)
        return wheel, recipe_key(keyed, server_wheel_sha256=wheel.sha256, platform=self._platform)

    def _kept(self, recipe: Recipe, key: str) -> BuiltImage | None:
        """What the recipe led to, leased, when it is all still there: the image itself and the base it stands on.

        A tag that means another image by now leads to a new build.
        """
        with self._leases.guard:
            found = self._memory.read(key)
            if found is None or not self._solving.accepts(recipe, found[1].solver):
                return None
            asked, built = found
            self._leases.take(built.build_key)
        is_there = False
        try:
            base = self._host.image(asked) if asked else None
            same_base = not asked or (base is not None and base.id == built.base_id)
            is_there = same_base and self._host.image(built.image_id) is not None
        finally:
            if not is_there:
                self._leases.release(built.build_key)
        return built if is_there else None


class _Build:
    """One build, under the lock of its recipe."""

    def __init__(
        self,
        owner: ImageBuilder,
        spec: EnvironmentSpec,
        work: Work,
        context: Context | None,
        held: procs.Held,
    ) -> None:
        self.owner = owner
        self.host = owner._host
        self.settings = owner._settings
        self.spec = spec
        self.work = work
        self.log = work.log
        self.context = context
        self.held = held

    async def run(self, began: float) -> BuiltImage:
        """Raises MooringsError; the log then ends with it."""
        recipe_key = self.work.recipe_key
        stage = self.owner._images / f".stage-{recipe_key}"
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(mode=0o700)
        try:
            self.work.headline()
            name, base = await self._base(stage)
            if self.spec.inference_config is not None:
                built = await self._as_it_is(name, base)
            else:
                built = await self._layered(stage, name, base)
            seconds = time.monotonic() - began
            built = replace(built, reused=False, seconds=seconds, built_at=time.time())
            await asyncio.to_thread(self.owner._memory.write, recipe_key, name, built)
            self.log.line(f"image {built.reference} ({built.image_id}) in {seconds:.1f} s")
            return built
        except MooringsError as problem:
            self.log.line(f"FAILED {problem.failure.code}: {problem.failure.message}")
            raise
        except asyncio.CancelledError:
            self.log.line("CANCELED")
            raise
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    # --- the base ---

    async def _base(self, stage: Path) -> tuple[str, Image]:
        """(name it was asked for by, "" for a build context; the image everything else stands on)."""
        if self.spec.build is not None:
            return "", await self._build_context(stage)
        asked = self.spec.image or DEFAULT_BASE.format(
            minor=minor_of(self.work.recipe.python) or DEFAULT_MINOR
        )
        name = texts.aliased(asked, self.settings.aliases)
        alias = "" if name == asked else f" (for {asked})"
        self.log.line(f"base image: {name}{alias}")
        image = await asyncio.to_thread(
            lambda: self.host.ensure_image(name, self._said, target="environment.image")
        )
        return name, image

    async def _build_context(self, stage: Path) -> Image:
        assert self.spec.build is not None
        if self.context is None:
            message = f"the build context {self.spec.build.path} was not stored with the environment"
            raise error("BuildContextMissing", message, target="environment.build.path")
        folder, name = stage / "context", self.spec.build.dockerfile_path
        await asyncio.to_thread(self.context.lay_out, folder)
        path = folder / name
        try:
            inside = path.resolve().is_relative_to(folder.resolve())
            text = path.read_text(encoding="utf-8") if inside else None
        except (OSError, ValueError):
            text = None
        if text is None:
            message = f"the build context has no Dockerfile {name}"
            raise error("BuildContextMissing", message, target="environment.build.dockerfile_path")
        changed = texts.with_aliases(text, self.settings.aliases)
        if changed != text:
            path.unlink()  # it may be a link into the content store
            path.write_text(changed, encoding="utf-8")
        self.log.line(f"build context {self.context.digest[:16]}, {name}")
        tag = self._context_tag
        return await self._docker_build(folder, name, tag)

    async def _docker_build(self, folder: Path, name: str, tag: str) -> Image:
        def build() -> Image:
            made = self.host.build(
                folder,
                dockerfile=name,
                tag=tag,
                network=self.settings.build_network,
                say=self._said,
                key=self.work.recipe_key,
            )
            image = self.host.image(made)
            assert image is not None, "it has just been built"
            return image

        return await asyncio.to_thread(build)

    async def _as_it_is(self, name: str, image: Image) -> BuiltImage:
        references = (name,) if name else await self._publish(self._context_tag, image)
        built = BuiltImage(
            key="",
            recipe_key=self.work.recipe_key,
            reference=references[-1],
            image_id=image.id,
            base_id=image.id,
            python="",
            python_version="",
            packages={},
            size_bytes=image.size_bytes,
            own_bytes=image.size_bytes,
            solver_reason="it is run as it is",
            tags=() if name else references,
        )
        self.owner._leases.take(built.build_key)
        return built

    @property
    def _context_tag(self) -> str:
        return f"{CONTEXT_REPOSITORY}:{self.work.recipe_key}"

    # --- the environment on top ---

    async def _layered(self, stage: Path, name: str, base: Image) -> BuiltImage:
        work, shelf = self.work, self.work.shelf
        resolved, reason = await self.owner._solving.resolve(work, lambda: self._from_index(name, base))
        self.log.line(f"solver: {resolved.solver} ({reason})")
        local = f"{REPOSITORY}:{resolved.key}-{base.id.removeprefix('sha256:')[:8]}"
        async with held_lock(shelf, resolved.key, work.progress):
            image = await self._found(local, resolved.key, base)
            if image is None:
                image = await self._make(stage, local, base, resolved)
            references = await self._publish(local, image)
            self.owner._leases.take(resolved.key)
        await asyncio.to_thread(shelf.keep_locks, work.recipe_key, resolved.locks)
        return BuiltImage(
            key=resolved.key,
            recipe_key=work.recipe_key,
            reference=references[-1],
            image_id=image.id,
            base_id=base.id,
            python=PYTHON,
            python_version=resolved.python_version,
            packages=packages_of(resolved),
            size_bytes=image.size_bytes,
            notes=(*work.recipe.notes, *resolved.notes),
            variables=json.loads(image.labels.get(LABEL_VARIABLES, "{}")),
            solver=resolved.solver,
            solver_reason=reason,
            own_bytes=max(0, image.size_bytes - (base.size_bytes if name else 0)),
            tags=(*references, *(() if name else (self._context_tag,))),
        )

    async def _from_index(self, name: str, base: Image) -> Resolved:
        """For the Python of the base that fits."""
        owner, work = self.owner, self.work
        work.progress("looking for Python in the base image")
        found = await asyncio.to_thread(pythons_of, self.host, base.id, owner._images)
        python, note = choose_python(found, work.recipe.python, name or "of the build context")
        isolated = self.spec.conda_file is not None
        return await resolve_for_image(work, owner._interpreters, python, note, isolated=isolated)

    async def _found(self, local: str, key: str, base: Image) -> Image | None:
        """The image when this machine or the registry has it already."""
        image = await asyncio.to_thread(self.host.image, local)
        if image is None and self.settings.repository:
            remote = self._remote(local)
            try:
                await asyncio.to_thread(self.host.pull, remote, self._said)
            except MooringsError as problem:
                if problem.failure.code != "ImageNotFound":
                    raise
            else:
                await asyncio.to_thread(self.host.tag, remote, local)
                image = await asyncio.to_thread(self.host.image, local)
        wanted = {LABEL_KEY: key, LABEL_BASE: base.id}
        if image is not None and all(image.labels.get(k) == v for k, v in wanted.items()):
            self.log.line(f"found: {local}")
            return image
        return None

    async def _make(self, stage: Path, local: str, base: Image, resolved: Resolved) -> Image:
        folder = stage / "env"
        self.work.progress(f"installing {resolved.packages} packages")
        variables = await fill_for_image(resolved, folder, self.held)
        labels = {LABEL_KEY: resolved.key, LABEL_BASE: base.id}
        if variables:
            labels[LABEL_VARIABLES] = json.dumps(variables, sort_keys=True)
        self._said("putting the environment on the base image")
        image = await asyncio.to_thread(self._put, base, folder, f"{local}-new", labels)
        await asyncio.to_thread(self._verify, image)
        await asyncio.to_thread(self.host.tag, image.id, local)
        await asyncio.to_thread(self.host.remove_image, f"{local}-new")
        return image

    def _put(self, base: Image, folder: Path, tag: str, labels: Mapping[str, str]) -> Image:
        image = self.host.image(self.host.layer(base.id, folder, texts.ENV_FOLDER, tag=tag, labels=labels))
        assert image is not None, "it has just been made"
        return image

    def _verify(self, image: Image) -> None:
        self.work.progress("checking the image")
        code, text = self.host.run(image.id, [PYTHON, "-I", "-c", VERIFY], user="65532:65532")
        for line in text.splitlines():
            self.log.line(line)
        if code != 0:
            last = next(reversed(text.splitlines()), f"exit status {code}")
            message = f"the inference server does not start in the image: {last}"
            raise error("ImageUnusable", message, evidence=text.splitlines()[-20:])

    # --- the registry ---

    def _remote(self, local: str) -> str:
        repository, tag = split_tag(local)
        return f"{self.settings.repository}/{repository.rpartition('/')[2]}:{tag}"

    async def _publish(self, local: str, image: Image) -> tuple[str, ...]:
        """Put the image into the workspace's registry, where there is one; its names, the one it can be had by last."""
        if not self.settings.repository:
            return (local,)
        remote = self._remote(local)
        await asyncio.to_thread(self.host.tag, image.id, remote)
        await asyncio.to_thread(self.host.push, remote, self._said)
        return local, remote

    def _said(self, line: str) -> None:
        self.log.line(line)
        self.work.progress(line[:120])
