"""The local cycle of today's commands: what `--local` adds to each verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

EP = "/onlineEndpoints/shop"
BLUE = f"{EP}/deployments/blue"


def own(workspace: Any) -> dict[str, str]:
    return dict(workspace.resources[EP]["properties"]["properties"])


def traffic_of(workspace: Any) -> dict[str, int]:
    return dict(workspace.resources[EP]["properties"].get("traffic") or {})


def test_create_local_marks_the_endpoint_and_show_says_so(moor: Any, workspace: Any) -> None:
    shown = moor.json("online-endpoint", "create", "-n", "shop", "--local")
    assert own(workspace) == {"moorings.local": "true"}
    assert shown["properties"] == {"moorings": {"local": True}}
    assert moor.json("online-endpoint", "create", "-n", "shop")["properties"] == {}


def test_the_mark_survives_an_update_and_can_be_changed(moor: Any, workspace: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop", "--local")
    moor("online-endpoint", "update", "-n", "shop", "--set", "tags.a=b", "--local")
    assert own(workspace) == {"moorings.local": "true"}
    moor("online-endpoint", "update", "-n", "shop", "--set", "properties.moorings.local=false")
    assert own(workspace) == {}
    moor("online-endpoint", "update", "-n", "shop", "--set", "properties.moorings.local=true")
    assert own(workspace) == {"moorings.local": "true"}


@pytest.mark.parametrize("value", ["maybe", "2", "[true]"])
def test_local_is_a_switch(moor: Any, workspace: Any, value: str) -> None:
    code, _, err = moor(
        "online-endpoint", "create", "-n", "shop", "--set", f"properties.moorings.local={value}"
    )
    assert (code, "properties.moorings.local" in err) == (1, True)


def test_set_has_the_last_word(moor: Any, workspace: Any) -> None:
    moor("online-endpoint", "create", "-n", "shop", "--local", "--set", "properties.moorings.local=false")
    assert own(workspace) == {}


def test_the_published_cycle(moor: Any, workspace: Any, project: Path) -> None:
    """Endpoint, deployment without a word of traffic, a second try, logs, delete."""
    file = str(project / "blue.yml")
    moor("online-endpoint", "create", "-n", "shop", "--local")
    code, _, err = moor(
        "ml", "online-deployment", "create", "--local", "-n", "blue", "--endpoint", "shop", "-f", file
    )
    assert code == 0, err
    assert traffic_of(workspace) == {"blue": 100}
    assert "it gets all traffic" in err
    assert "programs on this machine need none" in err
    code, _, err = moor("online-deployment", "create", "--local", "-n", "blue", "-e", "shop", "-f", file)
    assert code == 0, err
    code, out, _ = moor("online-deployment", "get-logs", "--local", "-n", "blue", "--endpoint", "shop")
    assert (code, out) == (0, "2026-11-25T16:46:52.123 serve      abc-0 | last 5000 of All\n")
    assert [e["name"] for e in moor.json("online-endpoint", "list", "--local")] == ["shop"]
    assert moor("online-endpoint", "delete", "--name", "shop", "--local", "--yes")[0] == 0
    code, _, err = moor("online-endpoint", "delete", "--name", "shop", "--local", "--yes")
    assert (code, "(EndpointNotFound)" in err) == (1, True)
    assert moor("online-endpoint", "delete", "--name", "shop", "--yes")[0] == 0


def test_a_deployment_that_makes_its_endpoint_makes_a_local_one(
    moor: Any, workspace: Any, project: Path
) -> None:
    assert moor("online-deployment", "create", "--local", "-f", str(project / "blue.yml"))[0] == 0
    assert own(workspace) == {"moorings.local": "true"}
    assert traffic_of(workspace) == {"blue": 100}


def test_a_second_deployment_gets_no_traffic_unasked(moor: Any, workspace: Any, project: Path) -> None:
    file = str(project / "blue.yml")
    moor("online-deployment", "create", "--local", "-f", file)
    moor("online-deployment", "create", "--local", "-f", file, "-n", "green")
    assert traffic_of(workspace) == {"blue": 100}


def test_traffic_that_was_switched_off_stays_off(moor: Any, workspace: Any, project: Path) -> None:
    file = str(project / "blue.yml")
    moor("online-deployment", "create", "--local", "-f", file)
    moor("online-deployment", "create", "--local", "-f", file, "-n", "green")
    moor("online-endpoint", "update", "-n", "shop", "--traffic", "blue=0")
    moor("online-deployment", "create", "--local", "-f", file, "-n", "green")
    assert traffic_of(workspace) == {}


def test_an_endpoint_that_is_not_local_gets_no_traffic_by_it(
    moor: Any, workspace: Any, project: Path
) -> None:
    moor("online-endpoint", "create", "-n", "shop")
    assert moor("online-deployment", "create", "--local", "-f", str(project / "blue.yml"))[0] == 0
    assert (own(workspace), traffic_of(workspace)) == ({}, {})


def test_the_last_deployment_can_be_deleted_without_a_word_of_traffic(
    moor: Any, workspace: Any, project: Path
) -> None:
    moor("online-deployment", "create", "--local", "-f", str(project / "blue.yml"))
    code, _, err = moor("online-deployment", "delete", "-n", "blue", "-e", "shop", "--local", "--yes")
    assert code == 0, err
    assert traffic_of(workspace) == {}
    assert BLUE not in workspace.resources
