"""Who may connect, and what each role may publish, subscribe to and receive."""

from callboard_broker.access.roles import Roles
from callboard_broker.access.rules import Grant, Right, Role, compile_grant
from callboard_broker.access.users import (
    Account,
    User,
    Users,
    credential_file,
    ensure_first_users,
    users_file,
)

__all__ = [
    "Account",
    "Grant",
    "Right",
    "Role",
    "Roles",
    "User",
    "Users",
    "compile_grant",
    "credential_file",
    "ensure_first_users",
    "users_file",
]
