"""Enrolment: join codes, and the machines that asked to be let in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    _joins()
    _enrolments()


def _text(name: str, *, nullable: bool = False, unique: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable, unique=unique)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _joins() -> None:
    op.create_table(
        "joins",
        sa.Column("name", sa.Text(), primary_key=True),
        _text("digest", unique=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        _text("node", nullable=True),
        sa.Column("ask", sa.Boolean(), nullable=False),
        _time("made"),
        _time("expires"),
        _text("by"),
    )


def _enrolments() -> None:
    op.create_table(
        "enrolments",
        sa.Column("number", sa.Integer(), primary_key=True),
        *(_text(name) for name in ("node", "state", "reason")),
        *(_text(name, nullable=True) for name in ("label", "host")),
        *(_text(name) for name in ("address", "key", "csr", "code")),
        _text("ticket", unique=True),
        _time("asked"),
        _time("decided", nullable=True),
        *(_text(name, nullable=True) for name in ("by", "authority")),
    )
    op.create_index("ix_enrolments_node", "enrolments", ["node"])
