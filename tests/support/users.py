"""Users for tests: one per role, named like it, with the password "ROLE-password"."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from callboard_broker.access import Role, Users, users_file

__all__ = ["make_users", "password"]


def password(role: str) -> str:
    """The password of a role's test user."""
    return f"{role}-password"


def make_users(state: Path) -> None:
    """Give a state folder its users, if it has none yet."""
    file = users_file(state)
    if not file.exists():
        state.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        file.write_bytes(_made())


@functools.cache
def _made() -> bytes:
    """The file; hashing its passwords takes as long as many a test."""
    with tempfile.TemporaryDirectory(prefix="users-") as folder:
        users = Users(users_file(Path(folder)))
        for role in Role:
            users.put(role, role, password(role))
        return users.path.read_bytes()
