"""The workers of a running node: announced, called, drained, and told about with every heartbeat."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_jsonable_python

from callboard_core.callee import Callee, Request
from callboard_core.calls.codec import Array
from callboard_core.calls.names import numbered
from callboard_core.cards import ActionCard, AnyCard, Lane
from callboard_core.directory import Directory
from callboard_core.errors import BadRequest, Conflict, Failed, NotFound
from callboard_core.jobs import Tally
from callboard_core.link import Link
from callboard_core.messages import JsonObject, Severity
from callboard_core.topics import Kind
from callboard_nodes.children import Children
from callboard_nodes.claims import Claims
from callboard_nodes.heartbeat import Heartbeat
from callboard_nodes.things import is_async
from callboard_nodes.workers import Worker

__all__ = ["Serving", "Workers"]

_log = logging.getLogger("callboard.node")

#: Workers whose figures go with a heartbeat; more would make it long.
TOLD = 100


#: What the node itself offers as soon as it has a worker.
DRAIN = ActionCard(
    name="drain-worker",
    epoch=0,
    label="Drain a worker",
    description="Ask callers to give a worker no more calls (or, with on: false, calls again).",
    parameters={
        "type": "object",
        "properties": {
            "worker": {"type": "string", "description": "name of the worker"},
            "on": {"type": "boolean", "default": True},
        },
        "required": ["worker"],
        "additionalProperties": False,
    },
)

#: Publishes an event: name, severity, message, data.
Tell = Callable[[str, Severity, str, dict[str, Any]], None]


class Pins(Protocol):
    """What is needed of the node's presence."""

    def pin(self, card: AnyCard) -> Future[None]:
        """Announce a thing."""

    def unpin(self, kind: Kind, name: str) -> Future[None]:
        """Take a thing off the board."""


class Workers:
    """A node's workers by name; those whose name nobody chose are numbered when it is taken."""

    def __init__(self) -> None:
        self._all: dict[str, Worker] = {}

    def add(self, worker: Worker) -> Worker:
        """Add a worker; returns it under the name it got.

        Raises:
            BadRequest: the name that the user chose is taken.
        """
        wanted, taken = worker.card.name, 0
        while (name := numbered(wanted, taken)) in self._all:
            if worker.named:
                raise BadRequest(f"there are two workers called {wanted!r}; give one another name=")
            taken += 1
        self._check_exclusive(worker)
        found = worker if name == wanted else worker.with_card(name=name)
        self._all[name] = found
        return found

    def _check_exclusive(self, worker: Worker) -> None:
        for other in self._all.values():
            same = other.card.service == worker.card.service
            if same and (other.card.exclusive or worker.card.exclusive):
                raise BadRequest(f"service {worker.card.service!r} is exclusive and offered twice")

    def remove(self, name: str) -> Worker:
        """Remove a worker.

        Raises:
            NotFound: there is none of that name.
        """
        try:
            return self._all.pop(name)
        except KeyError:
            raise NotFound(f"there is no worker {name!r}") from None

    def __iter__(self) -> Any:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)


