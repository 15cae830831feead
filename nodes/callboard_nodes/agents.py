"""Agents: objects that a node offers, with methods to call, attributes to read and set, and timers of their own."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from callboard_core.calls.names import check_service, field_of
from callboard_core.errors import BadRequest, CallboardError, Conflict, Unavailable
from callboard_core.link.lane import Lane
from callboard_core.messages import Severity
from callboard_nodes.declared import Attribute, Hears, Method, Timed, attributes_of, marked, positive
from callboard_nodes.events import Heard
from callboard_nodes.things import is_async
from callboard_nodes.timers import TimerInfo, Timers
from callboard_nodes.values import annotation_of
from callboard_nodes.workers import Worker, worker

if TYPE_CHECKING:
    from callboard_core.calls.pool import Pool
    from callboard_core.calls.proxy import Proxy
    from callboard_core.link import Subscription
    from callboard_nodes.node import Node

__all__ = ["Agent"]

_log = logging.getLogger("callboard.agent")


class Agent:
    """An object that a node offers under a name: derive from it, and give it to :meth:`Node.add`.

    Methods marked with ``@method``, timers (``@every``, ``@after``) and what hears events (``@on``) run one
    at a time on a thread of the agent's own, so that its state needs no locks; ``async`` ones run on the node's loop.
    Attributes are read and set at once, also while a method runs. What raises is told to its caller, or logged and
    published as the event ``failing``; it stops nothing.

    Args:
        name: the service; methods and attributes are fields below it.
        exclusive: nobody else on the site may have the name at the same time.
        scope: ``process``, ``host`` or ``site``: from how far away it may be used.
        tags: words to find it by.

    Attributes:
        node: the node it was added to.
    """

    def __init__(
        self, name: str, *, exclusive: bool = True, scope: str = "site", tags: Iterable[str] = ()
    ) -> None:
        self.name = check_service(name)
        self._card: dict[str, Any] = {"exclusive": exclusive, "scope": scope, "tags": list(tags)}
        self._node: Node | None = None
        self._lane: Lane | None = None
        self._subscriptions: list[Subscription] = []
        self._timers: Timers | None = None

    # -- for derived classes ---------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Called on the agent's thread before anything else of it runs."""

    def on_stop(self) -> None:
        """Called on the agent's thread after everything else of it."""

    def on_conflict(self, conflict: Conflict) -> None:
        """Called when another node holds the agent's name; it takes over when that one leaves."""

    @property
    def node(self) -> Node:
        """The node it was added to.

        Raises:
            Unavailable: it was not added to one yet.
        """
        if self._node is None:
            raise Unavailable(f"agent {self.name!r} was not added to a node")
        return self._node

    def pool(self, service: str, **settings: Any) -> Pool:
        """Return a pool; see :meth:`Node.pool`."""
        return self.node.pool(service, **settings)

    def proxy(self, name: str) -> Proxy:
        """Return a proxy; see :meth:`Node.proxy`."""
        return self.node.proxy(name)

    def emit(self, event: str, **data: Any) -> None:
        """Publish an event of the agent's node; see :meth:`Node.emit`."""
        self.node.emit(event, **data)

    def every(self, seconds: float, function: Callable[[], Any], *, name: str | None = None) -> str:
        """Run a function every so many seconds from now on; returns the timer's name.

        Raises:
            Unavailable: the agent does not run.
        """
        return self._running_timers().add(positive(seconds), function, repeat=True, name=name)

    def after(self, seconds: float, function: Callable[[], Any], *, name: str | None = None) -> str:
        """Run a function once, in so many seconds; returns the timer's name.

        Raises:
            Unavailable: the agent does not run.
        """
        return self._running_timers().add(positive(seconds, zero=True), function, repeat=False, name=name)

    def timers(self) -> list[TimerInfo]:
        """The timers that run."""
        return self._timers.list() if self._timers is not None else []

    def stop_timer(self, name: str) -> bool:
        """Stop a timer; returns False if there is none of that name."""
        return self._timers is not None and self._timers.stop(name)

    def offer(self, function: Callable[..., Any], *, name: str | None = None, **settings: Any) -> None:
        """Offer a function as one more method from now on; it runs as the others do.

        Args:
            function: its parameters are what callers give; bind the agent to it if it needs it.
            name: what callers call it; by default the function's name.
            settings: as for :meth:`Node.worker`.

        Raises:
            BadRequest: a setting or the function's signature is wrong; the message names it.
            Unavailable: the agent was not added to a node yet.
        """
        wanted = name or str(getattr(function, "__name__", type(function).__name__))
        self.node.add(self._method(wanted, function, settings))

    # -- for the node ----------------------------------------------------------------------------------------

    def attach(self, node: Node) -> list[Worker]:
        """Belong to a node from now on; returns what it is to offer.

        Raises:
            BadRequest: it belongs to one already, or something declared in the class is wrong.
        """
        if self._node is not None:
            raise BadRequest(f"agent {self.name!r} belongs to node {self._node.id!r} already")
        offered = [*self._methods(), *self._attributes(), self._timer_worker()]
        self._node = node
        return [worker.with_card(together=len(offered)) for worker in offered]

    def begin(self) -> None:
        """Start the thread and the timers."""
        self._lane = Lane(f"agent-{self.name}")
        self._timers = Timers(self._lane, self._run_now, self._failing)
        self._lane.post(partial(self._guarded, "on_start", self.on_start))
        for name, timed, function in marked(self, Timed):
            self._timers.add(timed.seconds, function, repeat=timed.repeat, name=name)
        for _, wanted, function in marked(self, Hears):
            hear = partial(self._hear, function)
            self._subscriptions.append(
                self.node.listen(wanted.event, hear, node=wanted.node, where=wanted.where)
            )

    def end(self, timeout: float = 1.0) -> None:
        """Stop timers and thread, after what runs, in so many seconds at most."""
        if self._timers is not None:
            self._timers.close()
        for subscription in self._subscriptions:
            subscription.cancel()
        self._subscriptions.clear()
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.post(partial(self._guarded, "on_stop", self.on_stop))
            lane.stop()
            lane.join(timeout)

    # -- inside ----------------------------------------------------------------------------------------------

    def _methods(self) -> Iterator[Worker]:
        for name, mark, function in marked(self, Method):
            yield self._method(name, function, mark.settings)

    def _method(self, name: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> Worker:
        return worker(
            function,
            service=self._service(name),
            submit=self._submit,
            agent=self,
            **{**self._card, **settings},
        )

    def _attributes(self) -> Iterator[Worker]:
        for declared in attributes_of(type(self)):
            yield worker(
                _accessor(self, declared),
                service=self._service(declared.name),
                run="inline",
                agent=self,
                attribute=True,
                idempotent=True,
                concurrency=16,
                **self._card,
            )

    def _timer_worker(self) -> Worker:
        def timers(stop: str | None = None) -> list[TimerInfo]:
            """The timers that run; ``stop`` stops one."""
            if stop is not None and not self.stop_timer(stop):
                raise BadRequest(f"stop: {self.name} has no timer {stop!r}")
            return self.timers()

        return worker(
            timers,
            service=self._service("timers"),
            run="inline",
            agent=self,
            on_conflict=self._on_conflict,
            **self._card,
        )

    def _service(self, name: str) -> str:
        return f"{self.name}:{field_of(name)}"

    def _submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Run something on the agent's thread, after what waits there."""
        future: Future[Any] = Future()
        lane = self._lane
        if lane is None:
            future.set_exception(Unavailable(f"agent {self.name!r} does not run"))
        else:
            lane.post(partial(_settle, future, work))
        return future

    def _run_now(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run a function here on the agent's thread, or start it on the node's loop if it is ``async``."""
        if is_async(function):
            return self.node.spawn(function(*args))
        future: Future[Any] = Future()
        _settle(future, partial(function, *args))
        return future

    def _hear(self, function: Callable[[Heard], Any], heard: Heard) -> None:
        def tell(outcome: Future[Any]) -> None:
            error = None if outcome.cancelled() else outcome.exception()
            if error is not None:
                self._failing(function.__name__, error)

        lane = self._lane
        if lane is not None:
            lane.post(lambda: self._run_now(function, heard).add_done_callback(tell))

    def _running_timers(self) -> Timers:
        if self._timers is None:
            raise Unavailable(f"agent {self.name!r} does not run")
        return self._timers

    def _guarded(self, what: str, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 - a user's
            self._failing(what, error)

    def _failing(self, what: str, error: BaseException) -> None:
        _log.error("agent %s: %s failed", self.name, what, exc_info=error)
        data = {"agent": self.name, "what": what, "type": type(error).__name__}
        with contextlib.suppress(CallboardError):  # there may be nobody to tell
            self.node.emit(
                "failing", message=f"{self.name}: {what}: {error}", severity=Severity.ERROR, **data
            )

    def _on_conflict(self, conflict: Conflict) -> None:
        self._submit(partial(self.on_conflict, conflict))


def _accessor(agent: Agent, declared: Attribute) -> Callable[..., Any]:
    """A function that reads an attribute, and sets it when it is given a value."""
    name = declared.name
    hint = annotation_of(type(agent), name)
    hint = Any if hint is None else hint

    def access(**given: Any) -> Any:
        if "value" in given:
            setattr(agent, name, given["value"])
        return getattr(agent, name)

    value = inspect.Parameter(
        "value", inspect.Parameter.KEYWORD_ONLY, default=declared.default, annotation=hint
    )
    access.__signature__ = inspect.Signature([value] if declared.settable else [])  # type: ignore[attr-defined]
    access.__annotations__ = {"value": hint, "return": hint}
    access.__name__ = access.__qualname__ = name
    access.__doc__ = declared.description
    return access


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - it is the future's
        future.set_exception(error)
    else:
        future.set_result(result)
