"""`moor environment prune` and what is shown of built environments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moorings.client.transport import Answer

PRUNED = {
    "dryRun": True,
    "removed": [{"key": "a" * 16, "sizeBytes": 3 << 20, "freedBytes": 2048, "reason": "", "usedBy": []}],
    "kept": [{"key": "b" * 16, "sizeBytes": 9, "freedBytes": 9, "reason": "in use", "usedBy": ["shop/blue"]}],
    "sizeBytes": 3 << 20,
    "freedBytes": 2048,
}


def answered(body: Any) -> Answer:
    return Answer(200, {}, json.dumps(body).encode())


@pytest.mark.parametrize("yes", [False, True])
def test_prune_says_what_it_would_do_unless_it_is_told_to(moor: Any, workspace: Any, yes: bool) -> None:
    workspace.answers["POST", "/environmentBuilds/prune"] = answered(PRUNED)
    code, out, err = moor("environment", "prune", *(["--yes"] if yes else []))
    assert code == 0, err
    assert workspace.sent("POST", "/prune") == {"dryRun": not yes}
    assert "3.0 MiB" in out and "kept: used by shop/blue" in out
    said = out + err
    assert "1 environment removed: 2.0 KiB freed, 1 kept." in said if yes else "would be removed" in said
    assert ("prune --yes" in said) is not yes


def test_a_build_is_shown_whole_as_json(moor: Any, workspace: Any) -> None:
    workspace.answers["GET", "/environmentBuilds/aaaa"] = answered({"key": "a" * 16, "locks": {}})
    assert moor.json("environment", "show", "--key", "aaaa")["key"] == "a" * 16