class Serving:
    """Serves workers over a callee.

    Args:
        link: the node's connection.
        presence: announces cards.
        callee: receives the calls.
        loop: where ``async`` functions run.
        node: the node's id.
        directory: made when it is needed.
        tell: publishes an event of the node.
        lane: where calls may go directly; None: nowhere.
    """

    def __init__(
        self,
        *,
        link: Link,
        presence: Pins,
        callee: Callee,
        loop: asyncio.AbstractEventLoop,
        node: str,
        directory: Callable[[], Directory],
        tell: Tell,
        lane: Callable[[], Lane | None] = lambda: None,
    ) -> None:
        self._lane = lane
        self._directory, self._tell = directory, tell
        self._claims: Claims | None = None
        self._link, self._presence, self._callee, self._loop, self._node = link, presence, callee, loop, node
        self._lock = threading.Lock()
        self._served: dict[str, _Served] = {}
        self._calls: set[Future[Any]] = set()
        self._heartbeat: Heartbeat | None = None
        self._stopped = False
        self._drainable = False

    def serve(self, worker: Worker) -> None:
        """Offer a worker; an exclusive one as soon as nobody else has its service."""
        if not worker.card.exclusive:
            self.announce(worker)
            return
        with self._lock:
            if self._claims is None:
                self._claims = Claims(self._directory(), self._link, self._node, self, self._conflict)
        self._claims.add(worker)

    def announce(self, worker: Worker) -> None:
        """Answer a worker's calls, then announce it."""
        served = _Served(worker, self._here)
        with self._lock:
            self._served[worker.card.name] = served
        card = worker.card.model_copy(update={"lane": self._lane()})
        served.tally = self._callee.handle(
            Kind.WORKER,
            card.name,
            served.handle,
            timeout=card.timeout,
            run="inline" if served.inline else "thread",
            concurrency=card.concurrency,
            backlog=worker.queue,
            traceback=card.traceback,
        )
        self._presence.pin(card)
        self._offer_drain()
        self._beat(card.heartbeat)

    def remove(self, name: str) -> None:
        """Offer a worker no more, nor want to."""
        if self._claims is not None:
            self._claims.remove(name)
        self.withdraw(name)

    def withdraw(self, name: str) -> None:
        """Offer a worker no more; what it works on is still answered."""
        with self._lock:
            served = self._served.pop(name, None)
        if served is None:
            return
        self._presence.unpin(Kind.WORKER, name)
        self._callee.unhandle(Kind.WORKER, name)
        served.close()

    def drain(self, name: str, on: bool = True) -> None:
        """Ask callers to give a worker no more calls, or calls again.

        Raises:
            NotFound: there is no such worker.
        """
        with self._lock:
            served = self._served.get(name)
        if served is None:
            raise NotFound(f"{self._node} has no worker {name!r}")
        served.draining = on
        self._pin(served)

    def announce_anew(self) -> None:
        """Tell all of it again: where calls may go directly has changed."""
        with self._lock:
            served = list(self._served.values())
        for one in served:
            self._pin(one)

    def _pin(self, served: _Served) -> None:
        told = {"draining": served.draining, "lane": self._lane()}
        self._presence.pin(served.worker.card.model_copy(update=told))

    def stop(self) -> None:
        """Cancel what runs and end what was started for it."""
        with self._lock:
            self._stopped = True
            served, self._served = list(self._served.values()), {}
        if self._claims is not None:
            self._claims.close()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        for call in list(self._calls):
            call.cancel()
        for one in served:
            one.close()

    def figures(self) -> JsonObject:
        """What each worker has done and has to do, and how often who has called it since this was last asked."""
        with self._lock:
            served = dict(list(self._served.items())[:TOLD])
        return {name: self._figures(name, one.tally) for name, one in served.items()}

    def _figures(self, name: str, tally: Tally) -> JsonObject:
        running, waiting = self._callee.busy(Kind.WORKER, name)
        figures: JsonObject = {
            "running": running,
            "waiting": waiting,
            "done": tally.done,
            "failed": tally.failed,
            "refused": tally.refused,
        }
        if callers := self._callee.callers(Kind.WORKER, name):
            figures["callers"] = dict(callers)
        for share in (50, 95):
            if (within := tally.percentile(share)) is not None:
                figures[f"p{share}"] = round(within, 6)
        return figures

    def _offer_drain(self) -> None:
        with self._lock:
            first, self._drainable = not self._drainable, True
        if first:
            self._callee.handle(Kind.ACTION, DRAIN.name, self._drain, run="inline")
            self._presence.pin(DRAIN)

    def _beat(self, every: float | None) -> None:
        with self._lock:
            if every is None or self._heartbeat is not None or self._stopped:
                return
            self._heartbeat = Heartbeat(
                self._link,
                site=self._link.site,
                node=self._node,
                every=every,
                loop=self._loop,
                tell=lambda: {"workers": self.figures()},
            )
        self._heartbeat.start()

    def _conflict(self, worker: Worker, conflict: Conflict) -> None:
        service = worker.card.service
        self._tell("conflict", Severity.WARNING, conflict.message, {"service": service})
        if worker.on_conflict is not None:
            worker.on_conflict(conflict)

    def _drain(self, request: Request) -> JsonValue:
        name, on = request.args.get("worker"), request.args.get("on", True)
        if not isinstance(name, str) or not isinstance(on, bool):
            raise BadRequest("worker: expected the worker's name; on: expected true or false")
        self.drain(name, on)
        return {"worker": name, "draining": on}

    def _here(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        return future


class _Served:
    """One worker and how its function is run."""

    def __init__(self, worker: Worker, spawn: Callable[[Coroutine[Any, Any, Any]], Future[Any]]) -> None:
        self.worker = worker
        self.tally = Tally()
        self.draining = False
        self._spawn = spawn
        self._children = (
            Children(worker.function, worker.card.concurrency) if worker.run == "process" else None
        )
        self.handle: Callable[[Request], Any] = self._choose()

    @property
    def inline(self) -> bool:
        """True when the handler only starts the work."""
        worker = self.worker
        return worker.run == "inline" or worker.submit is not None or is_async(worker.function)

    def close(self) -> None:
        """End processes."""
        if self._children is not None:
            self._children.close()

    def _choose(self) -> Callable[[Request], Any]:
        if is_async(self.worker.function):
            return self._run_on_loop
        if self.worker.submit is not None:
            return partial(self._run_elsewhere, self.worker.submit)
        return self._run_here if self._children is None else partial(self._run_in_child, self._children)

    def _run_here(self, request: Request) -> Any:
        return as_json(self.worker.bind(request)())

    def _run_elsewhere(
        self, submit: Callable[[Callable[[], Any]], Future[Any]], request: Request
    ) -> Future[Any]:
        bound = self.worker.bind(request)
        return submit(lambda: as_json(bound()))

    def _run_in_child(self, children: Children, request: Request) -> Any:
        return as_json(children.call(self.worker.parameters.check(request.args), request.cancelled))

    def _run_on_loop(self, request: Request) -> Future[Any]:
        bound = self.worker.bind(request)

        async def work() -> Any:
            try:
                return as_json(await bound())
            except (SystemExit, KeyboardInterrupt) as error:  # these would end the node
                raise Failed(f"{type(error).__name__}: {error}") from error

        return self._spawn(work())


_PLAIN = (str, int, float, bool, type(None))
_BINARY = (bytes, bytearray, memoryview, Array)


def as_json(value: Any) -> Any:
    """Return a function's result as JSON, with bytes and arrays left as they are.

    Raises:
        Failed: it cannot be written as such.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, _BINARY) or type(value).__module__ == "numpy":
        return value
    if type(value) in {list, tuple}:
        return [as_json(item) for item in value]
    if type(value) is dict:
        return {_as_key(key): as_json(item) for key, item in value.items()}
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise Failed(f"the result cannot be written as JSON: {error}") from None


def _as_key(key: Any) -> str:
    return key if isinstance(key, str) else str(to_jsonable_python(key))
