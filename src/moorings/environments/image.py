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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from moorings.containers.host import DockerHost, Image
from moorings.containers.reading import LOCAL_PREFIX, split_tag
from moorings.environments import dockerfile as texts
from moorings.environments.buildlog import BuildLog, held_lock
from moorings.environments.image_python import ImagePython, choose_python, pythons_of
from moorings.environments.installer import Installer, Run
from moorings.environments.interpreters import Interpreter, Interpreters, minor_of
from moorings.environments.locked import build_key, parse_lock
from moorings.environments.recipe import SERVER, Recipe, make_recipe, recipe_key
from moorings.environments.server_wheel import ServerWheel, ServerWheels
from moorings.environments.shelf import Shelf
from moorings.environments.verdict import verdict
from moorings.errors.exceptions import MooringsError, error
from moorings.lib import atomic
from moorings.lib.timing import rfc3339
from moorings.spec.assets import EnvironmentSpec

Progress = Callable[[str], None]
LayOut = Callable[[Path], None]
"""Puts the files of a build context into a folder that is not there yet."""

LABEL_KEY = "moorings.environment"
LABEL_BASE = "moorings.base"
REPOSITORY = f"{LOCAL_PREFIX}environment"
CONTEXT_REPOSITORY = f"{LOCAL_PREFIX}context"
PYTHON = f"{texts.ENV_FOLDER}/bin/python"
DEFAULT_BASE = "python:{minor}-slim"
"""Where an environment names no image: the official image of the Python it asks for."""
DEFAULT_MINOR = "3.12"
LOCK_FILE = "requirements.lock"
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


@dataclass(frozen=True)
class BuiltImage:
    """An image that is on this machine. JSON-safe through `dataclasses.asdict`."""

    key: str
    """16 hex digits: names the content; that of the venv where the Python is the same. Empty: taken as it is."""
    recipe_key: str
    reference: str
    """By which it can be had again: in the workspace's registry where there is one."""
    image_id: str
    base_id: str
    python: str
    python_version: str
    packages: Mapping[str, str]
    size_bytes: int
    reused: bool = True
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


