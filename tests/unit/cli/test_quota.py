"""`moor quota` and `moor compute` against a workspace in memory: what they ask, print and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moorings.client.transport import Answer

from .conftest import WS

REGION = f"{WS.partition('/resourceGroups/')[0]}/providers/Microsoft.MachineLearningServices/locations/local"


def usage(name: str, limit: int, *holders: tuple[str, int], quota: int | None = None) -> dict[str, Any]:
    used = sum(amount for _, amount in holders)
    parts = [{"instanceType": "Standard_DS3_v2", "family": name, "wanted": 1, "counted": 2}]
    return {
        "id": f"{WS}/usages/{name}",
        "name": {"value": name, "localizedValue": f"The {name}"},
        "amlWorkspaceLocation": "local",
        "unit": "Count",
        "currentValue": used,
        "limit": limit,
        "moorings": {
            "free": limit - used,
            "quota": quota,
            "holders": [{"deployment": who, "amount": a, "instances": parts} for who, a in holders],
        },
    }


@pytest.fixture
def served(workspace: Any) -> Any:
    """Answers to what is asked of the region."""

    def say(method: str, path: str, body: Any) -> None:
        workspace.answers[method, path] = Answer(200, {}, json.dumps(body).encode())

    usages = [
        usage("cores", 128, ("shop/blue", 8), quota=100),
        usage("memory", 256 << 30, ("shop/blue", 28 << 30)),
        usage("gpus", 0),
        usage("standardDSv2Family", 20, ("shop/blue", 8), quota=20),
        usage("standardFSv2Family", 100),
    ]
    say("GET", f"{REGION}/usages", {"value": usages})
    say("POST", f"{REGION}/updateQuotas", {"value": []})
    size = {
        "name": "Standard_DS3_v2",
        "family": "standardDSv2Family",
        "vCPUs": 4,
        "memoryGB": 14.0,
        "gpus": 0,
    }
    size |= {"maxResourceVolumeMB": 28672, "moorings": {"reservedForOne": 2}}
    say("GET", f"{REGION}/vmSizes", {"value": [size]})
    line = {"name": "standardDSv2Family", "source": "quota", "limit": 20, "used": 16, "free": 4, "needed": 8}
    line |= {"short": True, "holders": [{"deployment": "shop/green", "amount": 16}]}
    info = [{"type": "moorings", "info": {"fix": "Delete what is not used"}}]
    fit = {
        "fits": False,
        "deployment": "shop/blue",
        "needs": {"amounts": {"standardDSv2Family": 8}, "parts": [], "said": "2 x Standard_DS3_v2"},
        "limits": [line],
        "error": {"code": "OutOfQuota", "message": "4 of 20 are free", "additionalInfo": info},
    }
    say("POST", "/onlineEndpoints/shop/deployments/blue/checkQuota", fit)
    return workspace


def test_people_see_a_table_of_what_is_used_or_set_and_programs_all_of_it(moor: Any, served: Any) -> None:
    code, out, _ = moor("quota", "list")
    assert code == 0
    assert "shop/blue 8" in out and "256 GiB" in out
    assert "standardFSv2Family" not in out, "nothing is used or set of it"
    assert "standardFSv2Family" in moor("quota", "list", "--all")[1]
    found = {one["name"]: one for one in moor.json("quota", "list", "-o", "json")}
    assert (found["cores"]["free"], found["cores"]["quota"]) == (120, 100)


def test_who_holds_one_limit(moor: Any, served: Any) -> None:
    _, out, _ = moor("quota", "show", "--resource-name", "STANDARDdsv2family")
    assert "2 x Standard_DS3_v2" in out
    assert (
        moor.json("quota", "show", "--family", "cores", "-o", "json")["holders"][0]["deployment"]
        == "shop/blue"
    )
    code, _, err = moor("quota", "show", "--resource-name", "nope")
    assert code == 1
    assert "(QuotaLimitInvalid)" in err and "standardFSv2Family" in err


def test_what_a_deployment_needs_is_asked_with_its_size_and_counts(
    moor: Any, served: Any, project: Path
) -> None:
    code, out, err = moor("quota", "show", "-f", str(project / "blue.yml"), "--set", "instance_count=3")
    assert code == 0
    asked = served.sent("POST", "/checkQuota")
    assert asked == {"instanceType": "Standard_DS3_v2", "instanceCount": 3, "maxInstances": 1}
    assert "shop/green 16" in out
    assert "It does not fit: 4 of 20 are free" in err and "Fix: Delete what is not used" in err
    assert moor.json("quota", "show", "-e", "shop", "-n", "blue", "-o", "json")["fits"] is False
    assert served.sent("POST", "/checkQuota") == {}


def test_a_quota_is_set_by_name_and_taken_away_with_none(moor: Any, served: Any) -> None:
    moor("quota", "set", "--resource-name", "cores", "--limit", "24")
    sent = served.sent("POST", "/updateQuotas")
    assert sent == {"value": [{"id": f"{WS}/quotas/cores", "limit": 24}]}
    moor("quota", "set", "--resource-name", "cores", "--limit", "None")
    assert served.sent("POST", "/updateQuotas")["value"][0]["limit"] is None
    for wrong in ("-1", "many", "1.5", "", "9" * 40):
        code, _, err = moor("quota", "set", "--resource-name", "cores", f"--limit={wrong}")
        assert code == 1
        assert "(QuotaLimitInvalid)" in err


def test_one_question_at_a_time(moor: Any, served: Any) -> None:
    assert moor("quota", "show")[0] == 2
    code, _, err = moor("quota", "show", "--resource-name", "cores", "-n", "blue")
    assert (code, "(FlagsExclusive)" in err) == (1, True)


def test_sizes_and_usage_as_the_ecosystem_lists_them(moor: Any, served: Any) -> None:
    (size,) = moor.json("compute", "list-sizes")
    assert (size["name"], size["v_cp_us"], size["memory_gb"]) == ("Standard_DS3_v2", 4, 14.0)
    assert "28 GiB" in moor("compute", "list-sizes", "-o", "table")[1]
    first = moor.json("compute", "list-usage")[0]
    assert first["name"] == {"value": "cores", "localized_value": "The cores"}
    assert (first["current_value"], first["limit"]) == (8, 128)
    moor("compute", "list-usage", "--location", "mars")
    assert served.requests[-1][1].endswith("/locations/mars/usages")
