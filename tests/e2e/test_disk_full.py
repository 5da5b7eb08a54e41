"""A disk that is full: a coded failure that names the space, nothing half-made, and all goes on when there is room again.

The workspace lives on a small file system of its own in memory, which takes the right to mount.
"""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorings.errors.catalogue import CATALOGUE

from .test_uploads import pending

GOOD = "def init(): pass\ndef run(data): return 'fine'\n"
SIZE_MB = 160


@pytest.fixture(scope="module")
def full(workspace: Any) -> Iterator[Any]:
    """A workspace on a file system of `SIZE_MB`, with one good deployment."""
    settings = (workspace.home / "settings.json").read_bytes()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=700", "moorings-test", str(workspace.home)],
        check=True,
    )
    try:
        (workspace.home / "settings.json").write_bytes(settings)
        workspace.endpoint("full")
        workspace.deploy(workspace.spec("full", "blue", workspace.script("full", GOOD)), "--all-traffic")
        yield workspace
        workspace.moor("workspace", "stop")
    finally:
        subprocess.run(["umount", "--lazy", str(workspace.home)], check=True)


def _free_bytes(workspace: Any) -> int:
    return shutil.disk_usage(workspace.home).free


def _fill(workspace: Any, leave_bytes: int = 0) -> Path:
    """A file that takes all but so many bytes."""
    path = Path(workspace.home) / "ballast"
    block = b"\0" * 65536
    with path.open("wb", buffering=0) as handle:
        try:
            while (room := _free_bytes(workspace) - leave_bytes) > 0:
                handle.write(block[:room])
        except OSError:
            pass
    return path


def _refused(workspace: Any, *argv: str, code: str) -> str:
    done = workspace.moor(*argv, check=False, timeout_s=120)
    print(done.stderr)
    assert done.returncode == 1 and f"({code}" in done.stderr, (done.returncode, done.stderr)
    assert "Fix:" in done.stderr and "InternalServerError" not in done.stderr
    return str(done.stderr)


def test_a_model_that_does_not_fit(full: Any) -> None:
    base = Path(tempfile.mkdtemp(prefix="moor-model-"))
    try:
        with (base / "weights.bin").open("wb") as handle:
            for n in range(40):
                handle.write(n.to_bytes(2, "big") * (512 * 1024))
        spec = full.spec("full", "big", full.script("full", GOOD), model={"path": str(base / "weights.bin")})
        ballast = _fill(full, leave_bytes=8_000_000)
        said = _refused(full, "online-deployment", "create", "-f", str(spec), code="AssetStoreFull")
        assert "free" in said and "MB" in said
        assert not list((full.home / "assets" / "incoming").iterdir())
        assert [d["name"] for d in full.json("online-deployment", "list", "-e", "full")] == ["blue"]
        assert full.score("full", 1).json == "fine"
        ballast.unlink()
        full.deploy(spec)
        full.moor("online-deployment", "delete", "-e", "full", "-n", "big", "--yes")
    finally:
        shutil.rmtree(base)


def test_an_upload_that_does_not_fit(full: Any) -> None:
    """Found from the length where it tells, and on the way where it does not; told at once, as 4xx: clients send
    again after each 5xx, for a minute."""
    variables = full.json("workspace", "env")
    uri, signed = pending(full)
    context = ssl.create_default_context(cafile=variables["REQUESTS_CA_BUNDLE"])
    headers = {"x-ms-blob-type": "BlockBlob"}
    uploads = full.home / "uploads"
    with httpx.Client(verify=context, trust_env=False, timeout=60) as http:
        ballast = _fill(full, leave_bytes=6_000_000)
        try:
            known = http.put(f"{uri}/known?{signed}", content=b"x" * 9_000_000, headers=headers)
            assert (known.status_code, known.headers["x-ms-error-code"]) == (413, "AssetStoreFull")

            def pieces() -> Iterator[bytes]:
                yield b"x" * 1_000_000
                _fill_more(full)
                yield b"x" * 3_000_000

            length = {**headers, "content-length": "4000000"}
            found = http.put(f"{uri}/found?{signed}", content=pieces(), headers=length)
            assert (found.status_code, found.headers["x-ms-error-code"]) == (413, "AssetStoreFull")
            assert "df -h" in found.text and "retry-after" not in found.headers
            assert not list((uploads / "incoming").iterdir())
            assert full.score("full", 1).json == "fine"
        finally:
            ballast.unlink()
            (full.home / "ballast-more").unlink(missing_ok=True)
        for name in ("known", "found"):
            assert http.head(f"{uri}/{name}?{signed}").status_code == 404
            again = http.put(f"{uri}/{name}?{signed}", content=b"x" * 4_000_000, headers=headers)
            assert again.status_code == 201, again.text


def _fill_more(workspace: Any) -> None:
    with (workspace.home / "ballast-more").open("wb", buffering=0) as handle, contextlib.suppress(OSError):
        while True:
            handle.write(b"\0" * 65536)


def test_a_state_that_cannot_be_written(full: Any) -> None:
    ballast = _fill(full)
    acknowledged: list[str] = []
    failed = 0
    try:
        for n in range(40):  # pages the database has already may take a few
            done = full.moor("online-endpoint", "create", "-n", f"full-{n}", "--no-wait", check=False)
            if done.returncode == 0:
                acknowledged.append(f"full-{n}")
                continue
            failed += 1
            print(done.stderr)
            assert "(StateUnavailable" in done.stderr and "Fix:" in done.stderr, done.stderr
            assert CATALOGUE["StateUnavailable"].http_status == 507
            if failed == 2:
                break
        assert failed, "the disk was not full"
        assert full.score("full", 1).json == "fine"
    finally:
        ballast.unlink()
    full.moor("online-endpoint", "create", "-n", "full-after")
    names = [e["name"] for e in full.json("online-endpoint", "list")]
    assert sorted(names) == sorted(["full", "full-after", *acknowledged])
    assert full.score("full", 1).json == "fine"


def test_an_environment_that_does_not_fit(full: Any) -> None:
    (full.files / "more.yaml").write_text("dependencies:\n  - python=3.11\n  - pip: [packaging]\n")
    environment = {"image": "local/base", "conda_file": "more.yaml"}
    spec = full.spec("full", "env", full.script("full", GOOD), environment=environment)
    ballast = _fill(full, leave_bytes=600_000)
    try:
        _refused(full, "online-deployment", "create", "-f", str(spec), code="EnvironmentDiskFull")
        assert full.score("full", 1).json == "fine"
    finally:
        ballast.unlink()
    unfinished = [
        p
        for p in (full.home / "environments").iterdir()
        if len(p.name) == 16 and not (p / "meta.json").exists()
    ]
    assert not unfinished
    full.deploy(spec, verb="update")
    shown = full.json("online-deployment", "show", "-e", "full", "-n", "env")
    assert shown["provisioning_state"] == "Succeeded"
