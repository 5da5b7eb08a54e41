"""`moor acr repository show-tags` against a real registry: by name and password, and with tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

USER, PASSWORD = "ann", "s3cret"
REPOSITORY = "team/shop"
MADE = {
    "a-old": "2020-01-01T00:00:00Z",
    "b-new": "2025-06-01T12:00:00.123456789Z",
    "c-mid": "2023-01-01T00:00:00Z",
}
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def push(address: str, authorization: str, tag: str, created: str) -> None:
    """An image without layers."""
    with httpx.Client(headers={"Authorization": authorization}, trust_env=False) as client:
        config = json.dumps({"created": created, "rootfs": {"type": "layers", "diff_ids": []}}).encode()
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        begun = client.post(f"http://{address}/v2/{REPOSITORY}/blobs/uploads/")
        place = httpx.URL(begun.raise_for_status().headers["Location"]).copy_merge_params({"digest": digest})
        client.put(place, content=config).raise_for_status()
        described = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest,
            "size": len(config),
        }
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": []}
        place = f"http://{address}/v2/{REPOSITORY}/manifests/{tag}"
        sent = client.put(place, content=json.dumps(manifest), headers={"Content-Type": MANIFEST})
        sent.raise_for_status()


def basic(password: str = PASSWORD) -> str:
    return base64.b64encode(f"{USER}:{password}".encode()).decode()


class Moor:
    def __init__(self, folder: Path, address: str) -> None:
        self.home, self.docker, self.address = folder / "home", folder / "docker", address
        self.home.mkdir()
        self.docker.mkdir()

    def settings(self, **registry: str) -> None:
        text = json.dumps({"registry": {"repository": f"{self.address}/team", **registry}})
        (self.home / "settings.json").write_text(text)

    def logged_in(self, password: str = PASSWORD) -> None:
        (self.docker / "config.json").write_text(
            json.dumps({"auths": {self.address: {"auth": basic(password)}}})
        )

    def __call__(self, *words: str, repository: str = REPOSITORY) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "moorings.cli.main", "acr", "repository", "show-tags"]
        environ = {**os.environ, "MOORINGS_HOME": str(self.home), "DOCKER_CONFIG": str(self.docker)}
        named = ["-n", self.address, "--repository", repository]
        return subprocess.run(
            [*command, *named, *words], env=environ, capture_output=True, text=True, timeout=60, check=False
        )


def test_by_name_and_password(registry: Any, tmp_path: Path) -> None:
    for tag, created in MADE.items():
        push(registry.address, f"Basic {basic()}", tag, created)
    moor = Moor(tmp_path, registry.address)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "password").chmod(0o600)
    moor.settings(user=USER, password_file=str(tmp_path / "password"))
    done = moor("--orderby", "time_desc", "--output", "table")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Result", done.stdout.split()[1], "b-new", "c-mid", "a-old"]
    assert json.loads(moor("--orderby", "time_asc", "-o", "json").stdout) == ["a-old", "c-mid", "b-new"]
    detail = json.loads(moor("--detail").stdout)
    assert [t["name"] for t in detail] == sorted(MADE)
    assert detail[1]["created_time"].startswith("2025-06-01T12:00:00.123456")
    assert all(t["digest"].startswith("sha256:") for t in detail)
    absent = moor(repository="team/other")
    assert absent.returncode == 1 and "RepositoryNotFound" in absent.stderr
    assert f"show-tags -n {registry.address} --repository {REPOSITORY}" in absent.stderr
    moor.settings()
    nobody = moor()
    assert nobody.returncode == 1 and "ImagePullDenied" in nobody.stderr
    assert f"docker login {registry.address}" in nobody.stderr


def test_with_tokens_by_what_docker_login_keeps(token_registry: Any, tmp_path: Path) -> None:
    tokens, address = token_registry.tokens, token_registry.registry.address
    query = f"/token?scope=repository:{REPOSITORY}:pull,push"
    _, body = tokens.answer(query, f"Basic {basic()}")
    for tag, created in MADE.items():
        push(address, f"Bearer {json.loads(body)['token']}", tag, created)
    moor = Moor(tmp_path, address)
    moor.settings()
    moor.logged_in()
    done = moor("--orderby", "time_desc", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["b-new", "c-mid", "a-old"]
    assert tokens.asked[-1] == f"repository:{REPOSITORY}:pull"
    moor.logged_in("wrong")
    refused = moor()
    assert refused.returncode == 1 and "ImagePullDenied" in refused.stderr and PASSWORD not in refused.stderr


def test_a_registry_that_is_down(registry: Any, tmp_path: Path) -> None:
    moor = Moor(tmp_path, registry.address)
    moor.settings()
    registry.stop()
    try:
        done = moor()
    finally:
        registry.start()
    assert done.returncode == 1 and "RegistryUnreachable" in done.stderr
    assert f"curl -i http://{registry.address}/v2/" in done.stderr
