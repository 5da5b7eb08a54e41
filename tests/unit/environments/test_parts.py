"""The smaller parts: the wheel of the server, the lock, the shelf, the bounded environment of the
installer.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from moorings.environments.installer import bounded, without_credentials
from moorings.environments.locked import build_key, parse_lock
from moorings.environments.server_wheel import ServerWheels, pack, package_files
from moorings.environments.shelf import Shelf
from moorings.lib import procs


def test_the_wheel_is_whole_and_the_same_every_time(tmp_path: Path) -> None:
    one = ServerWheels(tmp_path / "a").current()
    two = ServerWheels(tmp_path / "b").current()
    assert one.path.read_bytes() == two.path.read_bytes()
    assert hashlib.sha256(one.path.read_bytes()).hexdigest() == one.sha256

    with zipfile.ZipFile(one.path) as archive:
        names = archive.namelist()
        info = f"moorings_server-{one.version}.dist-info"
        record = list(csv.reader(io.StringIO(archive.read(f"{info}/RECORD").decode())))
        assert sorted(name for name, _, _ in record) == sorted(names)
        for name, digest, size in record:
            if digest:
                data = archive.read(name)
                expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, int(size)) == (f"sha256={expected}", len(data))
        assert b"Requires-Dist: httptools" in archive.read(f"{info}/METADATA")
    assert "moorings_server/contract.py" in names
    assert not any("__pycache__" in name for name in names)


def test_the_server_is_packed_without_being_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from moorings.environments.server_wheel import ServerWheels;"
        "ServerWheels(Path(sys.argv[1])).current();"
        "sys.exit('moorings_server' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_changed_file_is_another_wheel(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1\n")
    (package / "__pycache__" / "x.pyc").write_text("")
    before = pack(package_files(package))
    (package / "__init__.py").write_text("a = 2\n")
    after = pack(package_files(package))
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert [name for name, _ in package_files(package)] == ["moorings_server/__init__.py"]


LOCK = """\
numpy==2.3.1 \\
    --hash=sha256:bbb \\
    --hash=sha256:aaa
moorings-server @ file:///one/place/moorings_server-0.1.0-py3-none-any.whl \\
    --hash=sha256:ccc
