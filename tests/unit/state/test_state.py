"""Resources, operations, assets and secrets in the state database: what a transaction promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text

from moorings.errors.exceptions import MooringsError
from moorings.lib.timing import ManualClock
from moorings.state import migrations
from moorings.state.database import Database
from moorings.state.tables import metadata
from moorings.state.transaction import ENDPOINT, KEEP_EVENTS, OperationStatus


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(tmp_path: Path, clock: ManualClock) -> Database:
    opened = Database.at(tmp_path / "state.db", clock)
    opened.open()
    return opened


def test_migrations_make_the_tables_the_code_uses(tmp_path: Path, database: Database) -> None:
    inspector = inspect(create_engine(f"sqlite:///{tmp_path / 'state.db'}"))
    for table in metadata.sorted_tables:
        found = {c["name"]: c["nullable"] for c in inspector.get_columns(table.name)}
        assert found == {c.name: c.nullable for c in table.columns}


def test_assets_of_an_older_state_get_their_containers(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "state.db"
    engine = create_engine(f"sqlite:///{path}")
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
    database = Database.at(path, clock)
    database.open()
    with database.read() as tx:
        assert [(c.name, c.created_at) for c in tx.asset_containers("models")] == [("m", 5.0)]
        hidden = tx.asset_container("models", "c")
        latest = tx.latest_asset("models", "m")
    assert hidden is not None and hidden.anonymous
    assert latest is not None and (latest.version, latest.archived, latest.updated_at) == ("2", False, 6.0)


def test_opening_twice_keeps_the_workspace_id(tmp_path: Path, clock: ManualClock) -> None:
    first = Database.at(tmp_path / "state.db", clock).open()
    assert Database.at(tmp_path / "state.db", clock).open() == first


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


def test_a_file_that_is_no_database_is_a_coded_error(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(MooringsError) as caught:
        Database.at(tmp_path / "state.db", clock).open()
    assert caught.value.failure.code == "StateUnavailable"
