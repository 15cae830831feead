"""Roles: what users may do over MQTT and HTTP. For admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from callboard_broker.access import Right, Role
from callboard_broker.access.roles import make_rule
from callboard_broker.access.rules import Rule
from callboard_broker.http.context import Admin, Use

__all__ = ["router"]

router = APIRouter(prefix="/roles", tags=["people"])

Name = Annotated[str, Path(max_length=63, description="the role's name")]
Patterns = Annotated[list[str], Field(max_length=100)]


class RoleRule(BaseModel):
    """What a role may do. `{site}`, `{client}` and `{user}` in a pattern stand for site, client id and user name."""

    publish: Patterns = Field(default=[], description="topic filters it may publish to")
    subscribe: Patterns = Field(default=[], description="topic filters whose messages it may receive")
    never: Patterns = Field(default=[], description="topic filters taken away from publish")
    http: list[Right] = Field(default=[], max_length=3)
    note: str = Field(default="", max_length=500, description="what it is for")


class NamedRole(RoleRule):
    """One role."""

    name: str
    built_in: bool


class RoleList(BaseModel):
    """All roles, the built-in ones first."""

    items: list[NamedRole]


@router.get("", summary="All roles")
def roles(_person: Admin, use: Use) -> RoleList:
    """Return every role with what it may do."""
    return RoleList(items=[_shown(name, rule) for name, rule in use.people.roles().items()])


@router.get("/{name}", summary="One role")
def role(name: Name, _person: Admin, use: Use) -> NamedRole:
    """Return one role with what it may do."""
    return _shown(name, use.people.role(name))


@router.put("/{name}", summary="Add or change a role")
def put(name: Name, rule: RoleRule, person: Admin, use: Use) -> NamedRole:
    """Add a role or replace one; the sessions of those who have it end within 5 seconds, and they connect anew."""
    made = make_rule(**rule.model_dump())
    use.people.put_role(person.username, name, made)
    return _shown(name, made)


@router.delete("/{name}", status_code=204, summary="Remove a role")
def remove(name: Name, person: Admin, use: Use) -> None:
    """Remove a role that nobody has."""
    use.people.remove_role(person.username, name)


def _shown(name: str, rule: Rule) -> NamedRole:
    return NamedRole(
        name=name,
        built_in=name in set(Role),
        publish=list(rule.publish),
        subscribe=list(rule.subscribe),
        never=list(rule.never),
        http=[right for right in Right if right in rule.http],
        note=rule.note,
    )