"""


def key_of(text: str, **changed: str) -> str:
    given = {
        "server": "moorings-server",
        "server_sha256": "c",
        "python_version": "3.12.1",
        "platform": "linux",
    }
    return build_key(parse_lock(text), **{**given, **changed})


def test_the_build_key_holds_the_content_and_not_the_places() -> None:
    blocks = (
        LOCK.replace("bbb", "x").replace("aaa", "bbb").replace("x", "aaa").replace("/one/place/", "/other/")
    )
    head, server = blocks.split("moorings-server", 1)
    assert key_of("moorings-server" + server + head) == key_of(LOCK)
    assert key_of(LOCK.replace("2.3.1", "2.3.2")) != key_of(LOCK)
    assert key_of(LOCK.replace("aaa", "ddd")) != key_of(LOCK)
    for change in ({"server_sha256": "d"}, {"python_version": "3.12.2"}, {"platform": "mac"}):
        assert key_of(LOCK, **change) != key_of(LOCK)


def test_a_package_without_a_hash_is_noticed() -> None:
    assert parse_lock(LOCK).hashed
    assert not parse_lock(LOCK + "own @ git+https://host/own@0123\n").hashed


KEY = "0123456789abcdef"
RECIPE = "fedcba9876543210"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path / "environments")
    shelf.prepare()
    return shelf


def put(shelf: Shelf, key: str, *, python: str = sys.executable) -> None:
    (shelf.folder(key) / "bin").mkdir(parents=True)
    (shelf.folder(key) / "bin" / "python").symlink_to(python)
    meta = {
        "key": key,
        "recipe_key": RECIPE,
        "python_version": "3.12.1",
        "packages": {"six": "1"},
        "notes": [],
    }
    shelf.finish(key, meta)


def test_an_environment_is_complete_once_it_says_so(shelf: Shelf) -> None:
    put(shelf, KEY)
    shelf.remember(RECIPE, KEY)
    found = shelf.of_recipe(RECIPE)
    assert found is not None
    assert (found.key, found.packages) == (KEY, {"six": "1"})
    (shelf.folder(KEY) / "meta.json").unlink()
    assert shelf.of_recipe(RECIPE) is None


def test_an_environment_whose_python_was_removed_is_not_complete(shelf: Shelf, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch()
    put(shelf, KEY, python=str(python))
    assert shelf.complete(KEY) is not None
    python.unlink()
    assert shelf.complete(KEY) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe_key": 1}', "\x00"])
def test_damaged_notes_mean_not_complete(shelf: Shelf, text: str) -> None:
    put(shelf, KEY)
    (shelf.folder(KEY) / "meta.json").write_text(text)
    assert shelf.complete(KEY) is None
    (shelf.root / "recipes" / f"{RECIPE}.json").write_text(text)
    assert shelf.of_recipe(RECIPE) is None


def test_a_key_is_never_a_path(shelf: Shelf) -> None:
    (shelf.root / "recipes" / f"{RECIPE}.json").write_text(json.dumps({"key": "../../etc"}))
    assert shelf.of_recipe(RECIPE) is None
    assert shelf.log("../logs/x") is None
    assert shelf.log("*") is None


def test_sweep_removes_unfinished_environments_that_nobody_builds(shelf: Shelf) -> None:
    put(shelf, KEY)
    for number in (1, 2):
        (shelf.folder(f"{number}" * 16) / "lib").mkdir(parents=True)
    busy = procs.try_lock(shelf.lock("2" * 16))
    assert busy is not None
    assert shelf.sweep() == 1
    busy.release()
    assert sorted(path.name for path in shelf.root.iterdir() if path.name[0].isdigit()) == [KEY, "2" * 16]
    assert shelf.sweep() == 1


@pytest.mark.parametrize("folder", ["recipes", "logs"])
def test_sweep_removes_what_killed_writers_left(shelf: Shelf, folder: str) -> None:
    left = shelf.root / folder / ".k.requirements.lock.999999999-1-abc"
    left.touch()
    assert shelf.sweep() == 1
    assert not left.exists()


def test_logs_are_found_by_either_key_and_by_its_first_digits(shelf: Shelf) -> None:
    put(shelf, KEY)
    shelf.log_file(RECIPE).write_text("of the recipe")
    shelf.log_file("fedc000000000000").write_text("of another")
    assert shelf.log(RECIPE) == "of the recipe"
    assert shelf.log(KEY) == "of the recipe"
    assert shelf.log("0123") == "of the recipe"
    assert shelf.log("fedcb") == "of the recipe"
    assert shelf.log("fedc") is None
    assert shelf.log("ffff") is None


def test_the_installer_sees_indexes_and_proxies_and_no_secrets() -> None:
    seen = bounded(
        {
            "PATH": "/bin",
            "https_proxy": "http://proxy",
            "SSL_CERT_FILE": "/ca.pem",
            "UV_INDEX_URL": "https://mirror",
            "UV_SYSTEM_PYTHON": "1",
            "VIRTUAL_ENV": "/somewhere",
            "PYTHONPATH": "/evil",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "LC_ALL": "C",
        }
    )
    kept = {"PATH", "https_proxy", "SSL_CERT_FILE", "UV_INDEX_URL", "LC_ALL"}
    assert kept <= seen.keys()
    assert not seen.keys() & {"UV_SYSTEM_PYTHON", "VIRTUAL_ENV", "PYTHONPATH", "AWS_SECRET_ACCESS_KEY"}
    assert seen["MOORINGS_ROLE"] == "environment-builder"


def test_credentials_in_addresses_are_hidden() -> None:
    text = "Failed to fetch: https://user:pa%40ss@host/simple/ and git+ssh://token@host/x"
    assert without_credentials(text) == "Failed to fetch: https://***@host/simple/ and git+ssh://***@host/x"
    channel = "- url: https://host/t/se-cret/own/ and https://host/a/t/b"
    assert without_credentials(channel) == "- url: https://host/t/***/own/ and https://host/a/t/***"
    assert without_credentials("/t/x and file:///a/test/x") == "/t/x and file:///a/test/x"


def test_private_folders(shelf: Shelf) -> None:
    assert [oct(os.stat(path).st_mode & 0o777) for path in (shelf.root, shelf.root / "logs")] == [
        "0o700",
        "0o700",
    ]
