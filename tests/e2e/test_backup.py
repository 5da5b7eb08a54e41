"""A workspace that serves is backed up, made anew elsewhere from the file, and serves the same there."""

from __future__ import annotations

import stat
import threading
import time
from typing import Any

CODE = """
import os
from pathlib import Path
def init():
    global words
    words = next(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("words.txt")).read_text()
def run(data):
    return [words, os.environ["PLAIN"], os.environ["HIDDEN"]]
"""


def test_a_serving_workspace_comes_up_again_from_its_backup(new_workspace: Any, postgres: Any) -> None:
    """With its state in a file before, and in PostgreSQL afterwards."""
    shop = new_workspace()
    (shop.files / "model").mkdir()
    (shop.files / "model" / "words.txt").write_text("learned once")
    (shop.files / "secret").write_text("from the vault")
    shop.moor("keyvault", "secret", "set", "--vault-name", "local", "-n", "s", "--file", "secret")
    (shop.files / "shop.yml").write_text("name: shop\nauth_mode: key\n")
    shop.moor("online-endpoint", "create", "-f", "shop.yml")
    role = ("--role", "Key Vault Secrets User")
    shop.moor("role", "assignment", "create", "--assignee", "shop", "--scope", "keyvault/local", *role)
    spec = shop.spec(
        "shop",
        "blue",
        shop.script("code", CODE),
        model={"path": "model"},
        environment_variables={
            "PLAIN": "as it is",
            "HIDDEN": "${{keyvault:https://local.vault.azure.net/secrets/s}}",
        },
    )
    shop.deploy(spec)
    shop.moor("online-endpoint", "update", "-n", "shop", "--traffic", "blue=100")
    key, expected = shop.key("shop"), ["learned once", "as it is", "from the vault"]
    assert shop.score("shop", 1).json == expected

    failed, stop = [], threading.Event()

    def load() -> None:
        while not stop.wait(0.02):
            if shop.score("shop", 1).status != 200:
                failed.append(1)

    caller = threading.Thread(target=load)
    caller.start()
    (shop.files / "pass").write_text("correct horse\n")
    file = shop.files / "shop.backup"
    shop.env["MOORINGS_BACKUP_PASSPHRASE"] = ""
    refused = shop.moor("workspace", "backup", str(file), check=False)
    assert refused.returncode != 0 and "BackupPassphraseMissing" in refused.stderr and not file.exists()
    shop.moor("workspace", "backup", str(file), "--passphrase-file", "pass")
    stop.set()
    caller.join()
    assert not failed and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key.encode() not in file.read_bytes() and b"learned once" not in file.read_bytes()
    shop.moor("workspace", "stop")

    other = new_workspace()  # with settings of its own: another port
    other.env["MOORINGS_STATE_URL"] = postgres.new_url()
    restored = other.moor("workspace", "restore", str(file), "--passphrase-file", str(shop.files / "pass"))
    assert "Start it" in restored.stderr
    again = other.moor(
        "workspace", "restore", str(file), "--passphrase-file", str(shop.files / "pass"), check=False
    )
    assert again.returncode != 0 and "RestoreTargetInUse" in again.stderr
    other.moor("workspace", "start")
    deadline = time.monotonic() + 120
    while (answer := other.score("shop", 1, key=key)).status != 200:
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    assert answer.json == expected
    assert other.key("shop") == key
    shown = other.json("keyvault", "secret", "show", "--vault-name", "local", "-n", "s")
    assert shown["value"] == "from the vault"
    deployment = other.json("online-deployment", "show", "-n", "blue", "-e", "shop")
    assert deployment["provisioning_state"] == "Succeeded"
