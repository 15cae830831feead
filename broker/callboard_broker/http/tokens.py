"""API tokens: parts of users' rights for programs. For admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from callboard_broker.access import Right
from callboard_broker.http.context import Admin, Use
from callboard_broker.store.api_tokens import ApiTokenRecord

__all__ = ["router"]

router = APIRouter(prefix="/tokens", tags=["people"])


class NewToken(BaseModel):
    """A token to make."""

    username: str | None = Field(default=None, max_length=100, description="whose; the asker's if missing")
    scope: list[Right] = Field(min_length=1, max_length=3, description="which of the user's rights it has")
    expires: float | None = Field(
        default=None, description="Unix seconds; good until it is removed if missing"
    )
    note: str = Field(default="", max_length=500, description="what it is for")


class Token(BaseModel):
    """What is known of a token. Times are Unix seconds."""

    id: str
    username: str
    scope: list[Right]
    note: str
    created: float
    expires: float | None
    used: float | None = Field(description="last use, to the minute")


class TokenList(BaseModel):
    """Tokens, oldest first."""

    items: list[Token]


class MadeToken(Token):
    """A fresh token."""

    token: str = Field(description="send it as `Authorization: Bearer TOKEN`; shown this once")


@router.get("", summary="All tokens")
def tokens(
    _person: Admin, use: Use, username: Annotated[str | None, Query(max_length=100)] = None
) -> TokenList:
    """Return all tokens, or those of one user; never the tokens themselves."""
    return TokenList(items=[Token(**_known(record)) for record in use.people.tokens(username)])


@router.post("", status_code=201, summary="Make a token")
def add(new: NewToken, person: Admin, use: Use) -> MadeToken:
    """Make a token. It ends when it expires, is removed, or its user is removed."""
    token, record = use.people.add_token(
        person.username, new.username or person.username, new.scope, note=new.note, expires=new.expires
    )
    return MadeToken(**_known(record), token=token)


@router.delete("/{token_id}", status_code=204, summary="Remove a token")
def remove(token_id: Annotated[str, Path(max_length=32)], person: Admin, use: Use) -> None:
    """Make a token worthless."""
    use.people.remove_token(person.username, token_id)


def _known(record: ApiTokenRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "username": record.username,
        "scope": record.scope,
        "note": record.note,
        "created": record.created,
        "expires": record.expires,
        "used": record.used,
    }
