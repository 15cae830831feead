"""One database: connections for reading and for the one writer, and what an error of it means."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from callboard_broker.errors import StoreUnavailable
from callboard_broker.store.migrate import migrate
from callboard_core.errors import BadRequest

__all__ = ["Database", "Trouble", "trouble"]

#: Seconds a statement waits for another process's lock on SQLite before it counts as a stall.
_BUSY_SECONDS = 1.0
#: Seconds before PostgreSQL gives up on one of our statements; a stopped server is seen by the buffer long before.
_STATEMENT_SECONDS = 60

#: The SQLite library's own limit (limits.html, item 16).
_MOST_PAGES = 4_294_967_294

_SQLITE_FULL = {sqlite3.SQLITE_FULL}
_SQLITE_STALLS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PROTOCOL,
}
#: SQLSTATE classes: connection, insufficient resources, operator intervention, system error (PostgreSQL, appendix A).
_POSTGRES_STALLS = ("08", "53", "57", "58", "40", "55")
_DISK_FULL = "53100"


class Trouble(Enum):
    """What to do about a failed write."""

    FULL = "disk full"
    STALL = "try again"
    BUG = "never succeeds"


def trouble(error: Exception) -> Trouble:
    """Tell what a failed write means."""
    if isinstance(error, PoolTimeout):
        return Trouble.STALL
    if not isinstance(error, DBAPIError):
        return Trouble.BUG
    original = error.orig
    code = getattr(original, "sqlite_errorcode", None)
    if code is not None:
        return _sqlite_trouble(code & 0xFF)
    return _postgres_trouble(getattr(original, "sqlstate", None), lost=error.connection_invalidated)


def _sqlite_trouble(code: int) -> Trouble:
    if code in _SQLITE_FULL:
        return Trouble.FULL
    return Trouble.STALL if code in _SQLITE_STALLS else Trouble.BUG


def _postgres_trouble(state: str | None, *, lost: bool) -> Trouble:
    if state == _DISK_FULL:
        return Trouble.FULL
    # A connection that could not be made or broke has no SQLSTATE.
    return Trouble.STALL if lost or state is None or state.startswith(_POSTGRES_STALLS) else Trouble.BUG


class Database:
    """SQLite (write-ahead log, ``synchronous=NORMAL``) or PostgreSQL, by URL.

    Attributes:
        path: the SQLite file, if it is one.
        may_grow: set to False, an SQLite file keeps its size: what does not fit into room that was freed fails as if
            the disk were full. So the last of the disk stays for those who need it more.

    Raises:
        BadRequest: the URL is not one of these.
    """

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.path = Path(self.url.database) if self.sqlite and self.url.database else None
        self.may_grow = True
        self._engine = _make_engine(self.url)
        # SQLite lets one write at a time and makes others poll; here our own threads wait for their turn instead.
        self._turn: AbstractContextManager[object] = (
            threading.Lock() if self.sqlite else contextlib.nullcontext()
        )

    def open(self) -> None:
        """Make what is missing: the folder, the file, the tables.

        Raises:
            StoreUnavailable: the database cannot be reached or written.
            NewerDatabase: it belongs to a newer Callboard.
        """
        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.write() as connection:
                migrate(connection)
            if self.path is not None:
                self.path.chmod(0o600)
        except (OSError, DBAPIError) as error:
            shown = self.url.render_as_string(hide_password=True)
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise StoreUnavailable(
                f"cannot open the database {shown}: {reason}; check the path and its rights, or give --database"
            ) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one consistent state."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction; committed when the block ends well.

        Once the board runs, the writer's thread uses it for readings and notes, and the farm's for the farm.
        """
        with self._turn, self._engine.connect() as connection:
            connection = connection.execution_options(writes=True)  # noqa: PLW2901 - the same connection
            with connection.begin():
                if self.sqlite:
                    self._limit(connection)
                yield connection

    def _limit(self, connection: Connection) -> None:
        if connection.info.get("may_grow") != self.may_grow:
            pages = _MOST_PAGES if self.may_grow else 1  # SQLite takes the present size for less
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            connection.info["may_grow"] = self.may_grow

    def close(self) -> None:
        """Drop every connection."""
        self._engine.dispose()


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError):
        backend = ""
    match backend:
        case "sqlite":
            return parsed.set(drivername="sqlite")
        case "postgresql":
            return parsed.set(drivername="postgresql+psycopg")
    raise BadRequest(
        "database url: expected sqlite:////path/board.db or postgresql://user:password@host/name"
    )


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        options = f"-c statement_timeout={_STATEMENT_SECONDS * 1000} -c timezone=UTC"
        arguments: dict[str, Any] = {
            "connect_timeout": 5,
            "options": options,
            "application_name": "callboard",
        }
        return create_engine(url, connect_args=arguments, pool_pre_ping=True, pool_timeout=10)
    engine = create_engine(
        url, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False}, pool_timeout=10
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # We begin transactions ourselves: the driver's own begin is late, and a late write lock can deadlock.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA journal_size_limit=67108864")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
