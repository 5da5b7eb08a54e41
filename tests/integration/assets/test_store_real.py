"""The store under real conditions: processes at once, a full disk, a kill, other users, large files."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from moorings.assets.store import AssetStore

INGEST = """
import resource, sys
from pathlib import Path
from moorings.assets.store import AssetStore
from moorings.errors.exceptions import MooringsError
root, source, limit, uid = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
if uid:
    import os
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
try:
    tree = AssetStore(root).ingest(source, keep_name=True, use_ignore=False)
    print(tree.digest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
except MooringsError as problem:
    print(problem.failure.code, *problem.failure.evidence, sep="|")
"""


def ingest(root: Path, source: Path, *, limit: int = 0, uid: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", INGEST, str(root), str(source), str(limit), str(uid)],
        stdout=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.strip()


def blobs(root: Path) -> list[Path]:
    return [path for path in (root / "objects").rglob("*") if path.is_file()]


def test_two_processes_take_in_the_same_folder_at_once(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for number in range(40):
        (source / f"part-{number}").write_bytes(os.urandom(200_000))
    running = [ingest(tmp_path / "store", source) for _ in range(3)]
    digests = {output(process).split()[0] for process in running}

    assert len(digests) == 1
    assert len(blobs(tmp_path / "store")) == 40
    store = AssetStore(tmp_path / "store")
    store.materialise(digests.pop(), tmp_path / "out", link=True)
    assert all(
        (tmp_path / "out" / "model" / path.name).read_bytes() == path.read_bytes()
        for path in source.iterdir()
    )
    assert list((tmp_path / "store" / "incoming").iterdir()) == []


def test_memory_stays_flat_for_a_large_file(tmp_path: Path) -> None:
    for name, size in (("small", 1000), ("large", 300_000_000)):
        with (tmp_path / name).open("wb") as handle:
            handle.truncate(size)
    small = int(output(ingest(tmp_path / "store", tmp_path / "small")).split()[1])
    large = int(output(ingest(tmp_path / "store", tmp_path / "large")).split()[1])
    assert large - small < 20_000, f"{small} kB became {large} kB"


def test_out_of_space_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails half-way in the same manner."""
    source = tmp_path / "model"
    source.mkdir()
    (source / "a").write_bytes(b"a" * 10_000)
    (source / "b").write_bytes(os.urandom(3_000_000))
    answer = output(ingest(tmp_path / "store", source, limit=1_000_000))

    assert answer.startswith("AssetStoreFull|")
    assert "free" in answer
    assert list((tmp_path / "store" / "incoming").iterdir()) == []
    assert not (tmp_path / "store" / "trees").exists()
    digest = output(ingest(tmp_path / "store", source)).split()[0]
    assert AssetStore(tmp_path / "store").exists(digest)


def test_a_killed_process_leaves_only_what_sweep_removes(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as handle:
        handle.truncate(4_000_000_000)
    process = ingest(tmp_path / "store", tmp_path / "large")
    incoming = tmp_path / "store" / "incoming"
    deadline = time.monotonic() + 30
    while not any(incoming.glob("*/*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)

    assert any(incoming.glob("*/*")), "the kill came too late to prove anything"
    assert not (tmp_path / "store" / "trees").exists()
    assert AssetStore(tmp_path / "store").sweep() == 1
    assert list(incoming.iterdir()) == []
    assert not (tmp_path / "store" / "objects").exists()


def test_files_without_the_right_to_read_are_each_named() -> None:
    with tempfile.TemporaryDirectory() as base:
        source = Path(base) / "model"
        source.mkdir()
        for name in ("one", "two", "three"):
            (source / name).write_text(name)
        (source / "one").chmod(0)
        (source / "two").chmod(0)
        nobody = 0
        if os.getuid() == 0:
            # Root may read everything, so somebody else has to try.
            nobody = 65534
            Path(base).chmod(0o755)
            (Path(base) / "store").mkdir()
            os.chown(Path(base) / "store", nobody, nobody)
        answer = output(ingest(Path(base) / "store", source, uid=nobody))
    assert answer.split("|") == ["AssetUnreadable", "one: permission denied", "two: permission denied"]


def test_the_initializer_as_a_process_reports_a_full_disk(tmp_path: Path) -> None:
    source = tmp_path / "code"
    source.mkdir()
    (source / "big.bin").write_bytes(os.urandom(2_000_000))
    tree = AssetStore(tmp_path / "store").ingest(source, keep_name=False, use_ignore=True)
    plan = tmp_path / "plan.json"
    target = tmp_path / "instance" / "app"
    code = {"digest": tree.digest, "target": str(target)}
    plan.write_text(json.dumps({"store": str(tmp_path / "store"), "code": code, "model": None}))

    def run(limit: int | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "moorings.assets.initializer", str(plan)],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=None
            if limit is None
            else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )

    full = run(1_000_000)
    assert full.returncode == 4
    assert full.stdout.splitlines()[-1].startswith("ERROR ArtifactsNoSpace: ")
    assert full.stderr == ""
    assert list(target.parent.iterdir()) == []
    fine = run(None)
    assert fine.returncode == 0
    assert (target / "big.bin").stat().st_size == 2_000_000
