"""Updates of nodes: what was published, how it went out, and how each node fared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "update_manifests",
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        *(_text(name) for name in ("kind", "version")),
        sa.Column("created", sa.Double(), nullable=False),
        *(_text(name) for name in ("by", "manifest", "signature")),
    )
    op.create_table(
        "update_rollouts",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        *(_text(name) for name in ("by", "state", "reason", "terms")),
    )
    op.create_table(
        "updates",
        sa.Column("rollout", sa.Text(), primary_key=True),
        sa.Column("node", sa.Text(), primary_key=True),
        sa.Column("place", sa.Integer(), nullable=False),
        *(_text(name) for name in ("stage", "reason", "version")),
        sa.Column("started", sa.Double()),
        sa.Column("ended", sa.Double()),
    )
    op.create_index("updates_by_node", "updates", ["node"])


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)
