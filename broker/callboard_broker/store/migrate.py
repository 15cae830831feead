"""Brings a database to the tables of this version; a database already there costs one small query."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

from callboard_broker.errors import NewerDatabase

__all__ = ["HEAD", "migrate"]

#: The newest migration. Kept here so that a warm start does not import Alembic (0.3 s); a test compares.
HEAD = "0005"


def migrate(connection: Connection) -> None:
    """Run what is missing, inside the caller's transaction.

    Raises:
        NewerDatabase: the database is already beyond ``HEAD``.
    """
    found = revision(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise NewerDatabase(
            f"the database is at revision {found}, this Callboard knows up to {HEAD}: "
            "install the newer version, or give another --database"
        )
    _upgrade(connection)


def revision(connection: Connection) -> str | None:
    """Return the revision the database is at, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - only when there is something to do
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "callboard_broker.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
