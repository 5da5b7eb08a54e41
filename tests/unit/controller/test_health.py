"""How probes are counted: when traffic may come, and when it may not any more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moorings.controller.health import STARTING_PERIOD_S, Prober, answers_probe
from moorings.engines.base import Instance, Phase, ProbeTimes
from moorings.errors.diagnosis.evidence import SAID_OK, SAID_REFUSED
from moorings.lib.timing import ManualClock

TIMES = ProbeTimes(10, 10, 2, success_threshold=1, failure_threshold=3)
ONE = Instance("i-0", "shop/blue", "r", 0, Phase.RUNNING, ("/s0", "/s1"), 5.0, 0)


class Probed:
    """Addresses that answer, and how often each was asked."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.good = {"/s0", "/s1"}
        self.asked: list[str] = []
        self.prober = Prober(self.clock, self.ask)

    async def ask(self, address: str, _timeout_s: float) -> str:
        self.asked.append(address)
        return SAID_OK if address in self.good else SAID_REFUSED

    async def look(self, *instances: Instance, times: ProbeTimes = TIMES, **more: object) -> frozenset[str]:
        return await self.prober.probe("shop/blue", instances, times, **more)  # type: ignore[arg-type]


@pytest.fixture
def probed() -> Probed:
    return Probed()


async def test_the_first_success_of_every_worker_counts_at_once(probed: Probed) -> None:
    probed.good = {"/s0"}
    assert await probed.look(ONE) == frozenset()
    probed.good = {"/s0", "/s1"}
    probed.clock.advance(STARTING_PERIOD_S)
    assert await probed.look(ONE) == {"i-0"}


async def test_a_ready_one_is_asked_once_a_period_another_one_more_often(probed: Probed) -> None:
    probed.good = {"/s0"}
    for _ in range(10):
        await probed.look(ONE)
        probed.clock.advance(STARTING_PERIOD_S)
    assert (probed.asked.count("/s0"), probed.asked.count("/s1")) == (1, 10)
    probed.clock.advance(TIMES.period_s)
    await probed.look(ONE)
    assert probed.asked.count("/s0") == 2


async def test_it_stays_ready_until_it_has_failed_often_enough_in_a_row(probed: Probed) -> None:
    await probed.look(ONE)
    ready = []
    for answers in (False, False, True, False, False, False):
        probed.good = {"/s0", "/s1"} if answers else set()
        probed.clock.advance(TIMES.period_s)
        ready.append(bool(await probed.look(ONE)))
    assert ready == [True, True, True, True, True, False]


async def test_several_successes_in_a_row_may_be_asked_for(probed: Probed) -> None:
    times = replace(TIMES, success_threshold=3)
    ready = []
    for answers in (True, True, False, True, True, True):
        probed.good = {"/s0", "/s1"} if answers else set()
        ready.append(bool(await probed.look(ONE, times=times)))
        probed.clock.advance(STARTING_PERIOD_S)
    assert ready == [False, False, False, False, False, True]


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.RUNNING])
async def test_only_what_runs_is_asked_and_ready_and_what_it_was_is_forgotten(
    probed: Probed, phase: Phase
) -> None:
    await probed.look(ONE)
    probed.asked.clear()
    assert await probed.look(replace(ONE, phase=phase)) == frozenset()
    assert probed.asked == []
    probed.good = set()
    assert await probed.look(ONE) == frozenset()


async def test_an_instance_without_addresses_is_not_ready(probed: Probed) -> None:
    assert await probed.look(replace(ONE, addresses=())) == frozenset()


async def test_another_instance_at_the_same_address_begins_anew(probed: Probed) -> None:
    await probed.look(ONE)
    probed.good = set()
    assert await probed.look(replace(ONE, started_at=6.0)) == frozenset()


async def test_what_is_gone_is_forgotten(probed: Probed) -> None:
    await probed.look(ONE)
    await probed.look()
    probed.good = set()
    assert await probed.look(ONE) == frozenset()


async def test_owners_do_not_share_what_is_known(probed: Probed) -> None:
    await probed.look(ONE)
    await probed.prober.probe("shop/green", [], TIMES)
    probed.good = set()
    assert await probed.look(ONE) == {"i-0"}
    probed.prober.forget("shop/blue")
    assert await probed.look(ONE) == frozenset()


async def test_what_was_ready_before_a_restart_is_so_until_it_has_failed_often_enough(
    probed: Probed,
) -> None:
    probed.good = set()
    seen = []
    for _ in range(4):
        seen.append(bool(await probed.look(ONE, known_ready={"i-0"})))
        probed.clock.advance(TIMES.period_s)
    assert seen == [True, True, False, False]


async def test_what_was_ready_counts_at_the_first_look_only(probed: Probed) -> None:
    probed.good = set()
    await probed.look()
    assert await probed.look(ONE, known_ready={"i-0"}) == frozenset()


@pytest.mark.parametrize("address", ["/does/not/exist.sock", "nonsense", "127.0.0.1:notaport"])
async def test_an_address_nobody_listens_on_does_not_answer(address: str) -> None:
    assert await answers_probe(address, 0.5) == SAID_REFUSED
