"""What every request can reach: the board's services, and who is asking."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader

from callboard_broker.services.api_tokens import is_token
from callboard_broker.services.artifacts import Artifacts
from callboard_broker.services.audit import Audit
from callboard_broker.services.enrolment import EnrolmentDesk, JoinCodes, Keys, Rotation
from callboard_broker.services.farm.api import FarmApi
from callboard_broker.services.farm.service import Farm
from callboard_broker.services.feed import Feed
from callboard_broker.services.forgetting import Forgetting
from callboard_broker.services.health import Health
from callboard_broker.services.history import History
from callboard_broker.services.logins import Logins, Person
from callboard_broker.services.metrics import Metrics
from callboard_broker.services.people import People
from callboard_broker.services.pools import Pools
from callboard_broker.services.refusals import Refusals
from callboard_broker.services.registry import Registry
from callboard_broker.services.updates import Updates
from callboard_broker.services.values import Values
from callboard_core.errors import Forbidden, Unauthorized
from callboard_core.link import Endpoint, Link

__all__ = [
    "Admin",
    "Asker",
    "Commander",
    "Depositor",
    "Fetcher",
    "Reader",
    "Services",
    "Use",
    "address",
    "asking_commander",
    "asking_depositor",
    "bearer",
    "services",
]

#: Who speaks MQTT, where they see only what is theirs; but what they work with is too large for that.
_MACHINES = frozenset({"node", "board"})


@dataclass(frozen=True)
class Services:
    """Made once by the board."""

    site: str
    version: str
    endpoint: Endpoint
    link: Link
    registry: Registry
    forgetting: Forgetting
    values: Values
    history: History
    refusals: Refusals
    logins: Logins
    feed: Feed
    health: Health
    metrics: Metrics
    artifacts: Artifacts
    pools: Pools
    farm: Farm
    farm_api: FarmApi
    audit: Audit
    people: People
    updates: Updates
    keys: Keys
    join_codes: JoinCodes
    desk: EnrolmentDesk
    rotation: Rotation


def services(request: Request) -> Services:
    """Return the services of the application that got the request."""
    found = request.app.state.services
    assert isinstance(found, Services)  # noqa: S101 - tells the type checker what make_app did
    return found


def address(request: Request) -> str:
    """Return where a request comes from.

    The server takes the word (``X-Forwarded-For``) of programs of this machine, such as the console, for it.
    """
    return request.client.host if request.client else "unknown"


_header = APIKeyHeader(
    name="Authorization",
    auto_error=False,
    scheme_name="Authorization",
    description="`Bearer TOKEN` (from POST /api/v1/session, or an API token) or `Basic …` with user name and password "
    "(or an API token of that user in its place)",
)


async def _services(request: Request) -> Services:
    return services(request)


# Dependencies are coroutines: the framework sends all others through a thread, which costs more than what they do.


async def bearer(header: Annotated[str | None, Depends(_header)]) -> str | None:
    """Return the bearer token of a request, if it has one."""
    scheme, _, value = (header or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


async def _asker(
    request: Request,
    header: Annotated[str | None, Depends(_header)],
    use: Annotated[Services, Depends(_services)],
) -> Person:
    person = await _identified(request, header, use)
    _tell_audit(request, person)
    return person


async def _identified(request: Request, header: str | None, use: Services) -> Person:
    scheme, _, value = (header or "").partition(" ")
    match scheme.lower():
        case "bearer":
            return use.logins.identify(value.strip(), address(request))
        case "basic":
            login = (*_unpack(value.strip()), address(request))
            if is_token(login[1]):
                return use.logins.identify_as(*login)
            known = use.logins.recall(*login)  # mostly; to go to a thread would cost more
            return known if known is not None else await asyncio.to_thread(use.logins.verify, *login)
    raise Unauthorized("log in: send a bearer token, or a user name and password (HTTP Basic)")


def _tell_audit(request: Request, person: Person) -> None:
    audited = request.scope.get("state", {}).get("audited")
    if audited is not None:
        audited.who = person.username


def _unpack(value: str) -> tuple[str, str]:
    # RFC 7617
    try:
        text = base64.b64decode(value, validate=True).decode()
    except ValueError:  # not base64, not ASCII, or not UTF-8
        raise Unauthorized("the Authorization header is not valid HTTP Basic") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise Unauthorized("the Authorization header is not valid HTTP Basic")
    return username, password


async def _reader(person: Annotated[Person, Depends(_asker)]) -> Person:
    if not person.may_read:
        raise Forbidden(f"{_whose(person)} cannot use HTTP; ask with viewer, operator or admin")
    return person


async def _commander(person: Annotated[Person, Depends(_reader)]) -> Person:
    if not person.may_command:
        raise Forbidden(f"{_whose(person)} can only read; this needs operator or admin")
    return person


async def _admin(person: Annotated[Person, Depends(_reader)]) -> Person:
    if not person.may_admin:
        raise Forbidden(f"{_whose(person)} cannot administer; this needs admin")
    return person


def _whose(person: Person) -> str:
    return f"the token of a user with the role {person.role}" if person.token else f"the role {person.role}"


async def asking_commander(request: Request) -> Person:
    """Return who is asking, who may command; for endpoints that the framework gives nothing.

    Raises:
        Unauthorized: nobody who is known.
        Forbidden: somebody who may not.
    """
    person = await _asker(request, request.headers.get("authorization"), services(request))
    return await _commander(await _reader(person))


async def asking_depositor(request: Request) -> Person:
    """Return who is asking, who may store artifacts; as :func:`asking_commander`."""
    return await _depositor(await _asker(request, request.headers.get("authorization"), services(request)))


async def _depositor(person: Annotated[Person, Depends(_asker)]) -> Person:
    if not person.may_command and person.role not in _MACHINES:
        raise Forbidden(f"{_whose(person)} can only fetch artifacts; storing needs node, operator or admin")
    return person


async def _fetcher(person: Annotated[Person, Depends(_asker)]) -> Person:
    if not person.may_read and person.role not in _MACHINES:
        raise Forbidden(f"{_whose(person)} cannot fetch artifacts")
    return person


Use = Annotated[Services, Depends(_services)]
Asker = Annotated[Person, Depends(_asker)]
Reader = Annotated[Person, Depends(_reader)]
Admin = Annotated[Person, Depends(_admin)]
Commander = Annotated[Person, Depends(_commander)]
Depositor = Annotated[Person, Depends(_depositor)]
Fetcher = Annotated[Person, Depends(_fetcher)]
