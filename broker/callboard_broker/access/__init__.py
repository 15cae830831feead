"""Who may connect, and what each role may publish, subscribe to and receive."""

from callboard_broker.access.rules import Grant, Role, compile_grant, grant_for
from callboard_broker.access.users import User, Users, credential_file, ensure_first_users, users_file

__all__ = [
    "Grant",
    "Role",
    "User",
    "Users",
    "compile_grant",
    "credential_file",
    "ensure_first_users",
    "grant_for",
    "users_file",
]
