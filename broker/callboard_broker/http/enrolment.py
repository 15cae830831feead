"""Letting machines in: what a machine asks, and what operators see and decide."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from callboard_broker.http.context import Asker, Commander, Reader, Use, address
from callboard_broker.services.enrolment import AT_ONCE
from callboard_core.errors import CallboardError, Forbidden
from callboard_core.trust.enrolment import (
    Action,
    Decision,
    Enrol,
    Enrolled,
    EnrolmentView,
    Join,
    JoinView,
    MadeJoin,
    Pending,
    Renew,
    Renewed,
)

__all__ = ["router"]

router = APIRouter(tags=["enrolment"])

#: Each takes a core for a while; the others wait here instead of holding the threads of other requests.
_turn = asyncio.Semaphore(AT_ONCE)

_WAITING = 202


class Joins(BaseModel):
    """Join codes, the newest first."""

    items: list[JoinView]


class Enrolments(BaseModel):
    """Who asked to be let in, the newest first."""

    items: list[EnrolmentView]


@router.post("/enrol", summary="Ask to be let in", responses={_WAITING: {"model": Pending}})
async def enrol(asked: Enrol, request: Request, response: Response, use: Use) -> Enrolled | Pending:
    """For a machine that has a join code. 202 means that an operator has to say yes first: ask with the ticket."""
    try:
        async with _turn:
            found = await run_in_threadpool(use.desk.enrol, asked, address(request))
    except CallboardError as error:
        use.audit.note("", "enrol.refused", asked.id, result=error.code, detail=error.message)
        raise
    return _answered(found, response)


@router.get("/enrol/{ticket}", summary="Ask again", responses={_WAITING: {"model": Pending}})
async def collect(
    ticket: Annotated[str, Path(max_length=100)], response: Response, use: Use
) -> Enrolled | Pending:
    """For a machine that waits for an operator's word."""
    async with _turn:
        found = await run_in_threadpool(use.desk.collect, ticket)
    return _answered(found, response)


@router.post("/enrol/renew", summary="Renew a node's certificate")
def renew(asked: Renew, person: Asker, use: Use) -> Renewed:
    """For a node, with its own user name and password; the earlier certificate is worthless from now on."""
    if person.role != "node":
        raise Forbidden(f"{person.username} is no node; only nodes have certificates")
    return use.desk.renew(asked, person.username)


@router.get("/enrolments", summary="Who asked to be let in")
def enrolments(_person: Reader, use: Use) -> Enrolments:
    """Return those who wait, and what became of the others."""
    return Enrolments(items=use.desk.items())


@router.post("/enrolments/{number}", summary="Let somebody in, or not")
def decide(
    number: Annotated[int, Path(ge=1, lt=2**31)], decision: Decision, person: Commander, use: Use
) -> EnrolmentView:
    """Decide about one who waits (accept, reject), or take the credential away from one who is in (revoke)."""
    if decision.action is Action.REVOKE:
        return use.desk.revoke(number, person.username)
    return use.desk.decide(number, person.username, accept=decision.action is Action.ACCEPT)


@router.get("/joins", summary="Join codes")
def joins(_person: Commander, use: Use) -> Joins:
    """Return every join code, without what makes it one."""
    return Joins(items=use.join_codes.items())


@router.post("/joins", summary="Make a join code")
def make_join(wanted: Join, person: Commander, use: Use) -> MadeJoin:
    """Make a join code. It is shown this once."""
    made = use.join_codes.make(wanted, person.username)
    whose = f"for {made.uses} machine{'s' * (made.uses > 1)}, with {made.id or 'any id'}"
    use.audit.note(person.username, "join.make", made.name, detail=whose)
    return made


@router.delete("/joins/{name}", status_code=204, summary="Revoke a join code")
def revoke_join(name: Annotated[str, Path(max_length=100)], person: Commander, use: Use) -> None:
    """Make a join code worthless."""
    use.join_codes.revoke(name)
    use.audit.note(person.username, "join.revoke", name)


def _answered(found: Enrolled | Pending, response: Response) -> Enrolled | Pending:
    if isinstance(found, Pending):
        response.status_code = _WAITING
    return found