class ImageBuilder:
    """Builds on one Docker Engine. Any number of builders may share the folder of logs and locks."""

    def __init__(
        self, root: Path, host: DockerHost, settings: ImageSettings, *, home: Path, uv: Path | None = None
    ) -> None:
        self._shelf = Shelf(root)
        self._images = root / "images"
        self._host = host
        self._settings = settings
        self._wheels = ServerWheels(root / "wheels")
        self._installer = Installer(uv, home=home, environ=os.environ)
        self._interpreters = Interpreters(os.environ)
        self._platform = f"{platform.system().lower()}-{platform.machine()}"

    async def ensure(
        self, spec: EnvironmentSpec, context: Context | None, *, progress: Progress
    ) -> BuiltImage:
        """The image of `spec`: found or built now. `context` is given where the spec has a build context.

        Raises what `EnvironmentBuilder.ensure` raises, and what images and registries can fail with:
        `ImageNotFound`, `ImagePullDenied`, `ImagePushDenied`, `ImageBuildFailed`, `ImagePythonMissing`,
        `ImageUnusable`, `RegistryUnreachable`, `DockerDiskFull`, `DockerEngineNotAvailable`.
        """
        began = time.monotonic()
        if spec.os_type != "linux":
            message = "environment.os_type: only Linux containers run here"
            raise error("ImageUnusable", message, target="environment.os_type")
        try:
            recipe = make_recipe(spec, in_image=True)
            wheel, key = await asyncio.to_thread(self._identify, spec, recipe, context)
            async with held_lock(self._shelf, key, progress):
                kept = await asyncio.to_thread(self._kept, key)
                if kept is not None:
                    return replace(kept, reused=True, seconds=time.monotonic() - began)
                with BuildLog(self._shelf.log_file(key)) as log:
                    build = _Build(self, spec, recipe, key, wheel, context, log, progress)
                    return await build.run(began)
        except OSError as problem:
            place = problem.filename or self._shelf.root
            lines = [f"error: {problem.strerror} (os error {problem.errno}): {place}"]
            failed = verdict(lines, fields={"path": self._shelf.root, "key": ""})
            raise MooringsError(failed) from None

    def log(self, key: str) -> str | None:
        """The build log of a recipe key, or of the key of an image that is remembered."""
        found = self._shelf.log(key)
        if found is None:
            recipes = [path.stem for path in self._images.glob("*.json") if _remembered_key(path) == key]
            found = self._shelf.log(recipes[0]) if recipes else None
        return found

    def recipe_key(self, spec: EnvironmentSpec, context_digest: str = "") -> str | None:
        """The key by which the build log of `spec` is kept; None when it cannot be translated at all."""
        context = Context(context_digest, lambda _folder: None) if context_digest else None
        try:
            return self._identify(spec, make_recipe(spec, in_image=True), context)[1]
        except (MooringsError, OSError):
            return None

    def sweep(self) -> int:
        """Remove what killed builds left unfinished; how many there were. Blocking."""
        swept = 0
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

    # --- what is remembered ---

    def _kept(self, key: str) -> BuiltImage | None:
        """What the recipe led to, when it is all still there: the image itself and the base it stands on.

        A tag that means another image by now leads to a new build.
        """
        try:
            data: dict[str, Any] = json.loads((self._images / f"{key}.json").read_bytes())
            asked = str(data.pop("base"))
            built = BuiltImage(**{**data, "notes": tuple(data["notes"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        if asked:
            base = self._host.image(asked)
            if base is None or base.id != built.base_id:
                return None
        return built if self._host.image(built.image_id) is not None else None

    def _remember(self, key: str, base: str, built: BuiltImage) -> None:
        data = {**asdict(built), "base": base}
        atomic.write(self._images / f"{key}.json", json.dumps(data).encode())


class _Build:
    """One build, under the lock of its recipe."""

    def __init__(
        self,
        owner: ImageBuilder,
        spec: EnvironmentSpec,
        recipe: Recipe,
        key: str,
        wheel: ServerWheel,
        context: Context | None,
        log: BuildLog,
        progress: Progress,
    ) -> None:
        self.owner = owner
        self.host = owner._host
        self.settings = owner._settings
        self.spec = spec
        self.recipe = recipe
        self.recipe_key = key
        self.wheel = wheel
        self.context = context
        self.log = log
        self.progress = progress
        self.fields: dict[str, object] = {"key": key, "path": owner._shelf.root}

    async def run(self, began: float) -> BuiltImage:
        """Raises MooringsError; the log then ends with it."""
        stage = self.owner._images / f".stage-{self.recipe_key}"
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(mode=0o700)
        try:
            self._headline()
            name, base = await self._base(stage)
            if self.spec.inference_config is not None:
                built = await self._as_it_is(name, base)
            else:
                built = await self._layered(stage, name, base)
            seconds = time.monotonic() - began
            built = replace(built, reused=False, seconds=seconds)
            await asyncio.to_thread(self.owner._remember, self.recipe_key, name, built)
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

    def _headline(self) -> None:
        self.log.line(f"recipe {self.recipe_key}, {rfc3339(time.time())}")
        for note in self.recipe.notes:
            self.log.line(f"note: {note}")

    # --- the base ---

    async def _base(self, stage: Path) -> tuple[str, Image]:
        """(name it was asked for by, "" for a build context; the image everything else stands on)."""
        if self.spec.build is not None:
            return "", await self._build_context(stage)
        asked = self.spec.image or DEFAULT_BASE.format(minor=minor_of(self.recipe.python) or DEFAULT_MINOR)
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
        tag = f"{CONTEXT_REPOSITORY}:{self.recipe_key}"
        return await self._docker_build(folder, name, tag)

    async def _docker_build(self, folder: Path, name: str, tag: str) -> Image:
        def build() -> Image:
            made = self.host.build(
                folder,
                dockerfile=name,
                tag=tag,
                network=self.settings.build_network,
                say=self._said,
                key=self.recipe_key,
            )
            image = self.host.image(made)
            assert image is not None, "it has just been built"
            return image

        return await asyncio.to_thread(build)

    async def _as_it_is(self, name: str, image: Image) -> BuiltImage:
        reference = name or await self._publish(f"{CONTEXT_REPOSITORY}:{self.recipe_key}", image)
        return BuiltImage(
            key="",
            recipe_key=self.recipe_key,
            reference=reference,
            image_id=image.id,
            base_id=image.id,
            python="",
            python_version="",
            packages={},
            size_bytes=image.size_bytes,
        )

    # --- the environment on top ---

    async def _layered(self, stage: Path, name: str, base: Image) -> BuiltImage:
        self.progress("looking for Python in the base image")
        found = await asyncio.to_thread(pythons_of, self.host, base.id, self.owner._images)
        python, note = choose_python(found, self.recipe.python, name or "of the build context")
        self.fields["python"] = python.version
        self.log.line(f"Python {python.version}: {python.path}")
        if note is not None:
            self.log.line(f"note: {note}")
        on_host = await asyncio.to_thread(self._host_python, python)
        lock = await self._resolve(python, on_host)
        locked = parse_lock(lock)
        key = build_key(
            locked,
            server=SERVER,
            server_sha256=self.wheel.sha256,
            python_version=python.version,
            platform=self.owner._platform,
        )
        packages = dict(sorted(_name_and_version(head) for head, _ in locked.packages))
        local = f"{REPOSITORY}:{key}-{base.id.removeprefix('sha256:')[:8]}"
        image = await self._found(local, key, base)
        if image is None:
            image = await self._make(stage, local, key, base, python, on_host, lock)
        reference = await self._publish(local, image)
        notes = self.recipe.notes if note is None else (*self.recipe.notes, note)
        return BuiltImage(
            key=key,
            recipe_key=self.recipe_key,
            reference=reference,
            image_id=image.id,
            base_id=base.id,
            python=PYTHON,
            python_version=python.version,
            packages=packages,
            size_bytes=image.size_bytes,
            notes=notes,
        )

    def _host_python(self, wanted: ImagePython) -> Interpreter | None:
        """The Python of this machine that is most like the image's: it compiles what has to be compiled."""
        found = self.owner._interpreters.find()
        same = [one for one in found if one.version == wanted.version]
        alike = [one for one in found if one.version.split(".")[:2] == wanted.version.split(".")[:2]]
        return next(iter(same or alike), None)

    def _target(self, python: ImagePython, on_host: Interpreter | None) -> list[str]:
        wheels = texts.manylinux(python.machine, python.glibc)
        target = ["--python-version", python.version, "--python-platform", wheels]
        # Without such a Python nothing can be compiled here: wheels or nothing.
        return [*target, *(("--python", str(on_host.path)) if on_host else ("--no-build",))]

    async def _resolve(self, python: ImagePython, on_host: Interpreter | None) -> str:
        count = len(self.recipe.requirements)
        self.progress(f"resolving {count} requirement{'' if count == 1 else 's'}")
        source = self.owner._shelf.requirements(self.recipe_key)
        wanted = [*self.recipe.requirements, f"{SERVER} @ {self.wheel.path.as_uri()}"]
        atomic.write(source, ("\n".join(wanted) + "\n").encode("utf-8", "surrogateescape"))
        arguments = ["pip", "compile", str(source), *self._target(python, on_host)]
        options = ("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url")
        return (await self._uv([*arguments, *options])).out

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

    async def _make(
        self,
        stage: Path,
        local: str,
        key: str,
        base: Image,
        python: ImagePython,
        on_host: Interpreter | None,
        lock: str,
    ) -> Image:
        context = stage / "layer"
        folder = context / "env"
        minor = ".".join(python.version.split(".")[:2])
        packages = folder / "lib" / f"python{minor}" / "site-packages"
        packages.mkdir(parents=True)
        (folder / LOCK_FILE).write_text(lock, encoding="utf-8")
        self.progress("installing packages")
        arguments = ["pip", "install", "--target", str(packages), *self._target(python, on_host)]
        arguments += ["--no-deps", "-r", str(folder / LOCK_FILE), "--link-mode", "hardlink"]
        if all(hashes for _, hashes in parse_lock(lock).packages):
            arguments.append("--require-hashes")
        if on_host is not None:
            arguments.append("--compile-bytecode")
        await self._uv(arguments)
        await asyncio.to_thread(self._finish, folder, packages, python)
        labels = {LABEL_KEY: key, LABEL_BASE: base.id}
        (context / "Dockerfile").write_text(texts.environment_layer(base.id, "env", labels))
        self.progress("putting the environment on the base image")
        image = await self._docker_build(context, "Dockerfile", f"{local}-new")
        await asyncio.to_thread(self._verify, image)
        await asyncio.to_thread(self.host.tag, image.id, local)
        await asyncio.to_thread(self.host.remove_image, f"{local}-new")
        return image

    def _finish(self, folder: Path, packages: Path, python: ImagePython) -> None:
        """What makes a folder of packages a virtual environment of the image's Python."""
        binaries = folder / "bin"
        if (packages / "bin").is_dir():
            (packages / "bin").rename(binaries)
        binaries.mkdir(exist_ok=True)
        for script in binaries.iterdir():
            _with_interpreter(script)
        for name in ("python", "python3"):
            (binaries / name).symlink_to(python.path)
        isolated = self.spec.conda_file is not None
        text = texts.venv_config(python.path, python.version, system_packages=not isolated)
        (folder / "pyvenv.cfg").write_text(text)
        (packages / ".lock").unlink(missing_ok=True)
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                # Whoever runs inside is nobody in particular. Files are links into uv's cache: never change those.
                _readable(path)

    def _verify(self, image: Image) -> None:
        self.progress("checking the image")
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

    async def _publish(self, local: str, image: Image) -> str:
        """Put the image into the workspace's registry, where there is one; the name it can be had by."""
        if not self.settings.repository:
            return local
        remote = self._remote(local)
        await asyncio.to_thread(self.host.tag, image.id, remote)
        await asyncio.to_thread(self.host.push, remote, self._said)
        return remote

    # --- running things ---

    async def _uv(self, arguments: list[str]) -> Run:
        self.log.line(f"$ uv {' '.join(arguments)}")
        try:
            run = await self.owner._installer.run(
                arguments, cwd=self.owner._shelf.root, on_line=self.log.line
            )
        except TimeoutError:
            message = f"uv {arguments[0]} took too long and was ended"
            evidence = self.log.last(20)
            raise error("EnvironmentBuildFailed", message, evidence=evidence, fields=self.fields) from None
        if run.code != 0:
            raise MooringsError(verdict(run.lines, fields=self.fields))
        return run

    def _said(self, line: str) -> None:
        self.log.line(line)
        self.progress(line[:120])


def _remembered_key(path: Path) -> str | None:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return str(data.get("key")) if isinstance(data, dict) else None


def _name_and_version(head: str) -> tuple[str, str]:
    name, found, version = head.partition("==")
    if found:
        return name.strip(), version.split(";")[0].strip()
    name, _, address = head.partition(" @ ")
    return name.strip(), address.strip()


def _with_interpreter(script: Path) -> None:
    """A console script begins with the Python it was installed by: make that the environment's."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = script.read_text(encoding="utf-8")
        first, newline, rest = text.partition("\n")
        if first.startswith("#!") and "python" in first:
            mode = script.stat().st_mode & 0o777
            script.unlink()  # a link into uv's cache
            script.write_text(f"#!{PYTHON}{newline}{rest}", encoding="utf-8")
            script.chmod(mode | 0o555)


def _readable(path: Path) -> None:
    mode = path.stat().st_mode
    wanted = mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444)
    if wanted == mode:
        return
    if path.is_file() and path.stat().st_nlink > 1:
        copy = path.with_name(f".{path.name}.copy")
        shutil.copy2(path, copy)
        copy.chmod(wanted)
        copy.replace(path)
    else:
        path.chmod(wanted)
