"""Join codes as stored: how many machines each still lets in. The token itself is never stored, only its SHA-256."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, select, update

from callboard_broker.store.models import JoinRow
from callboard_broker.store.upsert import upsert

__all__ = ["JoinRecord", "add", "by_digest", "every", "remove", "remove_expired", "take"]


@dataclass(frozen=True, slots=True)
class JoinRecord:
    """One code; times in Unix seconds by the board's clock."""

    name: str
    digest: str
    uses: int
    used: int
    node: str | None
    ask: bool
    made: float
    expires: float
    by: str


def add(connection: Connection, record: JoinRecord) -> None:
    """Add a code."""
    upsert(connection, JoinRow, asdict(record))


def every(connection: Connection) -> list[JoinRecord]:
    """Return every code, the newest first."""
    rows = connection.execute(select(JoinRow.__table__).order_by(JoinRow.made.desc())).mappings()
    return [JoinRecord(**row) for row in rows]


def by_digest(connection: Connection, digest: str) -> JoinRecord | None:
    """Return the code with this token."""
    row = connection.execute(select(JoinRow.__table__).where(JoinRow.digest == digest)).mappings().first()
    return None if row is None else JoinRecord(**row)


def take(connection: Connection, name: str, now: float) -> bool:
    """Use a code once, if it is still good; returns whether it was. Of two at the same time one gets the last use."""
    taken = connection.execute(
        update(JoinRow)
        .where(JoinRow.name == name, JoinRow.used < JoinRow.uses, JoinRow.expires > now)
        .values(used=JoinRow.used + 1)
    )
    return taken.rowcount == 1


def remove(connection: Connection, name: str) -> bool:
    """Make a code worthless; returns whether there was one."""
    return connection.execute(delete(JoinRow).where(JoinRow.name == name)).rowcount == 1


def remove_expired(connection: Connection, before: float) -> None:
    """Forget the codes that expired before ``before`` (Unix seconds)."""
    connection.execute(delete(JoinRow).where(JoinRow.expires < before))
