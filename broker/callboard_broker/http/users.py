"""Users: who may log in, with which role. For admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from callboard_broker.access import Account, Right
from callboard_broker.http.context import Admin, Use

__all__ = ["router"]

router = APIRouter(prefix="/users", tags=["people"])

Name = Annotated[str, Path(max_length=100, description="the user's name")]
Password = Annotated[
    str | None,
    Field(max_length=1000, description="at least 8 characters; one is made, and shown this once, if missing"),
]

KeepTokens = Annotated[
    bool,
    Field(description="whether its API tokens stay; otherwise a new password, or disabling it, ends them"),
]


class User(BaseModel):
    """One user."""

    name: str
    role: str
    rights: list[Right] = Field(description="what the role may do over HTTP")
    disabled: bool
    client_id: str = Field(description="the only MQTT client id its credential is good for; empty for any")
    certificate: str = Field(
        description="SHA-256 of the client certificate that is valid for it; empty for none"
    )


class UserList(BaseModel):
    """All users, by name."""

    items: list[User]


class NewUser(BaseModel):
    """A user to add."""

    name: str = Field(max_length=63)
    role: str = Field(max_length=63)
    password: Password = None
    client_id: str = Field(default="", max_length=64, description="bind it to one MQTT client id")


class UserChange(BaseModel):
    """What is to be another; what is missing stays."""

    role: str | None = Field(default=None, max_length=63)
    disabled: bool | None = None
    keep_tokens: KeepTokens = False


class NewPassword(BaseModel):
    """A password to take the place of the old one."""

    password: Password = None
    keep_tokens: KeepTokens = False


class Made(BaseModel):
    """A user, and the password that was made for it."""

    user: User
    password: str | None = Field(description="shown this once; null if one was given")
    tokens_ended: int = Field(default=0, description="its API tokens that have ended")


class Changed(User):
    """A user after a change."""

    tokens_ended: int = Field(description="its API tokens that have ended")


@router.get("", summary="All users")
def users(_person: Admin, use: Use) -> UserList:
    """Return everybody who may log in, and who is disabled."""
    return UserList(items=[_shown(use, account) for account in use.people.accounts()])


@router.post("", status_code=201, summary="Add a user")
def add(new: NewUser, person: Admin, use: Use) -> Made:
    """Add a user."""
    made = use.people.add(person.username, new.name, new.role, new.password, client_id=new.client_id)
    return Made(user=_shown(use, use.people.account(new.name)), password=made)


@router.get("/{name}", summary="One user")
def user(name: Name, _person: Admin, use: Use) -> User:
    """Return one user."""
    return _shown(use, use.people.account(name))


@router.patch("/{name}", summary="Change a user")
def change(name: Name, change: UserChange, person: Admin, use: Use) -> Changed:
    """Give a user another role, disable or enable it; its sessions end within 5 seconds."""
    ended = 0
    if change.role is not None:
        use.people.change_role(person.username, name, change.role)
    if change.disabled is not None:
        ended = use.people.disable(
            person.username, name, disabled=change.disabled, keep_tokens=change.keep_tokens
        )
    return Changed(**_shown(use, use.people.account(name)).model_dump(), tokens_ended=ended)


@router.post("/{name}/password", summary="New password")
def password(name: Name, new: NewPassword, person: Admin, use: Use) -> Made:
    """Replace a user's password; its sessions end within 5 seconds, and its API tokens unless they are kept."""
    made, ended = use.people.change_password(person.username, name, new.password, keep_tokens=new.keep_tokens)
    return Made(user=_shown(use, use.people.account(name)), password=made, tokens_ended=ended)


@router.delete("/{name}", status_code=204, summary="Remove a user")
def remove(name: Name, person: Admin, use: Use) -> None:
    """Remove a user with its tokens; its sessions end within 5 seconds."""
    use.people.remove(person.username, name)


def _shown(use: Use, account: Account) -> User:
    found = account.user
    rights = use.people.roles().get(found.role)
    return User(
        name=found.name,
        role=found.role,
        rights=[right for right in Right if rights is not None and right in rights.http],
        disabled=account.disabled,
        client_id=found.client_id,
        certificate=found.certificate,
    )
