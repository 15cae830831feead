"""What the board's integration tests share."""

from support.databases import database, database_url
from support.postgres import postgres

__all__ = ["database", "database_url", "postgres"]
