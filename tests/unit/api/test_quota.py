"""Quota and capacity over the API: who is admitted, what the refused are told, and that nothing is lost or taken twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from moorings.api.quota import Quotas
from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.spec.instance_types import GIB, lookup
from moorings.spec.quota import Capacity, Carried
from moorings.state import transaction
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, OperationStatus

from .conftest import Served

REGION = "/subscriptions/s/providers/Microsoft.MachineLearningServices/locations/local"
BLUE = "/onlineEndpoints/shop/deployments/blue"


def code_of(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}"


def info_of(answer: httpx.Response) -> dict[str, Any]:
    (info,) = answer.json()["error"]["additionalInfo"]
    found: dict[str, Any] = info["info"]
    return found


async def limit(shop: Served, **limits: int | None) -> httpx.Response:
    value = [{"id": f"/any/quotas/{name}", "limit": most} for name, most in limits.items()]
    return await shop.ask("POST", f"/{REGION}/updateQuotas", {"value": value})


async def used(shop: Served, name: str) -> int:
    found = (await shop.ask("GET", f"/{REGION}/usages")).json()["value"]
    (one,) = (usage for usage in found if usage["name"]["value"] == name)
    amount: int = one["currentValue"]
    return amount


async def test_one_too_many_is_told_what_it_needs_what_there_is_who_holds_it_and_what_to_do(
    shop: Served,
) -> None:
    assert (await limit(shop, standardDSv2Family=20)).status_code == 200
    assert (await shop.deployment("green")).status_code == 201
    refused = await shop.deployment("red", instanceType="Standard_DS3_v2")
    assert code_of(refused) == "400 OutOfQuota"
    assert "red needs 8 vCPUs of standardDSv2Family; 4 of 20 are free" in refused.json()["error"]["message"]
    info = info_of(refused)
    assert info["numericCode"] == "ERR_1100"
    assert info["evidence"] == [
        "need: 8 vCPUs of standardDSv2Family: 2 x Standard_DS3_v2 (1 wanted, 1 kept free for updates)",
        "have: 4 free of 20, the quota",
        "held: 8 by shop/blue",
        "held: 8 by shop/green",
    ]
    assert "moor online-deployment delete -e shop -n blue --yes" in info["fix"]
    assert "--set instance_type=Standard_DS2_v2" in info["fix"]
    assert "moor quota set --resource-name standardDSv2Family --limit 24" in info["fix"]
    assert (await shop.ask("GET", "/onlineEndpoints/shop/deployments/red")).status_code == 404
    assert await used(shop, "standardDSv2Family") == 16


async def test_what_the_fix_says_works(shop: Served) -> None:
    await limit(shop, standardDSv2Family=20)
    refused = await shop.deployment("red", capacity=4)
    assert "--set instance_count=2" in info_of(refused)["fix"]
    assert (await shop.deployment("red", capacity=2)).status_code == 201
    refused = await shop.deployment("green")
    raised = int(info_of(refused)["fix"].partition("standardDSv2Family --limit ")[2].split()[0])
    assert (await limit(shop, standardDSv2Family=raised)).status_code == 200
    assert (await shop.deployment("green")).status_code == 201


async def test_quota_comes_back_when_the_deployment_is_gone_and_not_before(shop: Served) -> None:
    await limit(shop, cores=8)
    assert code_of(await shop.deployment("green")) == "400 OutOfQuota"
    await shop.ask("DELETE", BLUE)
    assert code_of(await shop.deployment("green")) == "400 OutOfQuota", "its instances have not ended yet"
    shop.finish(DEPLOYMENT, "shop/blue")
    assert await used(shop, "cores") == 0
    assert (await shop.deployment("green")).status_code == 201


async def test_scaling_takes_and_gives_back_and_a_refused_one_changes_nothing(shop: Served) -> None:
    await limit(shop, cores=24)
    assert (await shop.ask("PATCH", BLUE, {"sku": {"capacity": 5}})).status_code == 200
    assert await used(shop, "cores") == 24
    assert code_of(await shop.ask("PATCH", BLUE, {"sku": {"capacity": 6}})) == "400 OutOfQuota"
    assert (await shop.ask("GET", BLUE)).json()["sku"]["capacity"] == 5
    assert (await shop.ask("PATCH", BLUE, {"sku": {"capacity": 1}})).status_code == 200
    assert await used(shop, "cores") == 24, "four instances have not ended yet"
    shop.say(DEPLOYMENT, "shop/blue", {"held": Carried({"Standard_DS3_v2": 1}).to_json(3)})
    assert await used(shop, "cores") == 8


async def test_a_change_of_size_counts_both_until_the_older_instances_have_ended(shop: Served) -> None:
    await limit(shop, cores=11)
    wanted = {"instanceType": "Standard_F2s_v2"}
    assert code_of(await shop.deployment(**wanted)) == "400 OutOfQuota"
    await limit(shop, cores=12)
    assert (await shop.deployment(**wanted)).status_code == 200
    assert (await used(shop, "standardDSv2Family"), await used(shop, "standardFSv2Family")) == (8, 4)
    shop.say(DEPLOYMENT, "shop/blue", {"held": Carried({"Standard_F2s_v2": 1}).to_json(2)})
    assert (await used(shop, "standardDSv2Family"), await used(shop, "standardFSv2Family")) == (0, 4)


async def test_the_machine_is_a_limit_too(shop: Served) -> None:
    shop.capacity = Capacity(3, 64 * GIB, 0, cpu_overcommit=4)
    refused = await shop.deployment("green")
    assert code_of(refused) == "503 OutOfCapacity"
    info = info_of(refused)
    assert (info["numericCode"], info["retryable"]) == ("ERR_1101", True)
    assert "held: 8 by shop/blue" in info["evidence"]
    assert "capacity.cpu_overcommit" in info["fix"]
    too_large = await shop.deployment("green", instanceType="Standard_DS4_v2")
    assert code_of(too_large) == "400 InstanceTypeTooLarge"
    assert info_of(too_large)["numericCode"] == "ERR_2100"
    assert "--set instance_type=Standard_" in info_of(too_large)["fix"]
    no_gpu = await shop.deployment("green", instanceType="Standard_NC6s_v3")
    assert code_of(no_gpu) == "400 InstanceTypeTooLarge"
    assert len(no_gpu.json()["error"]["details"]) > 1, "all problems at once"


async def test_wrong_limits_are_all_named_and_none_is_set(shop: Served) -> None:
    refused = await limit(shop, cores=7, standardDSv2Family=-1, standardNoFamily=3, standardFSv2Family=4)
    assert code_of(refused) == "400 QuotaLimitInvalid"
    targets = [detail["target"] for detail in refused.json()["error"]["details"]]
    assert targets == ["cores", "standardDSv2Family", "standardNoFamily"]
    assert (await shop.ask("GET", f"/{REGION}/quotas")).json() == {"value": []}
    assert (await limit(shop, CORES=100)).status_code == 200, "names are found in any case"
    assert code_of(await limit(shop, standardFSv2Family=101)) == "400 QuotaLimitInvalid"
    (one,) = (await shop.ask("GET", f"/{REGION}/quotas")).json()["value"]
    assert (one["name"]["value"], one["limit"], one["unit"]) == ("cores", 100, "Count")
    assert (await limit(shop, cores=None)).status_code == 200
    assert (await shop.ask("GET", f"/{REGION}/quotas")).json() == {"value": []}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"value": []},
        {"value": "x"},
        {"value": [1]},
        {"value": [{"id": "/"}]},
        {"value": [{"id": "cores", "limit": "many"}]},
        {"value": [{"id": "cores", "limit": True}]},
        {"value": [{"id": "cores", "limit": 1.5}]},
        {"value": [{"id": "cores", "limit": 1}, {"id": "/x/cores", "limit": 2}]},
    ],
)
async def test_nonsense_is_refused_with_a_code(shop: Served, body: Any) -> None:
    assert code_of(await shop.ask("POST", f"/{REGION}/updateQuotas", body)) == "400 RequestInvalid"


async def test_whether_something_would_fit_is_told_without_taking_anything(shop: Served) -> None:
    await limit(shop, standardFSv2Family=10)
    path = "/onlineEndpoints/other/deployments/new/checkQuota"
    found = (await shop.ask("POST", path, {"instanceType": "Standard_F2s_v2", "instanceCount": 5})).json()
    assert not found["fits"]
    assert found["needs"]["amounts"]["standardFSv2Family"] == 12
    (short,) = (line for line in found["limits"] if line["short"])
    assert (short["name"], short["source"], short["free"], short["needed"]) == (
        "standardFSv2Family",
        "quota",
        10,
        12,
    )
    assert found["error"]["code"] == "OutOfQuota"
    found = (await shop.ask("POST", path, {"instanceType": "Standard_F2s_v2", "instanceCount": 4})).json()
    assert (found["fits"], found["error"]) == (True, None)
    (total,) = (line for line in found["limits"] if line["name"] == "cores")
    assert total["holders"] == [{"deployment": "shop/blue", "amount": 8}]
    assert await used(shop, "standardFSv2Family") == 0
    there = (await shop.ask("POST", f"{BLUE}/checkQuota")).json()
    assert (there["fits"], there["needs"]["amounts"]["cores"]) == (True, 8)
    assert code_of(await shop.ask("POST", path, {})) == "404 DeploymentNotFound"
    wrong = await shop.ask("POST", path, {"instanceType": 3, "instanceCount": 0, "maxInstances": True})
    assert (code_of(wrong), len(wrong.json()["error"]["details"])) == ("400 RequestInvalid", 3)


async def test_deployments_of_one_file_have_to_fit_together(shop: Served) -> None:
    await limit(shop, standardFSv2Family=10)
    path = "/onlineEndpoints/shop/deployments/new/checkQuota"
    two = {"instanceType": "Standard_F2s_v2", "instanceCount": 2}
    assert (await shop.ask("POST", path, two)).json()["fits"]
    beside = {**two, "beside": [{"deployment": "first", **two}]}
    found = (await shop.ask("POST", path, beside)).json()
    assert not found["fits"]
    told = json.dumps(found["error"])
    assert "needed: 6 by shop/first, which comes before it" in told
    assert "delete -e shop -n first" not in told, "it is not there yet"
    again = {**two, "beside": [{"deployment": "blue", "instanceType": "Standard_F2s_v2", "instanceCount": 1}]}
    found = (await shop.ask("POST", path, again)).json()
    (family,) = (line for line in found["limits"] if line["name"] == "standardFSv2Family")
    assert (found["fits"], family["used"]) == (True, 4), (
        "blue, which changes its type, counts as what it becomes"
    )
    assert await used(shop, "standardFSv2Family") == 0
    for wrong in (3, [3], [{}], [{"deployment": 3}]):
        assert code_of(await shop.ask("POST", path, {**two, "beside": wrong})) == "400 RequestInvalid"


async def test_the_sizes_of_the_catalogue_are_listed_without_prices(shop: Served) -> None:
    found = {one["name"]: one for one in (await shop.ask("GET", f"/{REGION}/vmSizes")).json()["value"]}
    size = found["Standard_DS3_v2"]
    assert (size["vCPUs"], size["memoryGB"], size["maxResourceVolumeMB"]) == (4, 14.0, 28 * 1024)
    assert not any("price" in key.lower() for key in size)
    elsewhere = await shop.ask("GET", f"/{REGION.replace('local', 'westeurope')}/vmSizes")
    assert code_of(elsewhere) == "404 ResourceNotFound"


KINDS = ("Standard_DS3_v2", "Standard_F2s_v2", "Standard_F4s_v2", "Standard_ND40rs_v2")
NAMES = tuple(f"shop/d{n}" for n in range(6))
CAPACITY = Capacity(40, 1200 * GIB, 16, cpu_overcommit=2.5, memory_overcommit=2)


def rows_decoded(database: Database, monkeypatch: pytest.MonkeyPatch, others: int) -> int:
    """How many resources are decoded to admit one more deployment beside so many."""
    spec = {"instance_type": "Standard_F2s_v2", "instance_count": 1, "scale_settings": {}}
    quotas = Quotas(database, lambda: Capacity(100_000, 1 << 60, 0))
    with database.write() as tx:
        for number in range(others):
            tx.put(DEPLOYMENT, f"bank-{number}/blue", spec)
    decoded: list[str] = []
    original = transaction._resource
    monkeypatch.setattr(transaction, "_resource", lambda row: decoded.append(row.name) or original(row))
    with database.write() as tx:
        quotas.admit(tx, "shop/blue", spec, None, quotas.capacity())
        quotas.admit(tx, "bank-1/blue", spec, tx.resource(DEPLOYMENT, "bank-1/blue"), quotas.capacity())
    monkeypatch.undo()
    return len(decoded)


def test_admitting_one_reads_no_other(
    tmp_path: Path, empty_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_state, tmp_path / "state.db")
    database = Database.at(tmp_path / "state.db", ManualClock())
    try:
        assert rows_decoded(database, monkeypatch, 3) == rows_decoded(database, monkeypatch, 60) == 1
    finally:
        database.close()


class Workspace(RuleBasedStateMachine):
    """Deployments come, change, scale, fail, settle and go, the daemon dies in between; real instances are modelled
    beside it: as many as an engine might run of what was ever accepted and has not been seen to end."""

    template: Path
    folder: Path

    @initialize()
    def begin(self) -> None:
        self.path = self.folder / "state.db"
        for left in self.folder.glob("state.db*"):
            left.unlink()
        shutil.copy(self.template, self.path)
        self.running: dict[str, dict[str, int]] = {}
        self.open()

    def open(self) -> None:
        self.database = Database.at(self.path, ManualClock())
        self.quotas = Quotas(self.database, lambda: CAPACITY)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()

    @rule(
        name=st.sampled_from(NAMES), kind=st.sampled_from(KINDS), count=st.integers(1, 6), die=st.booleans()
    )
    def create_or_update(self, name: str, kind: str, count: int, die: bool) -> None:
        spec = {"instance_type": kind, "instance_count": count, "scale_settings": {}}
        try:
            with self.database.write() as tx:
                old = tx.resource(DEPLOYMENT, name)
                earlier = self.quotas.admit(tx, name, spec, old, CAPACITY)
                tx.put(DEPLOYMENT, name, spec, earlier=earlier)
                if die:
                    raise KeyboardInterrupt
        except (MooringsError, KeyboardInterrupt):
            return
        # An engine may run all of both for a moment; of the same size, the surge beside the larger count.
        mine = self.running.setdefault(name, {})
        exempt = kind == "Standard_ND40rs_v2"
        most = count if exempt else count + -(-count // 5)
        mine[kind] = max(mine.get(kind, 0), most)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def settle(self, data: Any) -> None:
        """The rollout ends: only what is desired runs, and the controller says so."""
        name = data.draw(st.sampled_from(sorted(self.running)))
        with self.database.write() as tx:
            row = tx.resource(DEPLOYMENT, name)
            assert row is not None
            if row.deleting:
                return
            kind, count = row.spec["instance_type"], row.spec["instance_count"]
            tx.set_status(row, {"held": Carried({kind: count}).to_json(row.generation)})
        most = count if kind == "Standard_ND40rs_v2" else count + -(-count // 5)
        self.running[name] = {kind: most}

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def ask_for_deletion(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        with self.database.write() as tx:
            tx.mark_deleting(DEPLOYMENT, name)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def its_instances_end(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        with self.database.write() as tx:
            row = tx.resource(DEPLOYMENT, name)
            assert row is not None
            if row.deleting and tx.drop(row):
                tx.finish_operations(row, OperationStatus.SUCCEEDED)
                del self.running[name]

    @rule(
        name=st.sampled_from(["cores", "standardFSv2Family", "standardDSv2Family"]), most=st.integers(0, 90)
    )
    def set_a_quota(self, name: str, most: int) -> None:
        try:
            self.quotas.set_limits({name: most})
        except MooringsError as problem:
            assert problem.failure.code == "QuotaLimitInvalid"

    @rule()
    def die_and_come_back(self) -> None:
        self.database.close()
        self.open()

    @invariant()
    def nothing_is_promised_twice(self) -> None:
        if not hasattr(self, "quotas"):
            return
        for one in self.quotas.usages():
            assert one.used <= one.limit, one

    @invariant()
    def holdings_say_what_deployments_do(self) -> None:
        if hasattr(self, "quotas"):
            with self.database.write() as tx:
                assert tx.recount() == 0

    @invariant()
    def what_may_run_is_what_is_counted(self) -> None:
        if not hasattr(self, "quotas"):
            return
        real: dict[str, int] = {}
        for kinds in self.running.values():
            for kind, count in kinds.items():
                size = lookup(kind)
                assert size is not None
                real[size.family] = real.get(size.family, 0) + count * size.vcpus
        counted = {one.name: one.used for one in self.quotas.usages() if one.name.endswith("Family")}
        for family, amount in counted.items():
            running = real.get(family, 0)
            if family == "standardNDSv2Family":
                assert amount >= running, "exempt sizes count a surge while they are replaced"
            else:
                assert amount == running, "a leak, or too little"


def test_quota_is_never_exceeded_and_never_lost(tmp_path: Path, empty_state: Path) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    Workspace.template, Workspace.folder = empty_state, tmp_path
    run_state_machine_as_test(
        Workspace, settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
    )
