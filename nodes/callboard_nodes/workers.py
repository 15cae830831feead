"""Workers: functions that a node offers as services. Definition and the run of one call; no connection."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from pydantic import JsonValue, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from callboard_core.callee import Request
from callboard_core.calls.names import check_service, field_of
from callboard_core.calls.place import here
from callboard_core.cards import WorkerCard
from callboard_core.errors import BadRequest, Conflict
from callboard_core.topics import Kind, slug
from callboard_nodes.parameters import Parameters
from callboard_nodes.things import card_of, details_of, is_async
from callboard_nodes.values import annotation_of

__all__ = ["HEARTBEAT", "QUEUE", "Handle", "Run", "Worker", "worker"]

#: Where a worker's function runs.
Run = Literal["thread", "process", "inline"]
#: Takes a call; returns the result, or a future of it.
Handle = Callable[[Request], Any]

#: Calls that may wait for a worker.
QUEUE = 100
#: Seconds between two heartbeats.
HEARTBEAT = 1.5


class Owner(Protocol):
    """What several workers belong to."""

    @property
    def name(self) -> str:
        """What is claimed for all of them."""


@dataclass(frozen=True)
class Worker:
    """A function offered as a service.

    Attributes:
        card: what is announced.
        function: what is called; an ``async`` one runs on the node's loop.
        parameters: what it takes.
        run: where an ordinary function runs.
        queue: how many calls may wait for it.
        named: whether the name was chosen by the user (else it may be numbered to be unique).
        agent: whose it is; exclusive workers of one agent are held together, others each on its own.
        on_conflict: told when another node has the service that this one would have for itself.
        submit: runs it in place of the node; for things that have a thread of their own.
    """

    card: WorkerCard
    function: Callable[..., Any]
    parameters: Parameters
    run: Run
    queue: int
    named: bool
    agent: Owner | None = None
    on_conflict: Callable[[Conflict], object] | None = None
    submit: Callable[[Callable[[], Any]], Future[Any]] | None = None
    kind = Kind.WORKER

    @property
    def claim(self) -> str:
        """What is claimed when it is exclusive."""
        return self.card.service if self.agent is None else self.agent.name

    def with_card(self, **changes: Any) -> Worker:
        """Return the same worker with some of its card changed."""
        return replace(self, card=self.card.model_copy(update=changes))

    def bind(self, request: Request) -> Callable[[], Any]:
        """Check a call's arguments and return the function with them filled in.

        Raises:
            BadPayload: an argument is missing, unknown or wrong; the message names it.
        """
        return functools.partial(self.function, **self.parameters.fill(request.args, request))


def worker(
    function: Callable[..., Any],
    *,
    service: str | None = None,
    run: Run = "thread",
    queue: int = QUEUE,
    name: str | None = None,
    heartbeat: float | None = HEARTBEAT,
    agent: Owner | None = None,
    on_conflict: Callable[[Conflict], object] | None = None,
    submit: Callable[[Callable[[], Any]], Future[Any]] | None = None,
    **card: Any,
) -> Worker:
    """Define a worker; parameters and result are described by the function's type hints.

    Raises:
        BadRequest: a setting or the signature is wrong; the message names it.
    """
    service = check_service(service or field_of(getattr(function, "__name__", type(function).__name__)))
    if run not in {"thread", "process", "inline"}:
        raise BadRequest(f"worker {service!r}: run {run!r} is not one of thread, process, inline")
    if queue < 0:
        raise BadRequest(f"worker {service!r}: queue must be 0 or more, not {queue}")
    parameters = Parameters.of(function)
    _check_run(function, run, parameters, service)
    place = here()
    details = details_of(function, {"name": name or slug(service), **card}) | {
        "service": service,
        "parameters": parameters.schema,
        "result": _result_schema(function),
        "heartbeat": heartbeat,
        "host": place.host,
        "process": place.process,
    }
    found = card_of(WorkerCard, details)
    return Worker(
        function=function,
        card=found,
        parameters=parameters,
        run=run,
        queue=queue,
        named=name is not None,
        agent=agent,
        on_conflict=on_conflict,
        submit=submit,
    )


def _check_run(function: Callable[..., Any], run: Run, parameters: Parameters, service: str) -> None:
    if run != "process":
        return
    if is_async(function):
        raise BadRequest(f"worker {service!r}: an async function cannot run in a process of its own")
    if "<locals>" in getattr(function, "__qualname__", "") or getattr(function, "__name__", "") == "<lambda>":
        raise BadRequest(
            f"worker {service!r}: a process of its own must import the function; define it at the top of a module"
        )
    if parameters.request is not None:
        raise BadRequest(f"worker {service!r}: a function in a process of its own cannot take the request")


def _result_schema(function: Callable[..., Any]) -> dict[str, JsonValue]:
    """The JSON Schema of what the function returns; empty when its hint does not say or has no JSON form."""
    hint = annotation_of(function, "return")
    if hint is None:
        return {}
    try:
        schema: dict[str, JsonValue] = TypeAdapter(hint).json_schema()
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError):
        return {}
    return schema
