"""What a transaction on the state promises, whichever database it is: SQLite, or a real PostgreSQL."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import String, create_engine, inspect, text

from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.state import migrations
from moorings.state.database import Database, Fence
from moorings.state.dump import OURS
from moorings.state.servers import parse_url
from moorings.state.tables import metadata
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, KEEP_EVENTS, Mark, OperationStatus, Transaction


def engine_of(place: Path | str) -> Any:
    return create_engine(f"sqlite:///{place}" if isinstance(place, Path) else parse_url(place))


def test_migrations_make_the_tables_the_code_uses(connect_empty: Any) -> None:
    connect_empty().open()
    engine = engine_of(connect_empty.place)
    inspector = inspect(engine)
    for table in metadata.sorted_tables:
        columns = inspector.get_columns(table.name)
        assert {c["name"]: c["nullable"] for c in columns} == {c.name: c.nullable for c in table.columns}
        if engine.dialect.name == "postgresql":
            texts = [c for c in columns if isinstance(c["type"], String)]
            assert [(c["name"], c["type"].collation) for c in texts] == [(c["name"], "C") for c in texts]
    engine.dispose()


def test_assets_of_an_older_state_get_their_containers(connect_empty: Any) -> None:
    engine = engine_of(connect_empty.place)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for name, version, anonymous, at in (
            ("m", "1", True, 5.0),
            ("m", "2", False, 6.0),
            ("c", "1", True, 7.0),
        ):
            body = json.dumps({"isAnonymous": anonymous})
            connection.execute(
                text("INSERT INTO assets VALUES ('models', :name, :version, 'd', :body, :at)"),
                {"name": name, "version": version, "body": body, "at": at},
            )
    engine.dispose()
    database = connect_empty()
    database.open()
    with database.read() as tx:
        assert [(c.name, c.created_at) for c in tx.asset_containers("models")] == [("m", 5.0)]
        hidden = tx.asset_container("models", "c")
        latest = tx.latest_asset("models", "m")
    assert hidden is not None and hidden.anonymous
    assert latest is not None and (latest.version, latest.archived, latest.updated_at) == ("2", False, 6.0)


def test_opening_twice_keeps_the_workspace_id(connect_empty: Any) -> None:
    first = connect_empty().open("of-this-home")
    assert first == "of-this-home"
    assert connect_empty().open("of-another") == first


def test_generation_moves_only_when_the_spec_does(database: Database) -> None:
    with database.write() as tx:
        assert tx.put(ENDPOINT, "a", {"x": 1}).generation == 1
        assert tx.put(ENDPOINT, "a", {"x": 1}).generation == 1
        assert tx.put(ENDPOINT, "a", {"x": 2}).generation == 2
        assert tx.put(ENDPOINT, "a", {"x": 2}, touch=True).generation == 3


def test_a_failed_block_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as tx:
        tx.put(ENDPOINT, "a", {"x": 1})
        raise ZeroDivisionError
    with database.read() as tx:
        assert tx.resource(ENDPOINT, "a") is None


def test_a_newer_operation_takes_over_the_older_one(database: Database) -> None:
    with database.write() as tx:
        first = tx.start_operation("create", tx.put(ENDPOINT, "a", {"x": 1}))
        second = tx.start_operation("update", tx.put(ENDPOINT, "a", {"x": 2}))
    with database.read() as tx:
        old, new = tx.operation(first.id), tx.operation(second.id)
    assert old is not None and new is not None
    assert (old.status, new.status) == (OperationStatus.CANCELED, OperationStatus.IN_PROGRESS)
    assert old.error is not None and old.error["code"] == "OperationCanceled"


def test_equal_requests_share_the_generation_and_end_together(database: Database) -> None:
    with database.write() as tx:
        row = tx.put(ENDPOINT, "a", {"x": 1})
        operations = [tx.start_operation("create", row) for _ in range(3)]
        assert tx.finish_operations(row, OperationStatus.SUCCEEDED) == 3
        assert all(tx.operation(o.id).status is OperationStatus.SUCCEEDED for o in operations)  # type: ignore[union-attr]


def test_status_of_a_former_namesake_is_not_written(database: Database) -> None:
    with database.write() as tx:
        former = tx.put(ENDPOINT, "a", {"x": 1})
        gone = tx.mark_deleting(ENDPOINT, "a")
        assert gone is not None and tx.drop(gone)
        tx.put(ENDPOINT, "a", {"x": 1})
        assert not tx.set_status(former, {"conditions": {}})


def test_a_resource_desired_again_while_it_goes_is_not_dropped(database: Database) -> None:
    with database.write() as tx:
        tx.put(ENDPOINT, "a", {"x": 1})
        going = tx.mark_deleting(ENDPOINT, "a")
        tx.put(ENDPOINT, "a", {"x": 1})
        assert going is not None and not tx.drop(going)


def test_dropping_takes_the_secrets_along(database: Database) -> None:
    with database.write() as tx:
        tx.put(ENDPOINT, "a", {})
        tx.set_secret(ENDPOINT, "a", "primary", "cipher")
        going = tx.mark_deleting(ENDPOINT, "a")
        assert going is not None
        tx.drop(going)
        assert tx.secret_values(ENDPOINT, "a") == {}


def test_deployments_below_an_endpoint_are_its_own_only(database: Database) -> None:
    with database.write() as tx:
        for name in ("a/blue", "a/green", "ab/blue", "a_/blue"):
            tx.put("deployment", name, {})
        assert [d.name for d in tx.resources("deployment", below="a")] == ["a/blue", "a/green"]


def test_events_are_bounded(database: Database, clock: ManualClock) -> None:
    with database.write() as tx:
        for i in range(KEEP_EVENTS + 50):
            tx.add_event(ENDPOINT, "a", "Tick", str(i))
        kept = tx.events(ENDPOINT, "a")
    assert [e.message for e in kept] == [str(i) for i in range(50, KEEP_EVENTS + 50)]


def test_old_operations_are_forgotten_running_ones_never(database: Database, clock: ManualClock) -> None:
    with database.write() as tx:
        row = tx.put(ENDPOINT, "a", {})
        ended = tx.start_operation("create", row)
        tx.finish_operations(row, OperationStatus.SUCCEEDED)
        running = tx.start_operation("update", row)
    clock.advance(30 * 24 * 3600)
    with database.write() as tx:
        tx.start_operation("update", tx.put(ENDPOINT, "b", {}))
        assert tx.operation(ended.id) is None
        assert tx.operation(running.id) is not None


# --- several clients at once ---------------------------------------------------------------------------------


def test_clients_that_open_an_empty_state_at_once_agree_on_the_workspace(
    connect_empty: Any,
) -> None:
    ids: list[str] = []
    clients = [connect_empty() for _ in range(4)]
    threads = [threading.Thread(target=lambda c=c: ids.append(c.open())) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4 and len(set(ids)) == 1


def test_a_writer_waits_for_the_one_before_and_sees_what_it_wrote(connect: Any) -> None:
    """Else two could read the same row, and the second would overwrite what the first has decided."""
    first, second = connect(), connect()
    first.open()
    begun, seen = threading.Event(), []

    def later() -> None:
        begun.wait()
        with second.write() as tx:
            seen.append(tx.resource(ENDPOINT, "a"))

    thread = threading.Thread(target=later)
    thread.start()
    with first.write() as tx:
        assert tx.resource(ENDPOINT, "a") is None
        begun.set()
        time.sleep(0.2)  # time for the other to come as far as it can
        assert not seen
        tx.put(ENDPOINT, "a", {"x": 1})
    thread.join()
    assert seen[0] is not None and seen[0].spec == {"x": 1}


def test_counting_up_from_many_threads_loses_nothing(connect: Any) -> None:
    clients = [connect() for _ in range(4)]
    clients[0].open()

    def count(client: Database) -> None:
        for _ in range(25):
            with client.write() as tx:
                row = tx.resource(ENDPOINT, "n")
                tx.put(ENDPOINT, "n", {"n": 1 if row is None else row.spec["n"] + 1})

    threads = [threading.Thread(target=count, args=(c,)) for c in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with clients[1].read() as tx:
        row = tx.resource(ENDPOINT, "n")
    assert row is not None and (row.spec["n"], row.generation) == (100, 100)


def test_a_reader_sees_one_moment_while_others_write(connect: Any) -> None:
    reader, writer = connect(), connect()
    reader.open()
    with reader.read() as before:
        assert before.resource(ENDPOINT, "a") is None
        with writer.write() as tx:
            tx.put(ENDPOINT, "a", {})
            tx.add_event(ENDPOINT, "a", "Made", "it is there")
        assert before.resource(ENDPOINT, "a") is None and not before.events(ENDPOINT, "a")
    with reader.read() as after:
        assert after.resource(ENDPOINT, "a") is not None


def test_a_reader_keeps_no_writer_waiting(connect: Any) -> None:
    reader, writer = connect(), connect()
    reader.open()
    with reader.read() as tx:
        tx.resources(ENDPOINT)
        with writer.write() as other:
            other.put(ENDPOINT, "a", {})


# --- leases --------------------------------------------------------------------------------------------------


def test_a_lease_is_taken_once_and_its_token_grows(connect: Any) -> None:
    first, second = connect(), connect()
    first.open()
    with first.read() as tx:
        assert tx.lease("leader") is None
    with first.write() as tx:
        mine = tx.take_lease("leader", "a", None)
    with second.write() as tx:
        assert tx.take_lease("leader", "b", None) is None  # it has seen none, and there is one by now
        assert mine is not None and mine.token == 1
        beaten = tx.beat_lease(mine)
        assert tx.take_lease("leader", "b", mine) is None  # there was a sign of life since
        taken = tx.take_lease("leader", "b", beaten)
        assert taken is not None and (taken.holder, taken.token) == ("b", 2)
    with first.write() as tx:
        assert tx.beat_lease(mine) is None
        ended = tx.beat_lease(taken, end=True)
        assert ended is not None and (ended.holder, ended.token) == ("", 2)


def test_who_has_lost_the_lease_writes_nothing(connect: Any) -> None:
    plain = connect()
    plain.open()
    old, new = Fence(), Fence()
    with plain.write() as tx:
        old.lease = tx.take_lease("leader", "old", None)
    stale = plain.fenced(old)
    with stale.write() as tx:
        row = tx.put(ENDPOINT, "a", {"x": 1})
    with plain.write() as tx:
        new.lease = tx.take_lease("leader", "new", tx.lease("leader"))
    for act in (lambda tx: tx.put(ENDPOINT, "a", {"x": 2}), lambda tx: tx.set_status(row, {"y": 1})):
        with pytest.raises(MooringsError) as caught, stale.write() as tx:
            act(tx)
        assert caught.value.failure.code == "NotLeader" and "new leads" in caught.value.failure.message
    with plain.fenced(Fence()).read() as tx:
        found = tx.resource(ENDPOINT, "a")
    assert found is not None and (found.spec, found.status) == ({"x": 1}, {})
    with pytest.raises(MooringsError), stale.acting().read():
        pytest.fail("it acts on what it reads")
    with plain.fenced(new).acting().read() as tx:
        assert tx.resource(ENDPOINT, "a") == found
    with plain.fenced(new).write() as tx:
        assert tx.put(ENDPOINT, "a", {"x": 3}).generation == 2


def test_of_many_candidates_at_once_one_wins(connect: Any) -> None:
    clients = [connect() for _ in range(6)]
    clients[0].open()
    won: list[str] = []

    def run(client: Database, name: str) -> None:
        with client.read() as tx:
            seen = tx.lease("leader")
        with client.write() as tx:
            if tx.take_lease("leader", name, seen) is not None:
                won.append(name)

    threads = [threading.Thread(target=run, args=(c, str(n))) for n, c in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with clients[0].read() as tx:
        lease = tx.lease("leader")
    assert lease is not None and len(won) == lease.token and lease.holder == won[-1]


# --- the same answers from both ------------------------------------------------------------------------------


def test_names_are_sorted_and_cut_by_their_characters(database: Database) -> None:
    names = ["B", "a", "_", "ab", "a-b", "a/b", "Z1", "\u00e4", "a b", "\U0001f600"]
    with database.write() as tx:
        for name in names:
            tx.put(ENDPOINT, name, {})
            _put_blob(tx, name)
        assert [r.name for r in tx.resources(ENDPOINT)] == sorted(names)
        assert [b.name for b in tx.blobs("c", "")] == sorted(names)
        assert [b.name for b in tx.blobs("c", "a")] == ["a", "a b", "a-b", "a/b", "ab"]
        assert [b.name for b in tx.blobs("c", "a", after="a-b")] == ["a/b", "ab"]


def _put_blob(tx: Transaction, name: str, **more: Any) -> None:
    given = {"size_bytes": 1 << 40, "sha256": "", "content_type": "", "words": {}, "blocks": None, **more}
    tx.put_blob("c", name, data=name, **given)


def test_names_that_differ_in_case_alone_are_two(database: Database) -> None:
    with database.write() as tx:
        tx.put(DEPLOYMENT, "shop/blue", {})
        tx.put(DEPLOYMENT, "SHOP/blue", {})
        assert [d.name for d in tx.resources(DEPLOYMENT, below="shop")] == ["shop/blue"]


def test_text_of_any_length_and_kind_comes_back_as_it_was(database: Database) -> None:
    long = "x" * 5000
    with database.write() as tx:
        _put_blob(tx, long, content_type=long)
        tx.add_event(ENDPOINT, "a", "Said", "a NUL: \0, half a character: \ud83d")
        tx.put(ENDPOINT, "a", {"z": 1, "a": [1.5, None, "\u00e4\U0001f600"], "n": 2**60})
        tx.add_asset(
            "models", "m", "1", digest=None, body={"stage": "dev", "words": "a NUL: \0; none: \\u0000"}
        )
    with database.read() as tx:
        found = tx.blob("c", long)
        assert found is not None and (found.content_type, found.size_bytes) == (long, 1 << 40)
        assert tx.events(ENDPOINT, "a")[0].message.startswith("a NUL: \ufffd, half")
        row = tx.resource(ENDPOINT, "a")
        assert row is not None and next(iter(row.spec.items())) == ("z", 1)
        assert row.spec["a"] == [1.5, None, "\u00e4\U0001f600"] and row.spec["n"] == 2**60
        [asset] = tx.asset_versions("models", "m", stage="dev")
        assert asset.body["words"].endswith("none: \\u0000")


def test_what_refers_to_content_is_found(database: Database) -> None:
    digest = "d" * 64
    with database.write() as tx:
        assert not tx.mentions(digest)
        tx.add_asset(
            "data", "d", "1", digest=None, body={"path": f"x/{digest}/y", "properties": {"hash_sha256": "h"}}
        )
        assert tx.mentions(digest) and not tx.mentions("e" * 64)
        assert [a.name for a in tx.assets_by_hash("data", "h")] == ["d"]


# --- PostgreSQL alone ----------------------------------------------------------------------------------------


def test_a_password_is_in_no_message_and_no_name(postgres: Any, clock: ManualClock) -> None:
    url = postgres.new_url()
    secret = url.split(":")[2].split("@")[0]
    for wrong, said in (
        (url.replace("moorings:", "nobody:"), "password authentication failed"),
        (url.replace(str(postgres.port), "1"), "refused"),
        (f"{url}?sslmode=verify-full&sslpassword={secret}", ""),
        (f"{url}?nonsense={secret}", ""),
    ):
        database = Database.at(wrong, clock)
        with pytest.raises(MooringsError) as caught:
            database.open()
        failed = caught.value.failure
        assert failed.code == "StateServerUnavailable" and said in failed.message
        database.close()
        for text_ in (str(failed.to_json()), repr(failed), database.shown, repr(database)):
            assert secret not in text_ and postgres.password not in text_, text_


@pytest.mark.parametrize(
    "wrong", ["mysql://u:geheim7@h/d", "postgresql://u:geheim7@h", "geheim7", "postgresql://u:geheim7@h:x/d"]
)
def test_an_address_of_no_postgresql_is_refused_without_its_password(wrong: str) -> None:
    with pytest.raises(ValueError, match="it") as caught:
        parse_url(wrong)
    assert "geheim7" not in str(caught.value)


def test_a_server_that_was_restarted_is_used_again(postgres: Any, clock: ManualClock) -> None:
    database = Database.at(postgres.new_url(), clock)
    database.open()
    with database.write() as tx:
        tx.put(ENDPOINT, "a", {})
    postgres.stop()
    with pytest.raises(MooringsError) as caught, database.read() as tx:
        tx.resource(ENDPOINT, "a")
    assert caught.value.failure.code == "StateServerUnavailable"
    postgres.start()
    with database.read() as tx:
        assert tx.resource(ENDPOINT, "a") is not None
    database.close()


def test_workspaces_in_schemas_of_one_database_do_not_meet(postgres: Any, clock: ManualClock) -> None:
    url = postgres.new_url()
    with postgres.connect(url) as connection:
        connection.execute("CREATE SCHEMA one")
        connection.execute("CREATE SCHEMA two")
    one = Database.at(f"{url}?options=-csearch_path%3Done", clock)
    two = Database.at(f"{url}?options=-csearch_path%3Dtwo", clock)
    assert one.open() != two.open()
    with one.write() as first, two.write() as second:  # nobody waits
        first.put(ENDPOINT, "a", {})
        assert second.resource(ENDPOINT, "a") is None
    one.close()
    two.close()


def test_a_server_with_other_habits_does_not_change_ours(postgres: Any, clock: ManualClock) -> None:
    url = postgres.new_url()
    name = url.rpartition("/")[2]
    with postgres.connect(url) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation TO 'serializable'")
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only TO on")
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit TO off")
    database = Database.at(url, clock)
    database.open()
    with database.write() as tx:
        shown = [
            tx._connection.exec_driver_sql(f"SHOW {what}").scalar()
            for what in ("transaction_isolation", "synchronous_commit")
        ]
        tx.put(ENDPOINT, "a", {})
    assert shown == ["read committed", "on"]
    database.close()


def test_every_table_of_every_revision_is_known_to_backups(empty: Path | str) -> None:
    """A table that a migration drops has to stay in `dump.OURS`: there are states, and backups, that have it."""
    url = f"sqlite:///{empty}" if isinstance(empty, Path) else parse_url(empty)
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    seen: set[str] = set()
    for revision in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision.revision)
            seen |= set(inspect(connection).get_table_names())
    engine.dispose()
    assert len(seen) > 10 and seen <= OURS


def test_only_what_may_scale_is_read_for_scaling(database: Database) -> None:
    plain = {"scale_settings": {"type": "default", "target_utilization_percentage": 70}}
    scaling = {"scale_settings": {"type": "target_utilization"}}
    with database.write() as tx:
        tx.put(DEPLOYMENT, "shop/plain", plain)
        tx.put(DEPLOYMENT, "shop/scaling", scaling)
        tx.put(DEPLOYMENT, "shop/ruled", plain)
        tx.set_autoscale(tx.resource(DEPLOYMENT, "shop/ruled"), {"name": "rules"})
        tx.put(ENDPOINT, "shop", scaling)
    with database.read() as tx:
        assert [row.name for row in tx.may_scale('"target_utilization"')] == ["shop/ruled", "shop/scaling"]


def test_a_mark_differs_whenever_there_is_something_new_to_do(database: Database) -> None:
    def mark() -> Mark | None:
        with database.read() as tx:
            assert tx.marks(DEPLOYMENT).get("shop/blue") == tx.marks(DEPLOYMENT, "shop/blue").get("shop/blue")
            assert tx.names(DEPLOYMENT) == list(tx.marks(DEPLOYMENT))
            return tx.marks(DEPLOYMENT).get("shop/blue")

    seen = [mark()]
    with database.write() as tx:
        row = tx.put(DEPLOYMENT, "shop/blue", {"a": 1})
        tx.put(DEPLOYMENT, "shop/green", {"a": 1})
    seen.append(mark())
    with database.write() as tx:
        tx.set_status(row, {"seen": True})
        tx.start_operation("update", tx.put(DEPLOYMENT, "shop/green", {"a": 2}))
    assert mark() == seen[-1], "what was observed is nothing new to do, nor is what others wait for"
    for change in (
        lambda tx: tx.start_operation("update", row),
        lambda tx: tx.set_autoscale(row, {"name": "rules"}),
        lambda tx: tx.set_scale(row, {"count": 2}),
        lambda tx: tx.put(DEPLOYMENT, "shop/blue", {"a": 2}),
        lambda tx: tx.mark_deleting(DEPLOYMENT, "shop/blue"),
    ):
        with database.write() as tx:
            change(tx)
        assert mark() not in seen
        seen.append(mark())
