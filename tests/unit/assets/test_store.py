from __future__ import annotations

import errno
import hashlib
import os
import random
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorings.assets import copying
from moorings.assets import store as store_module
from moorings.assets.intake import list_folder
from moorings.assets.store import AssetStore
from moorings.errors.exceptions import MooringsError


@pytest.fixture
def store(tmp_path: Path) -> AssetStore:
    return AssetStore(tmp_path / "home" / "assets", home=tmp_path / "home")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "m.pkl").write_bytes(b"weights")
    (folder / "sub" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (folder / "sub" / "run.sh").chmod(0o755)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def code_of(call: pytest.ExceptionInfo[MooringsError]) -> str:
    return call.value.failure.code


def leftovers(store: AssetStore) -> list[Path]:
    return list((store.root / "incoming").iterdir()) if (store.root / "incoming").exists() else []


def test_a_folder_kept_with_its_name_lies_below_that_name(
    store: AssetStore, source: Path, tmp_path: Path
) -> None:
    tree = store.ingest(source, keep_name=True, use_ignore=False)
    store.materialise(tree.digest, tmp_path / "out", link=True)

    assert contents(tmp_path / "out") == {"model/m.pkl": b"weights", "model/sub/run.sh": b"#!/bin/sh\n"}
    assert (tree.name, tree.is_file, tree.size_bytes) == ("model", False, 17)
    assert store.tree(tree.digest) == tree


def test_a_single_file_keeps_its_name(store: AssetStore, source: Path, tmp_path: Path) -> None:
    tree = store.ingest(source / "m.pkl", keep_name=True, use_ignore=False)
    store.materialise(tree.digest, tmp_path / "out", link=True)

    assert contents(tmp_path / "out") == {"m.pkl": b"weights"}
    assert tree.is_file


def test_code_lies_at_the_top_and_may_be_written_to(store: AssetStore, source: Path, tmp_path: Path) -> None:
    tree = store.ingest(source, keep_name=False, use_ignore=True)
    out = tmp_path / "out"
    store.materialise(tree.digest, out, link=False)
    (out / "m.pkl").write_bytes(b"changed")

    assert os.access(out / "sub" / "run.sh", os.X_OK)
    assert not stat.S_IMODE((out / "m.pkl").stat().st_mode) & 0o111
    again = tmp_path / "again"
    store.materialise(tree.digest, again, link=False)
    assert (again / "m.pkl").read_bytes() == b"weights"


def test_links_share_the_bytes_with_the_store(store: AssetStore, source: Path, tmp_path: Path) -> None:
    tree = store.ingest(source, keep_name=True, use_ignore=False)
    store.materialise(tree.digest, tmp_path / "out", link=True)
    blob = store.blob(hashlib.sha256(b"weights").hexdigest())

    assert (tmp_path / "out" / "model" / "m.pkl").samefile(blob)
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    # The mode belongs to the content and not to the name: an executable file has to be a copy.
    assert os.access(tmp_path / "out" / "model" / "sub" / "run.sh", os.X_OK)


def test_the_same_content_is_stored_once_and_has_one_digest(
    store: AssetStore, source: Path, tmp_path: Path
) -> None:
    first = store.ingest(source, keep_name=False, use_ignore=False)
    copy = tmp_path / "other"
    (copy / "sub").mkdir(parents=True)
    (copy / "m.pkl").write_bytes(b"weights")
    (copy / "sub" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (copy / "sub" / "run.sh").chmod(0o700)
    (copy / "twin.pkl").write_bytes(b"weights")

    assert store.ingest(copy, keep_name=False, use_ignore=False).digest != first.digest
    (copy / "twin.pkl").unlink()
    assert store.ingest(copy, keep_name=False, use_ignore=False).digest == first.digest
    assert len([path for path in (store.root / "objects").rglob("*") if path.is_file()]) == 2


def test_a_changed_mode_is_another_tree(store: AssetStore, source: Path) -> None:
    before = store.ingest(source, keep_name=False, use_ignore=False)
    (source / "m.pkl").chmod(0o755)
    assert store.ingest(source, keep_name=False, use_ignore=False).digest != before.digest


def test_an_empty_folder_is_taken_with_a_note(store: AssetStore, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    tree = store.ingest(tmp_path / "nothing", keep_name=True, use_ignore=False)
    store.materialise(tree.digest, tmp_path / "out", link=True)

    assert any("no files" in note for note in tree.notes)
    assert (tmp_path / "out" / "nothing").is_dir()


def test_materialise_replaces_what_was_there(store: AssetStore, source: Path, tmp_path: Path) -> None:
    tree = store.ingest(source, keep_name=False, use_ignore=False)
    out = tmp_path / "out"
    out.mkdir()
    (out / "stale").write_text("old")
    (tmp_path / ".out.deadbeef.partial").mkdir()
    store.materialise(tree.digest, out, link=False)

    assert set(contents(out)) == {"m.pkl", "sub/run.sh"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_missing_and_damaged_content_is_named_and_the_target_stays(
    store: AssetStore, source: Path, tmp_path: Path
) -> None:
    tree = store.ingest(source, keep_name=False, use_ignore=False)
    out = tmp_path / "out"
    store.materialise(tree.digest, out, link=False)
    blob = store.blob(hashlib.sha256(b"weights").hexdigest())
    blob.unlink()
    with pytest.raises(MooringsError) as caught:
        store.materialise(tree.digest, out, link=False)

    assert code_of(caught) == "ArtifactsUnavailable"
    assert any("m.pkl" in line for line in caught.value.failure.evidence)
    assert (out / "m.pkl").read_bytes() == b"weights"

    blob.write_bytes(b"weigh")
    with pytest.raises(MooringsError) as caught:
        store.materialise(tree.digest, out, link=False)
    assert any("5 bytes instead of 7" in line for line in caught.value.failure.evidence)
    # Taking the same content in once more repairs it.
    store.ingest(source, keep_name=False, use_ignore=False)
    store.materialise(tree.digest, out, link=False)


def test_a_manifest_that_was_tampered_with_is_not_used(
    store: AssetStore, source: Path, tmp_path: Path
) -> None:
    tree = store.ingest(source, keep_name=False, use_ignore=False)
    manifest = store.manifest(tree.digest)
    data = manifest.read_bytes()
    manifest.chmod(0o600)
    manifest.write_bytes(data.replace(b"m.pkl", b"n.pkl"))
    with pytest.raises(MooringsError) as caught:
        store.tree(tree.digest)
    assert code_of(caught) == "ArtifactsUnavailable"
    manifest.write_bytes(data.replace(b"sub/run.sh", b"../../x.sh"))
    with pytest.raises(MooringsError) as caught:
        store.materialise(tree.digest, tmp_path / "out", link=False)
    assert code_of(caught) == "ArtifactsUnavailable"


def test_an_unknown_tree_is_a_coded_error(store: AssetStore, tmp_path: Path) -> None:
    assert not store.exists("0" * 64)
    with pytest.raises(MooringsError) as caught:
        store.materialise("0" * 64, tmp_path / "out", link=True)
    assert code_of(caught) == "ArtifactsUnavailable"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("leads", ["../outside.txt", "/etc/hostname", "../missing"])
def test_links_out_of_the_folder_are_refused(
    store: AssetStore, source: Path, tmp_path: Path, leads: str
) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    (source / "sub" / "link").symlink_to(leads if leads.startswith("/") else f"../{leads}")
    with pytest.raises(MooringsError) as caught:
        store.ingest(source, keep_name=True, use_ignore=False)

    assert code_of(caught) == "AssetLinkEscapes"
    assert any("sub/link" in line for line in caught.value.failure.evidence)
    assert not (store.root / "trees").exists()


def test_a_link_that_leaves_through_another_link_is_refused(
    store: AssetStore, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("secret")
    (source / "hop").symlink_to("hop2/secret")
    (source / "hop2").symlink_to("../elsewhere")
    with pytest.raises(MooringsError) as caught:
        store.ingest(source, keep_name=True, use_ignore=False)
    assert code_of(caught) == "AssetLinkEscapes"
    assert len(caught.value.failure.evidence) == 2


def test_links_inside_are_stored_as_what_they_lead_to(
    store: AssetStore, source: Path, tmp_path: Path
) -> None:
    (source / "latest").symlink_to("m.pkl")
    (source / "folder").symlink_to(source / "sub")
    tree = store.ingest(source, keep_name=False, use_ignore=False)
    store.materialise(tree.digest, tmp_path / "out", link=False)

    assert contents(tmp_path / "out")["latest"] == b"weights"
    assert contents(tmp_path / "out")["folder/run.sh"] == b"#!/bin/sh\n"
    assert not (tmp_path / "out" / "latest").is_symlink()


def test_a_source_that_is_a_link_itself_is_followed(store: AssetStore, source: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(source)
    tree = store.ingest(tmp_path / "current", keep_name=True, use_ignore=False)
    assert [entry.path for entry in tree.files] == ["current/m.pkl", "current/sub/run.sh"]


@pytest.mark.parametrize("leads", ["nowhere", "link", "..", "../sub"])
def test_dangling_and_looping_links_are_refused(store: AssetStore, source: Path, leads: str) -> None:
    (source / "sub" / "link").symlink_to(leads)
    with pytest.raises(MooringsError) as caught:
        store.ingest(source, keep_name=True, use_ignore=False)
    assert code_of(caught) == "AssetLinkBroken"


def test_pipes_and_sockets_are_refused_and_every_problem_is_named(
    store: AssetStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(source / "pipe")
    monkeypatch.chdir(source)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        (source / "gone").symlink_to("nowhere")
        with pytest.raises(MooringsError) as caught:
            store.ingest(source, keep_name=True, use_ignore=False)

    by_code = {detail.code: detail.evidence for detail in caught.value.failure.details}
    assert by_code["AssetNotAFile"] == ("pipe: a pipe", "sock: a socket")
    assert by_code["AssetLinkBroken"] == ("gone: -> nowhere",)


@pytest.mark.parametrize("where", ["home", "home/assets", "."])
def test_the_workspace_folder_is_no_source(store: AssetStore, tmp_path: Path, where: str) -> None:
    (tmp_path / "home" / "assets").mkdir(parents=True)
    with pytest.raises(MooringsError) as caught:
        store.ingest(tmp_path / where, keep_name=True, use_ignore=False)
    assert code_of(caught) == "AssetInsideHome"


def test_a_name_with_nul_is_no_source(store: AssetStore) -> None:
    with pytest.raises(MooringsError) as caught:
        store.ingest(Path("/tmp/a\0b"), keep_name=True, use_ignore=False)
    assert code_of(caught) == "AssetSourceMissing"


def test_a_link_that_goes_while_it_is_looked_at_is_refused(
    store: AssetStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "link").symlink_to("m.pkl")

    def gone(path: Path) -> Path:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "readlink", gone)
    monkeypatch.setattr(Path, "resolve", lambda self, strict=False: self if self == source else gone(self))
    with pytest.raises(MooringsError) as caught:
        list_folder(source, use_ignore=False)
    assert code_of(caught) == "AssetLinkBroken"


def test_a_missing_source_is_named(store: AssetStore, tmp_path: Path) -> None:
    with pytest.raises(MooringsError) as caught:
        store.ingest(tmp_path / "nope", keep_name=True, use_ignore=False)
    assert code_of(caught) == "AssetSourceMissing"
    assert str(tmp_path / "nope") in caught.value.failure.message


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names_of(store: AssetStore, folder: Path, *, use_ignore: bool = True) -> set[str]:
    return {entry.path for entry in store.ingest(folder, keep_name=False, use_ignore=use_ignore).files}


def test_amlignore_wins_over_gitignore(store: AssetStore, tmp_path: Path) -> None:
    code = tmp_path / "code"
    make(code, "score.py", "data/big.csv", "data/keep.csv", "notes.md", "sub/notes.md")
    (code / ".gitignore").write_text("score.py\n")
    assert names_of(store, code) == {
        ".gitignore",
        "data/big.csv",
        "data/keep.csv",
        "notes.md",
        "sub/notes.md",
    }
    (code / ".amlignore").write_text("# sizes\ndata/*\n!data/keep.csv\n/notes.md\n")
    assert names_of(store, code) == {".amlignore", ".gitignore", "score.py", "data/keep.csv", "sub/notes.md"}


def test_an_ignored_folder_is_not_looked_into(store: AssetStore, tmp_path: Path) -> None:
    code = tmp_path / "code"
    make(code, "score.py")
    (code / "venv").mkdir()
    (code / "venv" / "python").symlink_to("/usr/bin/env")
    (code / ".amlignore").write_text("venv/\n")
    assert names_of(store, code) == {"score.py", ".amlignore"}


def test_git_and_bytecode_are_always_left_out_and_counted(store: AssetStore, tmp_path: Path) -> None:
    code = tmp_path / "code"
    make(code, "score.py", ".git/HEAD", "__pycache__/score.cpython-312.pyc", "sub/x.pyc", "sub/y.py")
    tree = store.ingest(code, keep_name=False, use_ignore=False)
    assert {entry.path for entry in tree.files} == {"score.py", "sub/y.py"}
    assert any(note.startswith("3 files or folders") for note in tree.notes)


def test_ignore_files_of_a_model_do_not_count(store: AssetStore, tmp_path: Path) -> None:
    make(tmp_path / "model", "m.pkl")
    (tmp_path / "model" / ".gitignore").write_text("*.pkl\n")
    assert names_of(store, tmp_path / "model", use_ignore=False) == {".gitignore", "m.pkl"}


def test_a_file_that_keeps_changing_is_refused(
    store: AssetStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store_module.copy_file
    reads = 0

    def changing(found, copy, tell):  # type: ignore[no-untyped-def]
        nonlocal reads
        reads += 1
        original = os.fstat
        try:
            monkeypatch.setattr(os, "fstat", lambda fd: _grow(source / "m.pkl", original, fd))
            return real(found, copy, tell)
        finally:
            monkeypatch.setattr(os, "fstat", original)

    monkeypatch.setattr(store_module, "copy_file", changing)
    with pytest.raises(MooringsError) as caught:
        store.ingest(source / "m.pkl", keep_name=True, use_ignore=False)
    assert code_of(caught) == "AssetChanging"
    assert reads == 3
    assert leftovers(store) == []


def _grow(path: Path, fstat, fd: int) -> os.stat_result:  # type: ignore[no-untyped-def]
    info: os.stat_result = fstat(fd)
    with path.open("ab") as handle:
        handle.write(b"more")
    return info


def test_a_file_that_changed_once_is_read_again(
    store: AssetStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store_module.copy_file
    outcomes: list[object] = []

    def once(found, copy, tell):  # type: ignore[no-untyped-def]
        result = real(found, copy, tell)
        outcomes.append(result)
        return None if len(outcomes) == 1 else result

    monkeypatch.setattr(store_module, "copy_file", once)
    tree = store.ingest(source / "m.pkl", keep_name=True, use_ignore=False)
    assert len(outcomes) == 2
    assert tree.files[0].size_bytes == 7


def test_progress_ends_at_the_total(store: AssetStore, source: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    store.ingest(source, keep_name=True, use_ignore=False, progress=lambda *step: seen.append(step))
    assert seen[-1] == (17, 17, "sub/run.sh")
    assert seen == sorted(seen)


def test_sweep_removes_what_nobody_holds_and_only_that(store: AssetStore, source: Path) -> None:
    store.ingest(source, keep_name=True, use_ignore=False)
    incoming = store.root / "incoming"
    (incoming / "dead").mkdir()
    (incoming / "dead" / "half").write_text("half")
    (incoming / "dead.lock").touch()
    (incoming / "older").mkdir()
    with store._incoming() as busy:
        (busy / "file").write_text("under way")
        assert store.sweep() == 2
        assert (busy / "file").exists()
    assert leftovers(store) == []
    assert store.sweep() == 0


names = st.binary(min_size=1, max_size=12).filter(
    lambda raw: (
        b"/" not in raw
        and b"\0" not in raw
        and raw not in (b".", b"..", b".git", b"__pycache__")
        and not raw.endswith(b".pyc")
    )
)
layouts = st.recursive(
    st.tuples(st.binary(max_size=64), st.booleans()),
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
).filter(lambda node: isinstance(node, dict))


def _write(folder: bytes, node: dict[bytes, object]) -> None:
    os.mkdir(folder)
    for name, child in node.items():
        path = folder + b"/" + name
        if isinstance(child, dict):
            _write(path, child)
        else:
            content, executable = child  # type: ignore[misc]
            with open(path, "wb") as handle:
                handle.write(content)
            os.chmod(path, 0o755 if executable else 0o644)


def _read(folder: bytes) -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            found[entry.name] = _read(entry.path)
        else:
            with open(entry.path, "rb") as handle:
                found[entry.name] = (handle.read(), os.access(entry.path, os.X_OK))
    return found


@given(layout=layouts, link=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tree_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, layout: dict[bytes, object], link: bool
) -> None:
    base = tmp_path_factory.mktemp("trip")
    _write(os.fsencode(base / "source"), layout)
    store = AssetStore(base / "store")
    tree = store.ingest(base / "source", keep_name=False, use_ignore=False)
    store.materialise(tree.digest, base / "target", link=link)

    assert _read(os.fsencode(base / "target")) == layout
    assert store.tree(tree.digest).files == tree.files
    again = store.ingest(base / "target", keep_name=False, use_ignore=False)
    assert again.digest == tree.digest


def held(store: AssetStore) -> set[str]:
    """What is stored: names of blobs and manifests."""
    return {
        path.name
        for part in ("objects", "trees")
        for path in (store.root / part).rglob("*")
        if path.is_file()
    }


def test_what_nobody_has_is_discarded_with_its_own_blobs_only(
    store: AssetStore, source: Path, tmp_path: Path
) -> None:
    kept = store.ingest(source, keep_name=True, use_ignore=False)
    before = held(store)
    (source / "extra").write_bytes(b"extra")
    gone = store.ingest(source, keep_name=True, use_ignore=False)

    assert not store.discard(gone.digest, unless=lambda digest: True)
    with store.using():
        assert not store.discard(gone.digest, unless=lambda digest: False)
    assert store.exists(gone.digest)
    assert store.discard(gone.digest, unless=lambda digest: digest == kept.digest)
    assert held(store) == before
    store.materialise(kept.digest, tmp_path / "out", link=True)


def test_a_start_sweeps_content_that_nobody_has(store: AssetStore, source: Path) -> None:
    kept = store.ingest(source, keep_name=True, use_ignore=False)
    before = held(store)
    (source / "extra").write_bytes(b"extra")
    store.ingest(source, keep_name=True, use_ignore=False)
    stray = store.blob("ab" * 32)
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"the daemon was killed before the manifest was written")

    assert store.sweep() == 0
    assert store.sweep(lambda digest: True) == 0, "without a sign of a kill nothing is searched"
    assert store.sweep(lambda digest: digest == kept.digest) == 3
    assert held(store) == before
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"once more, with the scratch folder that such a kill leaves")
    (store.root / "incoming" / "dead").mkdir()
    assert store.sweep(lambda digest: True) == 2
    assert held(store) == before
    store.manifest(kept.digest).chmod(0o600)
    store.manifest(kept.digest).write_bytes(b"damaged")
    assert store.sweep(lambda digest: True) == 0, "blobs stay where it is not known what they are of"


def test_a_failure_half_way_leaves_no_blob(store: AssetStore, source: Path) -> None:
    """Files that were taken before the one that fails are not kept either."""

    def progress(done_bytes: int, total_bytes: int, file: str) -> None:
        if file == "sub/run.sh":
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MooringsError) as caught:
        store.ingest(source, keep_name=True, use_ignore=False, progress=progress)
    assert code_of(caught) == "AssetStoreFull"
    assert held(store) == set()
    assert leftovers(store) == []


def test_what_cannot_fit_is_refused_before_it_is_read(
    store: AssetStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "free_bytes", lambda path: 16)
    monkeypatch.setattr(store_module, "copy_file", lambda *_: pytest.fail("it was read"))
    with pytest.raises(MooringsError) as caught:
        store.ingest(source, keep_name=True, use_ignore=False)
    assert code_of(caught) == "AssetStoreFull"
    assert caught.value.failure.evidence[-1] == "the asset has 17 B, free 16 B"


@pytest.mark.parametrize(
    "size_bytes", [0, 1, copying.CHUNK_BYTES - 1, copying.CHUNK_BYTES, 3 * copying.CHUNK_BYTES + 5]
)
def test_a_copy_is_its_source_whatever_the_size(store: AssetStore, tmp_path: Path, size_bytes: int) -> None:
    data = random.Random(size_bytes).randbytes(size_bytes)
    (tmp_path / "m.bin").write_bytes(data)
    tree = store.ingest(tmp_path / "m.bin", keep_name=True, use_ignore=False)
    assert tree.files[0].sha256 == hashlib.sha256(data).hexdigest()
    assert store.blob(tree.files[0].sha256).read_bytes() == data


def test_a_large_file_that_is_stored_is_not_copied_again(
    store: AssetStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LARGE_BYTES", 7)
    first = store.ingest(source, keep_name=True, use_ignore=False)
    real, copied = store_module.copy_file, []

    def noted(found, copy, tell):  # type: ignore[no-untyped-def]
        copied.append(found.path)
        return real(found, copy, tell)

    monkeypatch.setattr(store_module, "copy_file", noted)
    seen: list[tuple[int, int, str]] = []
    again = store.ingest(source, keep_name=True, use_ignore=False, progress=lambda *step: seen.append(step))
    assert (again.digest, copied) == (first.digest, [])
    assert seen[-1][:2] == (17, 17)
    (source / "m.pkl").write_bytes(b"WEIGHTS")  # as large, and other content
    other = store.ingest(source, keep_name=True, use_ignore=False)
    assert copied == ["m.pkl"]
    store.materialise(other.digest, tmp_path / "out", link=True)
    assert (tmp_path / "out" / "model" / "m.pkl").read_bytes() == b"WEIGHTS"
