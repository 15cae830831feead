"""What Alembic runs for each upgrade; the connection comes from ``migrate``."""

from __future__ import annotations

from alembic import context

from callboard_broker.store.farm_models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=False,  # the caller's transaction holds all of it
)
context.run_migrations()
