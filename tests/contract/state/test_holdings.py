"""What deployments hold is written beside them, whichever database the state is in."""

from __future__ import annotations

from typing import Any

import pytest

from moorings.spec.quota import Count
from moorings.state.transaction import DEPLOYMENT, ENDPOINT


def test_what_is_held_is_written_with_whatever_it_follows_from(connect: Any) -> None:
    database = connect()
    database.open()
    setting = {"name": "rules", "properties": {"profiles": [{"capacity": {"maximum": "6"}}]}}

    def held() -> list[tuple[str, int, int]]:
        with database.write() as tx:
            assert tx.recount() == 0
        with database.read() as tx:
            return [(one.type, one.counted, one.devices) for one in tx.held()]

    with database.write() as tx:
        row = tx.put(DEPLOYMENT, "shop/blue", {"instance_type": "standard_f2S_v2", "instance_count": 5})
        tx.put(DEPLOYMENT, "bank/blue", {"instance_type": "Standard_ND40rs_v2", "instance_count": 2})
        tx.put(DEPLOYMENT, "club/blue", {"instance_type": "Unheard_of"})
        tx.put(ENDPOINT, "shop", {"instance_type": "Standard_F2s_v2", "instance_count": 9})
    both = [("Standard_ND40rs_v2", 2, 2), ("Unheard_of", 1, 1)]
    assert held() == [("Standard_F2s_v2", 6, 5), *both]
    with database.write() as tx:
        tx.set_autoscale(row, setting)
    assert held() == [("Standard_F2s_v2", 8, 6), *both]
    with database.write() as tx:
        earlier = {"generation": 2, "counted": {"Standard_F2s_v2": 8}, "rolling": True}
        spec = {"instance_type": "Standard_DS3_v2", "instance_count": 1}
        row = tx.put(DEPLOYMENT, "shop/blue", spec, earlier=earlier)
    assert held() == [("Standard_DS3_v2", 8, 6), ("Standard_F2s_v2", 8, 8), *both]
    with database.write() as tx:
        word = {"held": {"generation": 2, "counted": {"Standard_F2s_v2": 1}, "rolling": False}}
        assert tx.set_status(row, word)
    assert held() == [("Standard_DS3_v2", 8, 6), ("Standard_F2s_v2", 1, 1), *both]
    with database.read() as tx:
        assert [one.type for one in tx.held(apart=("shop/blue", "club/blue"))] == ["Standard_ND40rs_v2"]
        assert [one.type for one in tx.holdings()["shop/blue"]] == ["Standard_DS3_v2", "Standard_F2s_v2"]
    with pytest.raises(RuntimeError), database.write() as tx:
        tx.put(DEPLOYMENT, "shop/green", spec)
        raise RuntimeError
    with database.write() as tx:
        gone = tx.mark_deleting(DEPLOYMENT, "shop/blue")
    assert held() == [("Standard_DS3_v2", 8, 6), ("Standard_F2s_v2", 1, 1), *both], "until the row is gone"
    with database.write() as tx:
        assert gone is not None and tx.drop(gone)
    assert held() == both


def test_holdings_that_are_missing_or_wrong_are_right_again_when_the_state_is_opened(
    connect: Any,
) -> None:
    database = connect()
    database.open()
    with database.write() as tx:
        for name in ("shop/blue", "shop/green"):
            tx.put(DEPLOYMENT, name, {"instance_type": "Standard_F2s_v2", "instance_count": 1})
        right = tx.holdings()
    with database.write() as tx:
        tx.hold("shop/blue", ())
        tx.hold("shop/green", (Count("Standard_F2s_v2", 40, 48),))
        tx.hold("shop/never", (Count("Standard_F2s_v2", 1, 2),))
        assert tx.holdings() != right
    connect().open()
    with database.read() as tx:
        assert tx.holdings() == right
