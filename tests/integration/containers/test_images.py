"""Images on a real engine and in a real registry: built once by their key, found again, refused with a code."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from moorings.containers.credentials import Credentials, Login
from moorings.containers.host import DockerHost
from moorings.environments.image import Context, ImageBuilder, ImageSettings
from moorings.environments.leases import Leases
from moorings.environments.venv import EnvironmentBuilder
from moorings.errors.exceptions import MooringsError
from moorings.spec.assets import EnvironmentSpec

BASE = "moorings.test/python:base"
PYTHON = "python={}.{}".format(*sys.version_info)
"""As in the base image, which is made of the Python that runs the tests."""
CONDA = {"dependencies": [PYTHON, {"pip": ["six==1.16.0"]}]}
SPEC = EnvironmentSpec(image="mcr.microsoft.com/any:1", conda_file=CONDA)
ALIASES = {"mcr.microsoft.com/*": BASE}
USER, PASSWORD = "ann", "s3cret"
Registry = Any


def nobody(_registry: str) -> None:
    return None


def login(user: str, password: str) -> Credentials:
    return lambda _registry: Login(user, password)


def builder(
    dockerd: Any, root: Path, *, repository: str = "", credentials: Credentials = nobody
) -> ImageBuilder:
    host = DockerHost(dockerd.host, credentials)
    settings = ImageSettings(aliases=ALIASES, repository=repository)
    return ImageBuilder(root / "environments", host, settings, home=root)


async def build(builder: ImageBuilder, spec: EnvironmentSpec = SPEC, context: Context | None = None) -> Any:
    said: list[str] = []
    return await builder.ensure(spec, context, progress=said.append)


async def refused(builder: ImageBuilder, spec: EnvironmentSpec = SPEC) -> Any:
    with pytest.raises(MooringsError) as caught:
        await build(builder, spec)
    failed = caught.value.failure
    assert failed.evidence
    assert failed.fix
    return failed


async def test_an_image_is_built_once_by_its_key(dockerd: Any, tmp_path: Path) -> None:
    first = await build(builder(dockerd, tmp_path))
    again = await build(builder(dockerd, tmp_path))
    elsewhere = await build(builder(dockerd, tmp_path / "other"))
    assert not first.reused
    assert again.reused
    assert first.image_id == again.image_id == elsewhere.image_id
    assert again.seconds < 0.5 < first.seconds
    print(f"built in {first.seconds:.2f} s, found again in {again.seconds:.3f} s")
    assert first.packages["six"] == "1.16.0"
    made = builder(dockerd, tmp_path)
    assert "putting the environment on the base image" in (made.log(first.key) or "")
    before, after = (
        dockerd.cli("image", "inspect", "-f", "{{json .Config}}", i).stdout for i in (BASE, first.image_id)
    )
    kept = ("Env", "Cmd", "Entrypoint", "User", "WorkingDir")
    assert [json.loads(before).get(k) for k in kept] == [json.loads(after).get(k) for k in kept]
    assert made.log(first.recipe_key) == made.log(first.key)
    other = await build(
        builder(dockerd, tmp_path), SPEC.model_copy(update={"conda_file": {"dependencies": [PYTHON]}})
    )
    assert other.image_id != first.image_id
    ran = dockerd.cli(
        *("run", "--rm", "--network", "none", "--user", "4711:4711", "--entrypoint", first.python),
        *(
            first.reference,
            "-I",
            "-c",
            "import six, uvloop, httptools, moorings_server; print(six.__version__)",
        ),
    )
    assert ran.stdout.strip() == "1.16.0"
    history = dockerd.cli("history", "--no-trunc", first.reference).stdout
    assert str(tmp_path) not in history


async def test_the_venv_of_the_same_lock_has_the_same_key(dockerd: Any, tmp_path: Path) -> None:
    image = await build(builder(dockerd, tmp_path))
    venvs = EnvironmentBuilder(tmp_path / "environments", uv=None, allow_python_download=False, home=tmp_path)
    venv = await venvs.ensure(SPEC, progress=lambda _line: None)
    assert venv.python_version == image.python_version, "the base image has this machine's Python"
    assert venv.key == image.key


async def test_an_image_alone_keeps_its_own_packages(dockerd: Any, tmp_path: Path) -> None:
    standard = "python{}.{}".format(*sys.version_info)
    script = f"import sys;print(next(p for p in sys.path if p.endswith('{standard}')) + '/own_module.py')"
    place = dockerd.cli("run", "--rm", "--network", "none", BASE, "python", "-c", script).stdout.strip()
    packages = place.replace("/own_module.py", "/site-packages/own_module.py")
    dockerd.build(
        "moorings.test/own:1", f"FROM {BASE}\nCOPY own_module.py {packages}\n", {"own_module.py": b"X = 7"}
    )
    found = await build(builder(dockerd, tmp_path), EnvironmentSpec(image="moorings.test/own:1"))
    ran = dockerd.cli(
        *("run", "--rm", "--network", "none", "--entrypoint", found.python, found.reference),
        *("-c", "import own_module, moorings_server; print(own_module.X)"),
    )
    assert ran.stdout.strip() == "7"


async def test_a_base_image_that_changes_under_its_name_leads_to_a_new_image(
    dockerd: Any, tmp_path: Path
) -> None:
    dockerd.build("moorings.test/moving:1", f"FROM {BASE}\nRUN echo 1 > /one\n")
    spec = SPEC.model_copy(update={"image": "moorings.test/moving:1"})
    first = await build(builder(dockerd, tmp_path), spec)
    dockerd.build("moorings.test/moving:1", f"FROM {BASE}\nRUN echo 2 > /two\n")
    second = await build(builder(dockerd, tmp_path), spec)
    assert second.key == first.key
    assert second.image_id != first.image_id


async def test_what_is_built_goes_to_the_registry_and_comes_from_it(
    dockerd: Any, registry: Registry, tmp_path: Path
) -> None:
    repository = f"{registry.address}/team"
    known = {"repository": repository, "credentials": login(USER, PASSWORD)}
    first = await build(builder(dockerd, tmp_path / "a", **known))
    assert first.reference.startswith(f"{repository}/environment:")
    local = f"moorings/environment:{first.reference.rpartition(':')[2]}"
    dockerd.cli("rmi", "-f", first.image_id)
    host = DockerHost(dockerd.host, login(USER, PASSWORD))
    assert host.image(local) is None
    second = await build(builder(dockerd, tmp_path / "b", **known))
    assert second.image_id == first.image_id, "pulled, not built"
    assert f"found: {local}" in (builder(dockerd, tmp_path / "b").log(second.recipe_key) or "")


async def test_the_login_of_docker_itself_is_used(
    dockerd: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    found = await build(builder(dockerd, tmp_path, repository=f"{registry.address}/own"))
    assert found.reference.startswith(registry.address)


async def test_what_a_registry_refuses_and_what_it_does_not_have(
    dockerd: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    there = f"{registry.address}/team/environment:none"
    spec = SPEC.model_copy(update={"image": there})
    absent = await refused(builder(dockerd, tmp_path, credentials=login(USER, PASSWORD)), spec)
    assert (absent.code, absent.entry.numeric) == ("ImageNotFound", "ERR_1200")
    for credentials in (nobody, login(USER, "wrong")):
        denied = await refused(builder(dockerd, tmp_path, credentials=credentials), spec)
        assert (denied.code, denied.entry.numeric) == ("ImagePullDenied", "ERR_1200")
        assert registry.address in denied.fix
    into = {"repository": f"{registry.address}/wrong"}
    assert (await refused(builder(dockerd, tmp_path, **into))).code in ("ImagePullDenied", "ImagePushDenied")


async def test_a_registry_whose_tokens_another_server_gives(
    dockerd: Any, token_registry: Any, tmp_path: Path
) -> None:
    known = {"repository": f"{token_registry.registry.address}/team", "credentials": login(USER, PASSWORD)}
    first = await build(builder(dockerd, tmp_path / "a", **known))
    asked = {scope.rpartition(":")[0]: scope.rpartition(":")[2] for scope in token_registry.tokens.asked}
    assert "push" in asked["repository:team/environment"], "pushed, with a token for that"
    dockerd.cli("rmi", "-f", first.image_id)
    second = await build(builder(dockerd, tmp_path / "b", **known))
    assert second.image_id == first.image_id
    assert f"pulling {first.reference}" in (builder(dockerd, tmp_path / "b").log(second.recipe_key) or "")
    wrong = {**known, "credentials": login(USER, "wrong")}
    denied = await refused(builder(dockerd, tmp_path / "c", **wrong))
    assert denied.code in ("ImagePullDenied", "ImagePushDenied")
    assert token_registry.tokens.refused
    assert PASSWORD not in "".join(denied.evidence)


async def test_a_registry_that_is_down(dockerd: Any, registry: Registry, tmp_path: Path) -> None:
    known = {"repository": f"{registry.address}/down", "credentials": login(USER, PASSWORD)}
    registry.stop()
    try:
        failed = await refused(builder(dockerd, tmp_path, **known))
        assert failed.code == "RegistryUnreachable"
        assert failed.entry.retryable
    finally:
        registry.start()
    assert (await build(builder(dockerd, tmp_path, **known))).reference.startswith(registry.address)


async def test_a_build_context_is_what_it_was(dockerd: Any, tmp_path: Path) -> None:
    def lay_out(folder: Path) -> None:
        folder.mkdir()
        (folder / "docker").mkdir()
        (folder / "docker" / "File").write_text("FROM mcr.microsoft.com/any:1\nCOPY a.txt /a.txt\n")
        (folder / "a.txt").write_text("a")

    spec = EnvironmentSpec.model_validate({"build": {"path": "ctx", "dockerfile_path": "docker/File"}})
    found = await build(builder(dockerd, tmp_path), spec, Context("d" * 64, lay_out))
    ran = dockerd.cli("run", "--rm", "--network", "none", "--entrypoint", "cat", found.reference, "/a.txt")
    assert ran.stdout == "a"
    again = await build(builder(dockerd, tmp_path), spec, Context("d" * 64, lambda _folder: None))
    assert again.reused
    assert again.image_id == found.image_id
    shutil.rmtree(tmp_path / "environments")


async def test_images_that_nobody_uses_are_pruned_and_only_those(dockerd: Any, tmp_path: Path) -> None:
    leases = Leases()
    host = DockerHost(dockerd.host, nobody)
    made = ImageBuilder(tmp_path / "e", host, ImageSettings(aliases=ALIASES), home=tmp_path, leases=leases)
    specs = [
        SPEC.model_copy(update={"conda_file": {"dependencies": [PYTHON, {"pip": [f"six=={version}"]}]}})
        for version in ("1.14.0", "1.15.0", "1.17.0")
    ]
    unused, used, running = [await build(made, spec) for spec in specs]
    custom = {"path": "/", "port": 1}
    theirs = EnvironmentSpec.model_validate(
        {
            "image": BASE,
            "inference_config": dict.fromkeys(("liveness_route", "readiness_route", "scoring_route"), custom),
        }
    )
    await build(made, theirs)
    inventory = made.inventory()
    assert {one.complete.key for one in inventory.builds()} == {unused.key, used.key, running.key}
    found = inventory.find(unused.key)
    assert found is not None
    assert found.location == unused.reference
    assert "six==1.14.0" in found.locks["requirements.lock"]
    assert 0 < found.complete.size_bytes < unused.size_bytes

    def users() -> dict[str, list[str]]:
        return {used.key: ["shop/blue"]}

    dockerd.cli("create", "--name", "keeps-it", running.reference)
    try:
        assert not any(fate.removed for fate in inventory.prune(users, dry_run=False)), "all are leased"
        for one in (unused, used, running):
            made.release(one.key)
        planned = inventory.prune(users, dry_run=True)
        assert {fate.key for fate in planned if not fate.reason} == {unused.key, running.key}
        fates = {fate.key: fate for fate in inventory.prune(users, dry_run=False)}
    finally:
        dockerd.cli("rm", "keeps-it")
    assert {key for key, fate in fates.items() if fate.removed} == {unused.key}
    assert fates[used.key].used_by == ("shop/blue",)
    assert "a container uses it" in fates[running.key].reason
    assert host.image(unused.image_id) is None
    assert host.image(used.image_id) is not None
    assert host.image(BASE) is not None
    assert {one.complete.key for one in inventory.builds()} == {used.key, running.key}
    again = await build(made, specs[0])
    assert not again.reused


async def test_what_a_killed_build_leaves_is_swept(dockerd: Any, tmp_path: Path) -> None:
    host = DockerHost(dockerd.host, nobody, owner="killed")
    made = ImageBuilder(tmp_path / "environments", host, ImageSettings(), home=tmp_path)
    theirs, ours = "moorings-scratch-alive-1", "moorings-scratch-killed-1"
    for name in (theirs, ours):
        dockerd.cli("create", "--name", name, BASE)
    stage = tmp_path / "environments" / "images" / ".stage-0123456789abcdef"
    (stage / "layer").mkdir(parents=True)
    assert made.sweep() == 2
    assert not stage.exists()
    left = dockerd.names()
    dockerd.cli("rm", theirs)
    assert (theirs in left, ours in left) == (True, False)
