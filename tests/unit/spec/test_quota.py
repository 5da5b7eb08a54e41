"""The rules of quota: what a deployment counts for, and when it fits (behaviour reference, section 10)."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.spec import quota
from moorings.spec.instance_types import GIB, INSTANCE_TYPES, lookup
from moorings.spec.quota import CORES, GPUS, MEMORY, Capacity, Carried, Fit, Holding, carry_on, holding

ROOMY = Capacity(10_000, 100_000 * GIB, 1_000)


def spec(kind: str | None, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"instance_type": kind, "instance_count": count, **more}


def held(name: str, kind: str | None, count: int = 1, **more: Any) -> Holding:
    return holding(name, spec(kind, count, **more), Carried(), ROOMY)


def fit(
    needs: Holding, now: Holding | None, others: list[Holding], quotas: dict[str, int], machine: Capacity
) -> Fit:
    used: dict[str, int] = {}
    for one in others:
        for name, much in one.amounts.items():
            used[name] = used.get(name, 0) + much
    return quota.held_by(quota.fit(needs, now, used, quotas, machine), others)


def cores(kind: str, count: int) -> int:
    return held("e/d", kind, count).amounts[CORES]


def test_ten_instances_need_quota_for_twelve_and_one_needs_it_for_two() -> None:
    assert cores("Standard_DS3_v2", 10) == 48
    assert cores("Standard_DS3_v2", 1) == 8
    assert cores("Standard_F2s_v2", 5) == 12
    assert cores("Standard_F2s_v2", 6) == 16


@pytest.mark.parametrize(
    "kind",
    [
        "ND40rs_v2",
        "ND96asr_v4",
        "ND96amsr_A100_v4",
        "NC24ads_A100_v4",
        "NC96ads_A100_v4",
        "ND96isr_H100_v5",
    ],
)
def test_the_large_gpu_sizes_keep_nothing_free(kind: str) -> None:
    size = lookup(f"Standard_{kind}")
    assert size is not None
    assert cores(size.name, 5) == 5 * size.vcpus
    rolling = holding("e/d", spec(size.name, 5), Carried({}, rolling=True), ROOMY)
    assert rolling.amounts[CORES] == 6 * size.vcpus


@given(st.integers(1, 50), st.sampled_from(INSTANCE_TYPES))
def test_a_fifth_more_is_reserved_and_never_less_than_one_more(count: int, size: Any) -> None:
    counted = quota.reserved(size, count, rolling=False)
    if size.exempt:
        assert counted == count
    else:
        assert counted == ceil(12 * count / 10)
        assert counted > count


def test_it_counts_by_family_in_all_and_in_memory() -> None:
    amounts = held("e/d", "standard_ds3_V2", 2).amounts
    assert amounts == {"standardDSv2Family": 12, CORES: 12, MEMORY: 3 * 14 * GIB, GPUS: 0}
    assert held("e/d", "Standard_NC6s_v3").amounts[GPUS] == 1, "old and new instances share a GPU"


def test_what_it_may_scale_to_is_reserved() -> None:
    assert held("e/d", "Standard_DS3_v2", 2, scale_settings={"max_instances": 10}).amounts[CORES] == 48


@pytest.mark.parametrize("kind", [None, "Standard_Unheard_of"])
def test_a_size_that_is_not_listed_counts_as_the_whole_machine(kind: str | None) -> None:
    machine = Capacity(2.5, 8 * GIB, 0)
    amounts = holding("e/d", spec(kind), Carried(), machine).amounts
    assert (amounts[CORES], amounts[quota.UNLISTED_FAMILY], amounts[MEMORY]) == (2, 2, 8 * GIB)


def test_a_family_the_regional_total_and_the_machine_are_limits_each() -> None:
    machine = Capacity(4, 64 * GIB, 0, cpu_overcommit=4)
    others = [held("e/a", "Standard_F2s_v2"), held("e/b", "Standard_DS2_v2")]
    needs = held("e/d", "Standard_F2s_v2")
    for quotas, short in (
        ({}, []),
        ({"standardFSv2Family": 7}, ["standardFSv2Family"]),
        ({"standardFSv2Family": 8}, []),
        ({"standardDSv2Family": 0}, []),
        ({CORES: 11}, [CORES]),
        ({CORES: 12, "standardFSv2Family": 0}, ["standardFSv2Family"]),
    ):
        assert [line.name for line in fit(needs, None, others, quotas, machine).short] == short
    tight = Capacity(4, 64 * GIB, 0, cpu_overcommit=2.9)
    (line,) = fit(needs, None, others, {}, tight).short
    assert (line.name, line.is_quota, line.limit, line.used, line.free, line.needed) == (
        CORES,
        False,
        11,
        8,
        3,
        4,
    )
    assert line.holders == (("e/a", 4), ("e/b", 4))
    small = Capacity(100, 20 * GIB, 0)
    assert [one.name for one in fit(needs, None, others, {}, small).short] == [MEMORY]
    gpu = fit(held("e/g", "Standard_NC6s_v3"), None, [], {}, Capacity(100, 1000 * GIB, 0))
    assert [one.name for one in gpu.short] == [GPUS]


def test_what_takes_no_more_is_not_refused_where_the_limit_has_been_lowered() -> None:
    now, fewer, more = (held("e/d", "Standard_F2s_v2", n) for n in (10, 9, 11))
    assert fit(fewer, now, [], {CORES: 1}, ROOMY).fits
    assert fit(now, now, [], {CORES: 1}, ROOMY).fits
    assert not fit(more, now, [], {CORES: 1}, ROOMY).fits


def test_what_is_carried_over_counts_until_the_controller_says_otherwise() -> None:
    old = held("e/d", "Standard_DS3_v2", 10)
    earlier = carry_on(old, rolling=True).to_json(2)
    during = holding("e/d", spec("Standard_F2s_v2"), quota.carried(earlier, {}), ROOMY)
    assert during.amounts["standardDSv2Family"] == 48
    assert during.amounts["standardFSv2Family"] == 4
    older_word = {"held": Carried({}, False).to_json(1)}
    assert quota.carried(earlier, older_word) == quota.carried(earlier, {})
    for generation in (2, 3):
        word = {"held": Carried({"Standard_F2s_v2": 1}, False).to_json(generation)}
        after = holding("e/d", spec("Standard_F2s_v2"), quota.carried(earlier, word), ROOMY)
        assert after.amounts == held("e/d", "Standard_F2s_v2").amounts


def test_what_only_scales_replaces_no_instance() -> None:
    base = spec("Standard_ND40rs_v2", 2, environment="a")
    assert not quota.rolls(base, {**base, "instance_count": 9, "tags": {"a": "b"}})
    assert quota.rolls(base, {**base, "environment": "b"})
    assert quota.rolls(base, {**base, "instance_type": "Standard_DS3_v2"})
