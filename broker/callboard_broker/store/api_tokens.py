"""Tokens for programs. The token itself is never stored, only its SHA-256."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, select, update

from callboard_broker.store.models import ApiTokenRow
from callboard_broker.store.upsert import upsert

__all__ = ["ApiTokenRecord", "load", "remove", "save", "touch"]


@dataclass(frozen=True, slots=True)
class ApiTokenRecord:
    """One token. Times are Unix seconds; without ``expires`` it is good until it is removed."""

    id: str
    digest: str
    username: str
    note: str
    scope: tuple[str, ...]
    created: float
    expires: float | None
    used: float | None = None


def load(connection: Connection) -> list[ApiTokenRecord]:
    """Return every token."""
    rows = connection.execute(select(ApiTokenRow.__table__)).mappings()
    return [ApiTokenRecord(**{**row, "scope": tuple(row["scope"].split())}) for row in rows]


def save(connection: Connection, record: ApiTokenRecord) -> None:
    """Add one token."""
    upsert(connection, ApiTokenRow, {**asdict(record), "scope": " ".join(record.scope)})


def remove(connection: Connection, token_id: str) -> None:
    """Remove one token."""
    connection.execute(delete(ApiTokenRow).where(ApiTokenRow.id == token_id))


def touch(connection: Connection, token_id: str, used: float) -> None:
    """Note when a token was used last."""
    connection.execute(update(ApiTokenRow).where(ApiTokenRow.id == token_id).values(used=used))
