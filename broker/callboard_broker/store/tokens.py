"""Logins that have not ended. The token itself is never stored, only its SHA-256."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, select

from callboard_broker.store.models import TokenRow
from callboard_broker.store.upsert import upsert

__all__ = ["TokenRecord", "load", "remove", "remove_expired", "save"]


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One login; ``expires`` in Unix seconds; ``mark`` is the user's at the login."""

    digest: str
    username: str
    role: str
    expires: float
    mark: str = ""


def load(connection: Connection) -> list[TokenRecord]:
    """Return every login."""
    return [TokenRecord(**row) for row in connection.execute(select(TokenRow.__table__)).mappings()]


def save(connection: Connection, record: TokenRecord) -> None:
    """Add one login."""
    upsert(connection, TokenRow, asdict(record))


def remove(connection: Connection, digest: str) -> None:
    """End one login."""
    connection.execute(delete(TokenRow).where(TokenRow.digest == digest))


def remove_expired(connection: Connection, now: float) -> None:
    """End every login that expired before ``now`` (Unix seconds)."""
    connection.execute(delete(TokenRow).where(TokenRow.expires < now))
