"""What a node offers: the decorators that make its things, workers and agents, and the lists of them. No connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

from callboard_core.errors import BadRequest, NotFound
from callboard_core.topics import check_id
from callboard_nodes import things, workers
from callboard_nodes.agents import Agent
from callboard_nodes.serving import Workers
from callboard_nodes.things import Thing, Things
from callboard_nodes.workers import Worker

if TYPE_CHECKING:
    from callboard_nodes.node import Node

__all__ = ["EVERY", "Offers", "Stage"]

_F = TypeVar("_F", bound=Callable[..., Any])
_Decorator = Callable[[_F], _F]

#: Seconds between two readings unless a sensor says otherwise.
EVERY = 5.0


class Stage(Protocol):
    """What is needed of a running node to offer workers."""

    def serve(self, worker: Worker) -> None:
        """Offer a worker."""

    def remove(self, name: str) -> None:
        """Offer it no more."""


class Offers:
    """What one node offers, whether it runs or not.

    Args:
        id: the node's id.

    Raises:
        BadRequest: that is no id.
    """

    def __init__(self, id: str) -> None:  # noqa: A002 - that is what it is called everywhere
        self.id = check_id(id, "node id")
        self._things = Things()
        self._workers = Workers()
        self._agents: list[Agent] = []

    @property
    def _stage(self) -> Stage | None:
        """Where workers are offered while the node runs."""
        return None

    @overload
    def sensor(self, function: _F, /) -> _F: ...
    @overload
    def sensor(self, /, **settings: Any) -> _Decorator[Any]: ...
    def sensor(self, function: Any = None, /, **settings: Any) -> Any:
        """Make a sensor of a function that returns its value; ``None`` means that there is none this time.

        Args:
            function: set when the decorator is used without parentheses.
            settings: ``every`` (seconds, 5 by default), ``unit``, ``type`` (``number``, ``text``, ``boolean`` or
                ``enum``; by default what the return annotation says), ``options`` of an enum, ``minimum``, ``maximum``,
                the ranges ``normal`` and ``warning`` (``{"low": …, "high": …}``; beyond them it is an error),
                ``deadband`` (smaller changes are not sent), ``min_interval`` (least seconds between two messages),
                ``timeout`` (seconds after which a function that has not returned counts as failing), ``name``,
                ``label``, ``description``, ``tags``.

        Raises:
            BadRequest: a setting is wrong; the message names it.
        """
        settings.setdefault("every", EVERY)
        return self._decorate(things.sensor, function, settings)

    @overload
    def control(self, function: _F, /) -> _F: ...
    @overload
    def control(self, /, **settings: Any) -> _Decorator[Any]: ...
    def control(self, function: Any = None, /, **settings: Any) -> Any:
        """Make a control of a function that takes the value to set.

        The function may return the value that is really in force. The value is kept, and applied again at every start.

        Args:
            function: set when the decorator is used without parentheses.
            settings: ``type`` (``number``, ``boolean``, ``enum``, ``text`` or ``colour``; by default what the parameter's
                annotation says), ``unit``, ``minimum``, ``maximum``, ``step``, ``options`` of an enum, ``max_length`` of
                a text, ``initial`` (the value at the very first start), ``persist`` (keep the value, true by default),
                ``name``, ``label``, ``description``, ``tags``.

        Raises:
            BadRequest: a setting is wrong; the message names it.
        """
        return self._decorate(things.control, function, settings)

    @overload
    def action(self, function: _F, /) -> _F: ...
    @overload
    def action(self, /, **settings: Any) -> _Decorator[Any]: ...
    def action(self, function: Any = None, /, **settings: Any) -> Any:
        """Make an action of a function; its parameters are what callers give, its result is what they get.

        A parameter called ``request`` receives the running call: ``request.progress(0.4)`` tells how far it is, and
        ``request.cancelled`` is set when somebody interrupts it. An ``async`` function is cancelled instead.

        Args:
            function: set when the decorator is used without parentheses.
            settings: ``confirm`` (a question to ask people first), ``timeout`` (seconds, 30 by default),
                ``interruptible``, ``name``, ``label``, ``description``, ``tags``.

        Raises:
            BadRequest: a setting or the function's signature is wrong; the message names it.
        """
        return self._decorate(things.action, function, settings)

    @overload
    def worker(self, function: _F, /) -> _F: ...
    @overload
    def worker(self, /, **settings: Any) -> _Decorator[Any]: ...
    def worker(self, function: Any = None, /, **settings: Any) -> Any:
        """Offer a function as a service, which anybody on the site can call by its name.

        Several workers of one service, wherever they run, form a pool. A parameter called ``request`` receives the
        running call, as for :meth:`action`; ``request.reply(result)`` answers early.

        Args:
            function: set when the decorator is used without parentheses.
            settings: ``service`` (fields separated by ``:``; by default the function's name), ``concurrency`` (calls it
                works on at a time, 1), ``queue`` (how many more may wait, 100), ``timeout`` (seconds, 30),
                ``idempotent`` (a call may be repeated elsewhere when this one is lost), ``run`` (``thread``, or
                ``process`` for what keeps a processor busy; an ``async`` function runs on the node's loop), ``scope``
                (``process``, ``host`` or ``site``: from how far away it may be used), ``exclusive`` (nobody else may
                have the service), ``traceback`` (errors carry it), ``heartbeat`` (seconds between two, 1.5; None: it
                never counts as hung), ``name``, ``label``, ``description``, ``tags``.

        Raises:
            BadRequest: a setting or the function's signature is wrong; the message names it.
        """
        return self._decorate(workers.worker, function, settings)

    def add(self, *new: Thing | Worker | Agent) -> None:
        """Add things that were made elsewhere; workers and agents also while the node runs.

        Raises:
            BadRequest: there is one of that kind and name already, or the node is running.
        """
        for thing in new:
            if isinstance(thing, Agent):
                self._add_agent(thing)
            elif isinstance(thing, Worker):
                self._add_worker(thing)
            elif self._stage is not None:
                raise BadRequest(f"node {self.id!r} is running; add things before it starts")
            else:
                self._things.add(thing)

    def remove(self, offered: str | Agent) -> None:
        """Offer a worker, or all of an agent, no more; what they work on is still answered.

        Args:
            offered: the worker's name, or the agent, which ends with its thread and timers; it may do so to itself.

        Raises:
            NotFound: the node has no such worker or agent.
        """
        if isinstance(offered, Agent):
            self._remove_agent(offered)
        else:
            self._remove_worker(offered)

    # -- inside ----------------------------------------------------------------------------------------------

    def _decorate(self, make: Callable[..., Thing | Worker], function: Any, settings: dict[str, Any]) -> Any:
        def decorate(target: _F) -> _F:
            self.add(make(target, **settings))
            return target

        return decorate if function is None else decorate(function)

    def _add_agent(self, agent: Agent) -> None:
        for worker in agent.attach(cast("Node", self)):  # nothing else is an offerer
            self._add_worker(worker)
        self._agents.append(agent)
        if self._stage is not None:
            agent.begin()

    def _add_worker(self, worker: Worker) -> None:
        added = self._workers.add(worker)
        if self._stage is not None:
            self._stage.serve(added)

    def _remove_agent(self, agent: Agent) -> None:
        names = [worker.card.name for worker in self._workers if worker.agent is agent]
        if not names:
            raise NotFound(f"node {self.id!r} has no agent {agent.name!r}")
        self._agents = [one for one in self._agents if one is not agent]
        for name in names:
            self._remove_worker(name)
        agent.end()

    def _remove_worker(self, name: str) -> None:
        self._workers.remove(name)
        if self._stage is not None:
            self._stage.remove(name)
