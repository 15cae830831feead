"""Logging in and out, and what the site is called."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from callboard_broker.http.context import Asker, Reader, Use, address, bearer
from callboard_core.errors import BadRequest

__all__ = ["router"]

router = APIRouter(tags=["session"])


class Credential(BaseModel):
    """A user name and its password."""

    username: str = Field(min_length=1, max_length=200)
    password: str = Field(min_length=1, max_length=1000)


class Session(BaseModel):
    """A token to send as ``Authorization: Bearer TOKEN``."""

    token: str
    username: str
    role: str
    rights: list[str] = Field(description="of read, command, admin")
    expires: float = Field(description="Unix seconds")


class Me(BaseModel):
    """Who is asking."""

    username: str
    role: str
    rights: list[str] = Field(description="of read, command, admin")


class Broker(BaseModel):
    """Where MQTT clients connect."""

    host: str
    port: int


class Site(BaseModel):
    """This board."""

    site: str = Field(description="first level of every topic")
    version: str
    mqtt: Broker


@router.post("/session", summary="Log in")
def log_in(credential: Credential, request: Request, use: Use) -> Session:
    """Exchange a password for a token. After several failures each further try has to wait."""
    person = use.logins.verify(credential.username, credential.password, address(request))
    login = use.logins.begin(person)
    use.audit.note(person.username, "login", person.username, detail=f"role {person.role}")
    return Session(
        token=login.token,
        username=person.username,
        role=person.role,
        rights=sorted(person.rights),
        expires=login.expires,
    )


@router.delete("/session", status_code=204, summary="Log out")
def log_out(_person: Asker, token: Annotated[str | None, Depends(bearer)], use: Use) -> None:
    """Make the token worthless."""
    if token is None:
        raise BadRequest("log out with the bearer token that is to end")
    use.logins.end(token)


@router.get("/me", summary="Who am I?")
def me(person: Asker) -> Me:
    """Return the user and role of the credential that was sent."""
    return Me(username=person.username, role=person.role, rights=sorted(person.rights))


@router.get("/site", summary="Which board is this?")
def site(_person: Reader, use: Use) -> Site:
    """Return the site's id, the version, and where MQTT clients connect."""
    return Site(
        site=use.site, version=use.version, mqtt=Broker(host=use.endpoint.host, port=use.endpoint.port)
    )
