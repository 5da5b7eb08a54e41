"""`moor acr repository show-tags` and `moor storage blob exists`, in the words of the documents of 2021."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from moorings.containers import registry as reader
from moorings.containers.registry import Tag

SHOW = ("acr", "repository", "show-tags")
TAGS = [
    Tag("a", "sha256:1", datetime(2024, 1, 1, tzinfo=UTC)),
    Tag("b", "sha256:2", datetime(2025, 1, 1, tzinfo=UTC)),
    Tag("c", "sha256:3", None),
]


@pytest.fixture
def asked(moor: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A workspace with a registry; (registry, repository, details) of what is asked of it."""
    found: list[Any] = []

    class Known:
        def __init__(self, registry: str, login: Any, speaks_plainly: Any) -> None:
            self.registry = registry

        def tags(self, repository: str, *, details: bool) -> list[Tag]:
            found.append((self.registry, repository, details))
            return TAGS

        def close(self) -> None:
            pass

    monkeypatch.setattr(reader, "ImageRegistry", Known)
    moor.home.mkdir()
    text = json.dumps({"registry": {"repository": "reg.example:5000/team"}})
    (moor.home / "settings.json").write_text(text)
    return found


def test_show_tags_verbatim(moor: Any, asked: list[Any]) -> None:
    words = ("-n", "reg", "--repository", "team/x", "--orderby", "time_desc", "--output", "table")
    code, out, err = moor(*SHOW, *words)
    assert code == 0, err
    assert [line.strip() for line in out.splitlines()][2:] == ["b", "a", "c"]
    assert asked == [("reg.example:5000", "team/x", True)]


def test_show_tags_as_json_and_in_detail(moor: Any, asked: list[Any]) -> None:
    words = (*SHOW, "--name", "REG.example:5000", "--repository", "team/x")
    assert moor.json(*words, "--subscription", "s") == ["a", "b", "c"]
    assert asked[-1][2] is False, "what is not shown is not asked for"
    assert moor.json(*words, "--orderby", "time_asc", "--top", "2") == ["a", "b"]
    found = moor.json(*words, "--detail")
    assert found[0] == {"name": "a", "digest": "sha256:1", "created_time": "2024-01-01T00:00:00+00:00"}
    assert found[2]["created_time"] is None
    assert moor(*words, "--orderby", "size")[0] == 2


def test_another_registry_is_told_which_one_there_is(moor: Any, asked: list[Any]) -> None:
    code, _, err = moor(*SHOW, "-n", "other", "--repository", "team/x")
    assert code == 1 and "RegistryNotAttached" in err
    assert "show-tags -n reg.example:5000 --repository team/x" in err
    code, _, err = moor(*SHOW, "-n", "reg", "--repository", "Team/x:1")
    assert code == 1 and "RepositoryNotFound" in err and "--repository team/x " in err
    assert asked == []


def test_without_a_registry(moor: Any) -> None:
    code, _, err = moor(*SHOW, "-n", "reg", "--repository", "x")
    assert code == 1 and "RegistryNotConfigured" in err
    assert f'"registry": {{"repository": "<host>/<team>"}} into {moor.home / "settings.json"}' in err


def test_blob_exists_verbatim(moor: Any, workspace: Any) -> None:
    words = ("storage", "blob", "exists", "--account-name", "moorings", "--container-name", "box")
    words = (*words, "--name", "a b/c", "--subscription", "s")
    workspace.resources["/blobExists"] = {"exists": True}
    code, out, err = moor(*words)
    assert (code, json.loads(out), err) == (0, {"exists": True}, "")
    workspace.resources["/blobExists"] = {"exists": False, "below": "a b/c/d"}
    code, out, err = moor(*words)
    assert (code, json.loads(out)) == (0, {"exists": False}) and "a b/c/d" in err
