"""The farm: projects and shots, jobs, frames, attempts, logs, slots, and settings changed while it runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    _jobs()
    _frames()
    _attempts()
    _slots()


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), primary_key=True, autoincrement=False)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _jobs() -> None:
    op.create_table(
        "farm_places",
        _key("id"),
        _text("kind"),
        sa.Column("parent", sa.Integer()),
        _text("name"),
        _text("document"),
    )
    op.create_table("farm_jobs", _key("id"), _text("state"), _text("document"), _text("spec"))


def _frames() -> None:
    op.create_table(
        "farm_segments",
        _key("job"),
        _key("step"),
        _key("segment"),
        sa.Column("states", sa.LargeBinary(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "farm_results",
        _key("job"),
        _key("step"),
        _key("frame"),
        _text("attempt"),
        sa.Column("t", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double()),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        _text("artifact", nullable=True),
        _text("thumbnail", nullable=True),
        sqlite_with_rowid=False,
    )


def _attempts() -> None:
    op.create_table(
        "farm_attempts",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        _text("node"),
        _text("slot"),
        _text("frames"),
        _text("state"),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("made", sa.Double(), nullable=False),
        sa.Column("started", sa.Double()),
        sa.Column("ended", sa.Double()),
        _text("fault", nullable=True),
        _text("code", nullable=True),
        _text("message", nullable=True),
    )
    op.create_index("farm_attempts_by_job", "farm_attempts", ["job"])
    op.create_index("farm_attempts_by_end", "farm_attempts", ["ended"])
    op.create_table(
        "farm_logs",
        _key("job"),
        sa.Column("attempt", sa.Text(), primary_key=True),
        _key("part"),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )


def _slots() -> None:
    op.create_table(
        "farm_slots",
        sa.Column("node", sa.Text(), primary_key=True),
        sa.Column("slot", sa.Text(), primary_key=True),
        _text("card"),
        _text("document"),
    )
    op.create_table("farm_settings", sa.Column("name", sa.Text(), primary_key=True), _text("value"))
