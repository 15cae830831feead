"""Services: what workers offer, called by name over HTTP.

Calls pass by the framework (:mod:`callboard_broker.http.shortcut`): what it does for an endpoint would cost more than the call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from callboard_broker.http import artifacts, errors
from callboard_broker.http.context import Reader, Services, Use, asking_commander, services
from callboard_broker.services.pools import Service, told
from callboard_core.calls import codec
from callboard_core.calls.artifacts import BYTES, JSON, MSGPACK, reference
from callboard_core.calls.pool import TIMEOUT
from callboard_core.calls.texts import ArgumentReader
from callboard_core.errors import BadPayload, BadRequest, Failed
from callboard_core.messages import JsonObject

__all__ = ["CALL_OPTIONS", "LONGEST", "PATH", "answer", "router"]

router = APIRouter(prefix="/services", tags=["services"])

#: What begins so is a call; what follows is the service.
PATH = "/api/v1/services/"
#: Longest time-out of a call, in seconds.
LONGEST = 3600.0
#: What says how to call rather than what with. Where a service has a parameter of that name, put ``_`` in front.
CALL_OPTIONS = ("timeout", "all")
#: Seconds after which it is looked at whether the client still waits for the answer.
_ATTENTION = 1.0
_HEADERS = {"Cache-Control": "no-store"}


class OneMember(BaseModel):
    """A worker that offers a service."""

    node: str
    name: str
    ready: bool = Field(description="it is there and takes calls")
    draining: bool


class OneService(BaseModel):
    """A service, as the newest card describes it."""

    service: str
    label: str | None
    description: str | None
    tags: list[str]
    ready: int = Field(description="how many members take calls")
    idempotent: bool = Field(description="a call may be repeated elsewhere when one is lost")
    timeout: float = Field(description="seconds after which a worker gives a call up")
    parameters: JsonObject = Field(description="JSON Schema of the arguments")
    result: JsonObject = Field(description="JSON Schema of the result")
    members: list[OneMember]

    @classmethod
    def of(cls, service: Service) -> OneService:
        """Describe a service."""
        card = service.card
        return cls(
            service=service.name,
            label=card.label,
            description=card.description,
            tags=card.tags,
            ready=service.ready,
            idempotent=card.idempotent,
            timeout=card.timeout,
            parameters=card.parameters,
            result=card.result,
            members=[
                OneMember(node=one.node, name=one.name, ready=one.ready, draining=one.draining)
                for one in service.members
            ],
        )


class AllServices(BaseModel):
    """What can be called, by name."""

    items: list[OneService]


@router.get("", summary="All services")
def listing(_person: Reader, use: Use) -> AllServices:
    """Return what workers offer. Each has its own entry below while it is offered."""
    return AllServices(items=[OneService.of(service) for service in use.pools.services()])


async def call(request: Request, service: str) -> Response:
    """Call a service: arguments from the query (GET), or from a JSON or MessagePack body (POST)."""
    use = services(request)
    person = await asking_commander(request)
    reader = use.pools.reader(service)
    given, options = _split(request, reader)
    timeout = _timeout(options)
    if request.method == "POST":
        _no_others(given)
        args = await _body(request)
    else:
        args = reader.read(given)
    caller = f"http:{person.username}"
    if _flag(options):
        everybody = use.pools.submit_to_all(service, args, timeout=timeout, caller=caller)
        answers = await asyncio.wrap_future(everybody)
        return _written(request, {"results": [told(one) for one in answers]})
    result = await _answer(request, use.pools.submit(service, args, timeout=timeout, caller=caller))
    return await _response(request, use, result)


async def answer(request: Request) -> Response:
    """Answer any request below :data:`PATH`: a call."""
    if request.method in {"GET", "POST"}:
        return await call(request, request.scope["path"][len(PATH) :])
    return errors.answer(
        BadRequest(f"{request.method} is not possible here; use GET or POST"), {"Allow": "GET, POST"}, 405
    )


def _split(request: Request, reader: ArgumentReader) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The arguments and the call's own options among the parameters of the query."""
    given: dict[str, list[str]] = {}
    for name, text in request.query_params.multi_items():
        given.setdefault(name, []).append(text)
    options: dict[str, str] = {}
    if given:
        taken = reader.names if request.method == "GET" else ()
        for option in CALL_OPTIONS:
            for name in (f"_{option}", option):
                if name in given and name not in taken:
                    options[option] = given.pop(name)[-1]
                    break
    return given, options


def _timeout(options: Mapping[str, str]) -> float:
    text = options.get("timeout")
    try:
        timeout = TIMEOUT if text is None else float(text)
    except ValueError:
        timeout = 0.0
    if not 0 < timeout <= LONGEST:
        raise BadRequest(f"timeout: {text!r} is not more than 0 and at most {LONGEST:g} seconds")
    return timeout


def _flag(options: Mapping[str, str]) -> bool:
    text = options.get("all", "false").lower()
    if text not in {"true", "1", "", "false", "0"}:
        raise BadRequest(f"all: {text!r} is neither true nor false")
    return text not in {"false", "0"}


def _no_others(given: Mapping[str, list[str]]) -> None:
    if given:
        raise BadRequest(
            f"{next(iter(given))}: with POST the arguments are sent as a JSON object in the body"
        )


async def _body(request: Request) -> dict[str, Any]:
    data = await request.body()
    if not data:
        return {}
    if request.headers.get("content-type", JSON).startswith(MSGPACK):
        return codec.unpack(data)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadPayload(f"the body is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadPayload("the body: expected a JSON object of arguments")
    return {name: codec.from_json(value) for name, value in found.items()} if b'"$' in data else found


async def _answer(request: Request, answer: Future[Any]) -> Any:
    """Wait for an answer as long as the client does; a call that nobody waits for is cancelled."""
    loop = asyncio.get_running_loop()
    waiting = asyncio.wrap_future(answer, loop=loop)
    watching: list[asyncio.Task[None]] = []
    timer = loop.call_later(_ATTENTION, lambda: watching.append(loop.create_task(_watch(request, waiting))))
    try:
        return await waiting
    except asyncio.CancelledError:
        if watching and watching[0].done() and waiting.cancelled():
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        for task in watching:
            task.cancel()


async def _watch(request: Request, waiting: asyncio.Future[Any]) -> None:
    """Cancel a call whose client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    waiting.cancel()


async def _response(request: Request, use: Services, result: Any) -> Response:
    if isinstance(result, bytes):
        return Response(result, media_type=BYTES, headers=_HEADERS | artifacts.HARMLESS)
    ref = reference(result)
    if ref is not None:
        return await artifacts.content(use.artifacts, ref.sha256)
    return _written(request, {"result": result})


def _written(request: Request, message: dict[str, Any]) -> Response:
    if MSGPACK in request.headers.get("accept", ""):
        return Response(codec.pack(message), media_type=MSGPACK, headers=_HEADERS)
    try:
        return Response(codec.dumps(message), media_type=JSON, headers=_HEADERS)
    except (TypeError, ValueError, RecursionError) as error:
        raise Failed(f"the result cannot be written as JSON: {error}") from None
