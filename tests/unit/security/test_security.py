"""Folders that hold secrets, and secrets at rest."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.errors.exceptions import MooringsError
from moorings.security.folders import private
from moorings.security.vault import Vault, new_key


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refused(path: Path) -> MooringsError:
    with pytest.raises(MooringsError) as caught:
        private(path)
    assert caught.value.failure.code == "FolderNotPrivate"
    assert str(path) in caught.value.failure.fix
    return caught.value


def test_a_folder_is_made_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert private(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    finally:
        os.umask(before)
    assert mode(tmp_path / "a" / "b") == 0o700


@pytest.mark.parametrize("wide", [0o755, 0o770, 0o707, 0o701])
def test_a_folder_that_others_may_look_into_is_closed(tmp_path: Path, wide: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(wide)
    private(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o700


def test_a_link_to_a_folder_is_refused_and_the_folder_left_alone(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real").chmod(0o755)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    refused(tmp_path / "link")
    assert mode(tmp_path / "real") == 0o755


def test_a_file_a_dangling_link_and_a_place_below_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "file", tmp_path / "dangling", tmp_path / "file" / "below"):
        refused(path)
    assert not (tmp_path / "nowhere").exists()


def test_somebody_elses_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    before, mine = mode(tmp_path / "a"), os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    assert f"owner uid {mine}" in refused(tmp_path / "a").failure.evidence[0]
    assert mode(tmp_path / "a") == before


def test_secrets_come_back_and_are_not_to_be_seen(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "secret.key")
    stored = vault.encrypt("hunter2")
    assert "hunter2" not in stored
    assert vault.encrypt("hunter2") != stored
    assert Vault(tmp_path / "secret.key").decrypt(stored) == "hunter2"


@given(st.text())
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    vault = Vault(tmp_path_factory.getbasetemp() / "any.key")
    assert vault.decrypt(vault.encrypt(text)) == text


def test_the_key_file_is_for_its_owner_only_and_made_once(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Vault(tmp_path / "secret.key").encrypt("x")
    finally:
        os.umask(before)
    assert mode(tmp_path / "secret.key") == 0o600
    content = (tmp_path / "secret.key").read_bytes()
    Vault(tmp_path / "secret.key").encrypt("y")
    assert (tmp_path / "secret.key").read_bytes() == content


def test_another_key_file_is_a_coded_failure(tmp_path: Path) -> None:
    stored = Vault(tmp_path / "one.key").encrypt("x")
    with pytest.raises(MooringsError) as caught:
        Vault(tmp_path / "two.key").decrypt(stored)
    assert caught.value.failure.code == "VaultKeyMismatch"


@pytest.mark.parametrize("content", [b"", b"not a key", b"\xff" * 44])
def test_a_damaged_key_file_is_a_coded_failure_and_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret.key").write_bytes(content)
    for use in (lambda v: v.encrypt("x"), lambda v: v.decrypt("x")):
        with pytest.raises(MooringsError) as caught:
            use(Vault(tmp_path / "secret.key"))
        assert caught.value.failure.code == "VaultKeyMismatch"
    assert (tmp_path / "secret.key").read_bytes() == content


def test_threads_that_use_it_first_at_once_use_one_key(tmp_path: Path) -> None:
    vault, stored = Vault(tmp_path / "secret.key"), []
    gate = threading.Barrier(8)

    def use() -> None:
        gate.wait()
        stored.append(vault.encrypt("x"))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [Vault(tmp_path / "secret.key").decrypt(s) for s in stored] == ["x"] * 8


def test_keys_are_long_different_and_fit_into_a_header() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(k) >= 43 and k.isascii() and not set(k) & set(" \"'\\,;=\n") for k in keys)


def test_a_key_never_begins_like_a_flag() -> None:
    assert all(new_key()[0].isalnum() for _ in range(2000))
