"""The first tables: nodes, cards, statuses, readings with their roll-ups, refused messages, tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    _people()
    _directory()
    _readings()
    _texts()


def _people() -> None:
    op.create_table(
        "tokens",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
    )


def _directory() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("card", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("epoch", sa.BigInteger()),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double()),
        sa.Column("skew", sa.Double()),
    )
    op.create_table(
        "cards",
        sa.Column("node", sa.Text(), primary_key=True),
        sa.Column("kind", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
    )
    op.create_table(
        "statuses",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("t", sa.Double(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
    )
    op.create_index("statuses_by_node", "statuses", ["node", "t"])
    op.create_table(
        "refused",
        sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("t", sa.Double(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("node", sa.Text()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
    )


def _readings() -> None:
    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.UniqueConstraint("node", "kind", "name", name="series_thing"),
    )
    _points("readings", sa.Column("value", sa.Double(), nullable=False))
    _points("late", sa.Column("value", sa.Double(), nullable=False))
    _points("unrolled")
    for level in ("minutes", "hours"):
        _points(
            level,
            sa.Column("low", sa.Double(), nullable=False),
            sa.Column("mean", sa.Double(), nullable=False),
            sa.Column("high", sa.Double(), nullable=False),
            sa.Column("n", sa.BigInteger(), nullable=False),
        )
    op.create_table(
        "horizons",
        sa.Column("level", sa.Text(), primary_key=True),
        sa.Column("until", sa.BigInteger(), nullable=False),
    )


def _texts() -> None:
    op.create_table(
        "words",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False, unique=True),
    )
    _points("texts", sa.Column("word", sa.Integer(), nullable=False))


def _points(table: str, *columns: sa.Column[float] | sa.Column[int]) -> None:
    op.create_table(
        table,
        sa.Column("series", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("t", sa.BigInteger(), primary_key=True, autoincrement=False),
        *columns,
        sqlite_with_rowid=False,
    )
