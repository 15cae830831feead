"""The database's part of a backup: always an SQLite file, made from either kind of database and put into either."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from callboard_broker.errors import BadBackup, StoreUnavailable
from callboard_broker.store.database import Database
from callboard_broker.store.farm_models import Base
from callboard_broker.store.migrate import HEAD, revision
from callboard_core.errors import Conflict

__all__ = ["check", "copy_sqlite", "fill", "revision_of", "snapshot"]

#: Pages of an SQLite file, and rows of another database, copied at a time.
_PAGES = 1024
_ROWS = 2_000
#: Seconds to wait for somebody who holds the file for himself, as after a crash.
_PATIENCE = 10.0


def snapshot(url: str, target: Path) -> None:
    """Write what the database holds at this moment into a new SQLite file, while others go on writing.

    Raises:
        StoreUnavailable: the database cannot be read.
        Conflict: its tables are not of this version.
    """
    database = Database(url)
    try:
        if database.path is not None:
            copy_sqlite(database.path, target)
        else:
            _snapshot_tables(database, target)
    except (DBAPIError, sqlite3.Error, OSError) as error:
        shown = database.url.render_as_string(hide_password=True)
        raise StoreUnavailable(
            f"cannot read the database {shown}: {getattr(error, 'orig', error)}"
        ) from error
    finally:
        database.close()


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy an SQLite file as it is at this moment, while others go on writing.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    with (
        closing(
            sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=_PATIENCE)
        ) as there,
        closing(sqlite3.connect(target)) as here,
    ):
        # Without a transaction of its own the copy would begin anew whenever somebody writes.
        there.execute("BEGIN")
        there.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        there.backup(here, pages=_PAGES)
        there.rollback()
        here.execute("PRAGMA journal_mode=DELETE")


def check(file: Path) -> str | None:
    """Return the revision of the tables in an SQLite file that came from a backup.

    Raises:
        BadBackup: the file is damaged.
    """
    try:
        with closing(sqlite3.connect(file)) as database:
            # A view or trigger of somebody else's would run when we use the tables.
            odd = database.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger')"
            ).fetchall()
            if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",) or odd:
                raise BadBackup("the database in the backup is damaged; use another backup")
    except sqlite3.Error as error:
        raise BadBackup(f"the database in the backup is damaged ({error}); use another backup") from None
    return revision_of(file)


def revision_of(file: Path) -> str | None:
    """Return the revision of the tables in an SQLite file."""
    database = Database(f"sqlite:///{file}")
    try:
        with database.read() as connection:
            return revision(connection)
    finally:
        database.close()


def fill(url: str, source: Path, *, replace: bool, before_commit: Callable[[], None]) -> None:
    """Put all rows of an SQLite file, which is at ``HEAD``, into another database, all or none.

    Args:
        url: where to; tables are made when they are missing.
        source: the file.
        replace: whether rows that are there may go.
        before_commit: what else has to succeed.

    Raises:
        Conflict: it holds rows, and ``replace`` was not given.
        StoreUnavailable: it cannot be written.
    """
    target, origin = Database(url), Database(f"sqlite:///{source}")
    try:
        target.open()
        with target.write() as into, origin.read() as out:
            _check_empty(into, target, replace=replace)
            for table in _tables(into):
                into.execute(table.delete())
                _copy(table, out, into)
                _renumber(table, into)
            before_commit()
    except DBAPIError as error:
        raise StoreUnavailable(f"cannot write the database: {error.orig}") from error
    finally:
        target.close()
        origin.close()


def _check_empty(connection: Connection, database: Database, *, replace: bool) -> None:
    held = [table.name for table in _tables(connection) if connection.execute(select(table).limit(1)).first()]
    if held and not replace:
        shown = database.url.render_as_string(hide_password=True)
        raise Conflict(
            f"the database {shown} holds data; give an empty one with --database, or replace it with --yes"
        )


def _snapshot_tables(database: Database, target: Path) -> None:
    into = Database(f"sqlite:///{target}")
    try:
        into.open()
        with database.read() as out, into.write() as connection:
            out.execution_options(isolation_level="REPEATABLE READ")  # one snapshot for all tables
            found = revision(out)
            if found != HEAD:
                raise Conflict(
                    f"the database is at revision {found}, this Callboard's is {HEAD}; start the board once with this "
                    "version, or back up with the one that it runs"
                )
            for table in _tables(out):
                _copy(table, out, connection)
    finally:
        into.close()
    with closing(sqlite3.connect(target)) as file:
        file.execute("PRAGMA journal_mode=DELETE")


def _tables(connection: Connection) -> Sequence[Table]:
    names = set(inspect(connection).get_table_names()) - {"alembic_version"}
    known = {table.name for table in Base.metadata.sorted_tables}
    if names - known and connection.dialect.name == "sqlite":
        raise BadBackup(f"the database holds the unknown table {min(names - known)!r}; use another backup")
    return [table for table in Base.metadata.sorted_tables if table.name in names]


def _copy(table: Table, out: Connection, into: Connection) -> None:
    for rows in _batches(out, table):
        into.execute(insert(table), rows)


def _batches(connection: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    found = connection.execution_options(yield_per=_ROWS).execute(select(table)).mappings()
    for rows in found.partitions(_ROWS):
        yield [dict(row) for row in rows]


def _renumber(table: Table, connection: Connection) -> None:
    """Let PostgreSQL go on counting behind the rows that came with their numbers."""
    column = table.autoincrement_column
    if column is None or connection.dialect.name != "postgresql":
        return
    counter = connection.execute(select(func.pg_get_serial_sequence(table.name, column.name))).scalar()
    highest = connection.execute(select(func.max(column))).scalar()
    if counter is not None and highest is not None:
        connection.execute(
            text("SELECT setval(:counter, :highest)"), {"counter": counter, "highest": highest}
        )
