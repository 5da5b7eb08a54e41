"""Pruning: what is kept, what goes, and nobody who asks at the same moment is given what goes."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

from moorings.environments.inventory import Inventory
from moorings.environments.leases import LEASE_S, Leases
from moorings.environments.shelf import Shelf, sizes
from moorings.lib import procs

KEYS = ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb")
RECIPE = "cccccccccccccccc"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path / "environments")
    shelf.prepare()
    for key in KEYS:
        put(shelf, key)
    return shelf


def put(shelf: Shelf, key: str, recipe: str = RECIPE) -> None:
    (shelf.folder(key) / "bin").mkdir(parents=True)
    (shelf.folder(key) / "bin" / "python").symlink_to(sys.executable)
    (shelf.folder(key) / "data").write_bytes(b"x" * 1000)
    shelf.finish(key, {"recipe_key": recipe, "python_version": "3.12.1", "packages": {"a": "1"}, "notes": []})
    shelf.remember(recipe, key)


def test_only_what_nobody_uses_is_removed(shelf: Shelf) -> None:
    inventory = Inventory(shelf, Leases())
    used = {KEYS[0]: ["shop/blue"]}
    kept, gone = inventory.prune(lambda: used, dry_run=False)
    assert (kept.key, kept.removed, kept.reason, kept.used_by) == (KEYS[0], False, "in use", ("shop/blue",))
    assert (gone.key, gone.removed, gone.reason) == (KEYS[1], True, "")
    assert gone.freed_bytes > 1000
    assert not shelf.folder(KEYS[1]).exists()
    assert shelf.complete(KEYS[0]) is not None
    assert shelf.of_recipe(RECIPE) is None, "the recipe led to what is gone"
    assert [one.key for one in inventory.prune(lambda: used, dry_run=False)] == [KEYS[0]]


def test_the_files_of_a_recipe_that_is_being_built_again_stay(shelf: Shelf) -> None:
    shelf.requirements(RECIPE).write_text("six\n")
    held = procs.try_lock(shelf.lock(RECIPE))
    assert held is not None
    Inventory(shelf, Leases()).prune(dict, dry_run=False)
    assert shelf.complete(KEYS[1]) is None
    assert shelf.requirements(RECIPE).exists(), "the installer is about to read it"
    held.release()
    put(shelf, KEYS[1])
    Inventory(shelf, Leases()).prune(dict, dry_run=False)
    assert not shelf.requirements(RECIPE).exists()


def test_a_dry_run_removes_nothing(shelf: Shelf) -> None:
    fates = Inventory(shelf, Leases()).prune(dict, dry_run=True)
    assert [(one.removed, one.reason) for one in fates] == [(False, "")] * 2
    assert all(shelf.complete(key) is not None for key in KEYS)


def test_what_is_leased_or_locked_is_kept(shelf: Shelf) -> None:
    leases = Leases()
    leases.take(KEYS[0])
    held = procs.try_lock(shelf.lock(KEYS[1]))
    assert held is not None
    fates = Inventory(shelf, leases).prune(dict, dry_run=False)
    assert ["given to a deployment" in fates[0].reason, "being built" in fates[1].reason] == [True, True]
    held.release()
    leases.release(KEYS[0])
    assert all(one.removed for one in Inventory(shelf, leases).prune(dict, dry_run=False))


def test_a_lease_ends_by_itself_and_is_counted() -> None:
    now = [0.0]
    leases = Leases(lambda: now[0])
    leases.take("a")
    leases.take("a")
    leases.release("a")
    assert leases.held("a")
    now[0] = LEASE_S + 1
    assert not leases.held("a")
    leases.release("a")
    leases.release("a")
    assert not leases.held("a")


def test_what_is_linked_from_elsewhere_frees_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"x" * 500)
    folder = tmp_path / "environment"
    folder.mkdir()
    (folder / "linked").hardlink_to(tmp_path / "cache")
    (folder / "own").write_bytes(b"y" * 70)
    assert sizes(folder) == (570, 70)


def test_an_environment_is_found_by_any_of_its_keys(shelf: Shelf) -> None:
    inventory = Inventory(shelf, Leases())
    shelf.remember("dddddddddddddddd", KEYS[0])
    shelf.keep_locks(RECIPE, {"requirements.lock": "six==1.17.0\n"})
    for key in (KEYS[0], KEYS[0][:4], "dddddddddddddddd", "dddd"):
        found = inventory.find(key)
        assert found is not None and found.complete.key == KEYS[0]
    assert found.locks == {"requirements.lock": "six==1.17.0\n"}
    assert found.recipe_keys == (RECIPE, "dddddddddddddddd")
    assert found.complete.size_bytes > 1000
    assert [inventory.find(key) for key in ("aaa", "eeee", "../x", "")] == [None] * 4


def test_whoever_asks_while_it_is_pruned_gets_it_whole_or_not_at_all(shelf: Shelf, tmp_path: Path) -> None:
    """A thread does what a build does that finds something kept: look and lease in one step, then write down that it
    is used, then give the lease back. Whatever it was given must still be there."""
    leases, used, lost = Leases(), {}, []
    stop = threading.Event()

    def asks() -> None:
        while not stop.is_set():
            with leases.guard:
                kept = shelf.of_recipe(RECIPE)
                if kept is not None:
                    leases.take(kept.key)
            if kept is None:
                continue
            used[kept.key] = ["shop/blue"]
            leases.release(kept.key)
            if shelf.complete(kept.key) is None:
                lost.append(kept.key)
            del used[kept.key]

    thread = threading.Thread(target=asks)
    thread.start()
    removed = 0
    try:
        for turn in range(60):
            key = f"{turn:016x}"
            put(shelf, key)
            fates = Inventory(shelf, leases).prune(lambda: dict(used), dry_run=False)
            removed += sum(one.removed for one in fates)
    finally:
        stop.set()
        thread.join()
    assert lost == []
    assert removed > 20


def test_a_torn_meta_file_is_no_environment(shelf: Shelf) -> None:
    (shelf.folder(KEYS[0]) / "meta.json").write_text(json.dumps({"recipe_key": RECIPE, "seconds": "soon"}))
    assert [one.complete.key for one in Inventory(shelf, Leases()).builds()] == [KEYS[1]]
