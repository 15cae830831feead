"""People: what everybody did, tokens for programs, and logins that end with a changed password."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    op.add_column("tokens", _text("mark", server_default=""))
    _api_tokens()
    _audit()


def _text(name: str, *, server_default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default=server_default)


def _api_tokens() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("digest", sa.Text(), nullable=False, unique=True),
        _text("username"),
        _text("note"),
        _text("scope"),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double()),
        sa.Column("used", sa.Double()),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("t", sa.Double(), nullable=False),
        *(_text(name) for name in ("who", "origin", "what", "subject", "result", "detail")),
        sa.Column("count", sa.Integer(), nullable=False),
    )
    op.create_index("audit_by_time", "audit", ["t"])
    op.create_index("audit_by_who", "audit", ["who", "id"])
