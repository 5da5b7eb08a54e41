"""What the two databases need to behave alike: how a connection is made, how a transaction begins, what a failure means.

With both, writing transactions of a workspace run one after the other, each from a state that nobody else changes
meanwhile; a commit that returned is on disk; reading transactions see one moment. Must not know what the rows mean.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from moorings.errors.exceptions import MooringsError, error
from moorings.lib.redaction import Redactor

BUSY_TIMEOUT_S = 10
"""How long one waits for the writer before it."""
CONNECT_TIMEOUT_S = 5
IDLE_WRITER_S = 10
"""A client that stops in the middle of a transaction (frozen, cut off) is thrown out by the server after this."""
SCHEMES = ("postgresql", "postgres")

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

_SESSION = (
    "SET default_transaction_isolation TO 'read committed'",
    "SET default_transaction_read_only TO off",
    f"SET lock_timeout TO '{BUSY_TIMEOUT_S}s'",
    f"SET idle_in_transaction_session_timeout TO '{IDLE_WRITER_S}s'",
    # A server may be set to answer before it has written; `remote_apply` and the like are more, and stay.
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
)
# Each statement of the transaction sees what was committed before it began; since every writer has the lock first,
# that is the same for all statements after it. The key is the schema's, so that workspaces may share a database.
_ONE_WRITER = "SELECT pg_advisory_xact_lock(hashtextextended('moorings/' || current_schema(), 0))"


def parse_url(text: str) -> URL:
    """`postgresql://user:password@host:port/database?sslmode=...` as a URL with its driver.

    Raises ValueError, without the text: it may hold a password.
    """
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        raise ValueError("it is no address of the form postgresql://user@host/database") from None
    if url.drivername not in SCHEMES:
        raise ValueError(f"its scheme is {url.drivername!r}; possible: postgresql")
    if not url.database:
        raise ValueError("it names no database")
    return url.set(drivername="postgresql+psycopg")


def shown(url: URL) -> str:
    """The address as people may see it."""
    if not is_server(url):
        return str(url.database)
    # Without its options: anything may be among them.
    bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    return bare.render_as_string()


def is_server(url: URL) -> bool:
    return url.get_backend_name() == "postgresql"


def make_engine(url: URL) -> Engine:
    """Connects to nothing yet."""
    if not is_server(url):
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_file)
        event.listen(engine, "begin", _begin_file)
        return engine
    engine = create_engine(
        url,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "moorings", **_KEEPALIVE},
        json_serializer=_without_nul,
        pool_pre_ping=True,  # the server may have been restarted since
        pool_timeout=BUSY_TIMEOUT_S,
    )
    event.listen(engine, "connect", _prepare_server)
    event.listen(engine, "begin", _begin_on_server)
    return engine


def failed(problem: Exception, url: URL) -> MooringsError:
    """The coded failure of what the database library raised; secrets of the URL are taken out."""
    reason = problem.orig if isinstance(problem, exc.DBAPIError) else problem
    if not is_server(url):
        return error(
            "StateUnavailable",
            f"the state database cannot be used: {reason}",
            target=url.database,
            fields={"path": Path(url.database or "").parent},
        )
    words = " ".join(str(reason).split())
    text = Redactor(secrets_of(url)).text(words)
    message = f"the state database cannot be used: {text}"
    return error("StateServerUnavailable", message, target=shown(url), fields={"url": shown(url)})


def secrets_of(url: URL) -> list[str]:
    """What no text may hold."""
    found = [url.password, *(url.query.get(k) for k in ("password", "sslpassword"))]
    return [str(each) for each in found if each]


_KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms: for what was sent and not confirmed, where keepalives do not look
}
"""A server whose machine is gone is noticed within some ten seconds."""


def _prepare_file(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN below is the only one
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_file(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN" if _reads(connection) else "BEGIN IMMEDIATE")


def _prepare_server(connection: Any, _record: Any) -> None:
    connection.autocommit = True  # what is set in a transaction that is rolled back is not set
    cursor = connection.cursor()
    for statement in _SESSION:
        cursor.execute(statement)
    cursor.close()
    connection.autocommit = False


def _begin_on_server(connection: Connection) -> None:
    reading = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
    connection.exec_driver_sql(reading if _reads(connection) else _ONE_WRITER)


def _reads(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("moorings_read", False))


def _without_nul(value: Any) -> str:
    """JSON as PostgreSQL can look into it: it has no character of the number 0."""
    text = json.dumps(value)
    return _NUL.sub(r"\1\\ufffd", text) if "\\u0000" in text else text
