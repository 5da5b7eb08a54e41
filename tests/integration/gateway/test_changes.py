"""Changes under load lose nothing; a refused change leaves the last good one serving."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest


def test_keys_turn_over_under_load_with_no_failure(shared, kit):
    worker = kit.backends.start("keyed", gate=20)
    base = kit.endpoint("keyed", kit.route("blue", worker, mc=20))
    shared.put(base)
    # Clients move to the other key before theirs is replaced, as the procedure for rotation says.
    current = ["key-two"]
    with kit.load(shared, "keyed", lambda: current[0]) as load:
        for turn in range(10):
            fresh = f"fresh-{turn}"
            shared.put(dataclasses.replace(base, keys=(current[0], fresh)))
            assert shared.score("keyed", key=fresh).status == 200
            current[0] = fresh
            time.sleep(0.05)
    assert load.failures == {}
    assert load.total > 100
    shared.put(dataclasses.replace(base, keys=("only",)))
    assert shared.score("keyed", key="fresh-9").status == 401
    shared.put(dataclasses.replace(base, keys=()))
    assert shared.score("keyed", key="only").status == 401
    assert shared.score("keyed", key="").status == 401
    shared.drop("keyed")


def test_the_only_worker_is_replaced_again_and_again_under_load_with_no_failure(shared, kit):
    worker = kit.backends.start("rolled", gate=20)
    shared.put(kit.endpoint("rolled", kit.route("blue", worker, mc=20)))
    with kit.load(shared, "rolled") as load:
        for _ in range(6):
            fresh = kit.backends.start("rolled", gate=20)
            shared.put(kit.endpoint("rolled", kit.route("blue", worker, fresh, mc=20)))
            versions = shared.put(kit.endpoint("rolled", kit.route("blue", fresh, mc=20)))
            assert shared.status.accepted["rolled"] == versions["rolled"]
            served = len(worker.seen) + worker.running
            time.sleep(0.05)
            assert len(worker.seen) <= served, "a worker that Envoy has let go of got a new request"
            kit.backends.stop(worker)
            worker = fresh
    assert load.failures == {}
    assert load.total > 100
    shared.drop("rolled")


def test_traffic_and_settings_of_a_cluster_change_under_load_with_no_failure(shared, kit):
    blue, green = kit.backends.start("blue", gate=20), kit.backends.start("green", gate=20)
    with_both = [kit.route("blue", blue, mc=20), kit.route("green", green, mc=20)]
    shared.put(kit.endpoint("mixed", *with_both))
    with kit.load(shared, "mixed") as load:
        for turn in range(8):
            # A new concurrency and a new health period change the cluster itself, which Envoy rebuilds.
            concurrency = 20 + turn
            began_s = time.monotonic()
            shared.put(
                kit.endpoint(
                    "mixed",
                    dataclasses.replace(
                        with_both[0], health_period_s=5.0 + turn, max_concurrent_requests=concurrency
                    ),
                    with_both[1],
                    traffic={"blue": 0, "green": 100} if turn % 2 else {"blue": 100},
                )
            )
            assert time.monotonic() - began_s < 10, "the rebuilt cluster waited for its workers"
    assert load.failures == {}
    shared.drop("mixed")


def test_other_endpoints_come_and_go_under_load_with_no_failure(shared, kit):
    worker = kit.backends.start("steady", gate=20)
    shared.put(kit.endpoint("steady", kit.route("blue", worker, mc=20)))
    with kit.load(shared, "steady") as load:
        for turn in range(6):
            name = f"guest{turn}"
            shared.put(kit.endpoint(name, kit.route("blue", worker, mc=20)))
            assert shared.score(name).status == 200
            shared.drop(name)
            kit.until(lambda name=name: shared.score(name).status == 404)
    assert load.failures == {}
    shared.drop("steady")


def test_a_first_request_right_after_acceptance_is_served(shared, kit):
    worker = kit.backends.start("prompt", gate=20)
    for turn in range(5):
        shared.put(kit.endpoint(f"prompt{turn}", kit.route("blue", worker, mc=20)))
        assert shared.score(f"prompt{turn}").status == 200
    for turn in range(5):
        shared.drop(f"prompt{turn}")


def test_what_validation_refuses_is_reported_for_that_endpoint_and_the_good_one_serves(shared, kit):
    worker = kit.backends.start("valid", gate=20)
    good = kit.endpoint("valid", kit.route("blue", worker))
    shared.put(good, kit.endpoint("other", kit.route("blue", worker)))
    # A timeout below zero is nothing the spec lets through; Envoy refuses the cluster.
    worse = dataclasses.replace(good.deployments[0], health_timeout_s=-1.0)
    bad = dataclasses.replace(good, deployments=(worse,))
    shared.put(bad, kit.endpoint("other", kit.route("blue", worker, mc=7)), wait=False)
    kit.until(lambda: "valid" in shared.status.rejected)
    assert "duration" in shared.status.rejected["valid"].lower()
    assert "key-one" not in shared.status.rejected["valid"]
    shared.publish(["other"])
    assert "other" not in shared.status.rejected
    assert [shared.score("valid").status, shared.score("other").status] == [200, 200]
    assert shared.status.healthy["valid~blue"] == (worker.path,)
    shared.put(good)
    kit.until(lambda: shared.status.rejected == {})
    shared.drop("valid")
    shared.drop("other")


def test_what_envoy_refuses_over_the_wire_is_reported_for_that_endpoint_and_the_good_one_serves(shared, kit):
    worker = kit.backends.start("wired", gate=20)
    good = kit.endpoint("wired", kit.route("blue", worker))
    shared.put(good)
    # A socket path over the system's limit: a matter of membership, which is not validated beforehand.
    too_long = "/" + "x" * 200
    worse = dataclasses.replace(good.deployments[0], addresses=(too_long,))
    bad = dataclasses.replace(good, deployments=(worse,))
    shared.put(bad, kit.endpoint("beside", kit.route("blue", worker)), wait=False)
    kit.until(lambda: "wired" in shared.status.rejected)
    shared.publish(["beside"])
    assert set(shared.status.rejected) == {"wired"}
    assert [shared.score("wired").status, shared.score("beside").status] == [200, 200]
    shared.put(good)
    kit.until(lambda: shared.status.rejected == {})
    shared.drop("wired")
    shared.drop("beside")


def test_a_publish_that_changes_nothing_touches_nothing(shared, kit):
    worker = kit.backends.start("same", gate=20)
    shared.put(kit.endpoint("same", kit.route("blue", worker)))
    before = shared.settings.snapshot.stat()
    shared.publish(["same"])
    after = shared.settings.snapshot.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    shared.drop("same")


@pytest.mark.parametrize("turn", range(3))
def test_requests_in_flight_on_a_removed_worker_finish(shared, kit, turn):
    old, new = kit.backends.start("old", gate=9), kit.backends.start("new", gate=9)
    shared.put(kit.endpoint("drained", kit.route("blue", old, mc=9)))
    answers = []

    def client() -> None:
        answers.append(shared.score("drained", x_sleep_ms="500"))

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    kit.until(lambda: old.running == 4)
    shared.put(kit.endpoint("drained", kit.route("blue", new, mc=9)))
    assert shared.score("drained").body == b"new"
    for thread in threads:
        thread.join()
    assert [(a.status, a.body) for a in answers] == [(200, b"old")] * 4
    shared.drop("drained")


def test_a_worker_that_vanishes_costs_at_most_what_was_in_flight_and_is_avoided_from_then_on(shared, kit):
    one, two = kit.backends.start("one", gate=20), kit.backends.start("two", gate=20)
    shared.put(kit.endpoint("halved", kit.route("blue", one, two, mc=20)))
    clients = 4
    with kit.load(shared, "halved", clients=clients) as load:
        kit.until(lambda: load.total > 50)
        kit.backends.stop(one)
        kit.until(lambda: shared.status.healthy["halved~blue"] == (two.path,))
        lost = sum(load.failures.values())
        assert lost <= clients
        assert set(load.failures) <= {502}
        already = load.total
        kit.until(lambda: load.total > already + 200)
    assert sum(load.failures.values()) == lost
    shared.drop("halved")


def test_a_worker_that_fails_its_checks_leaves_and_returns_when_it_recovers(shared, kit):
    sick, well = kit.backends.start("sick", gate=20), kit.backends.start("well", gate=20)
    base = kit.route("blue", sick, well, mc=20)
    checked = dataclasses.replace(base, health_period_s=3.0, health_timeout_s=1.0)
    shared.put(kit.endpoint("checked", checked))
    sick.health = 503
    began_s = time.monotonic()
    kit.until(lambda: shared.status.healthy["checked~blue"] == (well.path,))
    assert time.monotonic() - began_s > 0.25, "one failed check is not enough"
    assert {shared.score("checked").body for _ in range(10)} == {b"well"}
    sick.health = 200
    kit.until(lambda: len(shared.status.healthy["checked~blue"]) == 2)
    shared.drop("checked")
