"""The node: what people write their sensors, controls and actions with."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from callboard_core.cards import NodeCard
from callboard_core.errors import BadRequest, CallboardError, Unavailable
from callboard_core.messages import Severity, Value
from callboard_core.settings import Settings, load_settings
from callboard_core.topics import BOARD, check_id
from callboard_nodes import events, machine, things, workers
from callboard_nodes.agents import Agent
from callboard_nodes.events import Heard
from callboard_nodes.hosting import NodeThread, until_signal
from callboard_nodes.locate import Locator
from callboard_nodes.readings import Mode
from callboard_nodes.running import Plan, Running
from callboard_nodes.sensing import to_reading
from callboard_nodes.serving import Workers
from callboard_nodes.things import Thing, Things
from callboard_nodes.workers import Worker

if TYPE_CHECKING:
    from pydantic import JsonValue

    from callboard_core.calls.pool import Pool
    from callboard_core.calls.proxy import Proxy
    from callboard_core.directory import Directory
    from callboard_core.link import Subscription

__all__ = ["Node"]

_log = logging.getLogger("callboard.node")

_F = TypeVar("_F", bound=Callable[..., Any])
_Decorator = Callable[[_F], _F]

#: Seconds between two readings unless a sensor says otherwise.
EVERY = 5.0


class Node:
    """One member of the board: a name, and the things it offers there.

    Args:
        id: the node's id: a-z, 0-9 and ``-``; nobody else on the site may have it.
        label: what people read instead of the id.
        description: one sentence about it.
        tags: words to find it by.
        board: the board's ``mqtt://host:port``; otherwise the settings, a board on this machine, or discovery.
        username: who connects; otherwise from the settings, or what a board on this machine keeps for its nodes.
        password: the password to go with it.
        site: first level of all topics.
        keepalive: seconds; the board gives a silent node up after 1.5 times this.
        state_dir: where the node keeps its counter, values and unsent readings.
        settings: all of the above at once, instead of those in force on this machine.

    Raises:
        BadRequest: the id or another argument is wrong; the message names it.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - that is what it is called everywhere
        *,
        label: str | None = None,
        description: str | None = None,
        tags: Iterable[str] = (),
        board: str | None = None,
        username: str | None = None,
        password: str | None = None,
        site: str | None = None,
        keepalive: int | None = None,
        state_dir: Path | str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.id = check_id(id, "node id")
        if id == BOARD:
            raise BadRequest(f"node id {BOARD!r} is the board's own; choose another")
        self.label, self.description, self.tags = label, description, list(tags)
        self._state_dir = Path(state_dir) if state_dir is not None else None
        given = {
            "site": site,
            "node.board": board,
            "node.username": username,
            "node.password": password,
            "node.keepalive": keepalive,
        }
        self._flags = {key: value for key, value in given.items() if value is not None}
        if settings is not None and self._flags:
            raise BadRequest(f"{next(iter(self._flags))} is given twice: as an argument and in settings")
        self._settings = settings
        self._things = Things()
        self._workers = Workers()
        self._agents: list[Agent] = []
        self._running: Running | None = None
        self._thread: NodeThread | None = None

    # -- what the node offers --------------------------------------------------------------------------------

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

    def pushed(self, name: str, **settings: Any) -> Callable[[Value], None]:
        """Make a sensor that is not read: call what this returns with each new value, from any thread.

        Args:
            name: the sensor's name.
            settings: as for :meth:`sensor`.

        Raises:
            BadRequest: a setting is wrong; the message names it.
        """
        self.add(things.sensor(None, name=name, **settings))
        return lambda value: self.report(name, value)

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
            elif self._running is not None:
                raise BadRequest(f"node {self.id!r} is running; add things before it starts")
            else:
                self._things.add(thing)

    def remove(self, worker: str) -> None:
        """Offer a worker no more; what it works on is still answered.

        Args:
            worker: its name.

        Raises:
            NotFound: there is no such worker.
        """
        self._workers.remove(worker)
        if self._running is not None:
            self._running.serving.remove(worker)

    def report(self, name: str, value: Value, *, t: float | None = None) -> None:
        """Report a sensor's value, or a control's that changed by itself; from any thread.

        Args:
            name: of the sensor or control.
            value: the new value.
            t: when it was measured, in Unix seconds; now by default.

        Raises:
            BadRequest: there is no such sensor or control.
            ValueError: the value is not of its type.
            Unavailable: the node is not running.
        """
        self._check_report(name, value)
        if self._running is None:
            raise Unavailable(f"node {self.id!r} is not running; {name!r} cannot be reported")
        self._running.report(name, value, t)

    def emit(
        self, event: str, *, message: str = "", severity: Severity = Severity.INFO, **data: JsonValue
    ) -> None:
        """Tell everybody that something happened, from any thread.

        Args:
            event: its name: a-z, 0-9 and ``-``.
            message: one sentence for people.
            severity: how much it matters.
            data: what programs want to know.

        Raises:
            BadRequest: the name is no id.
            Unavailable: the node is not running.
        """
        self._need_running().event(check_id(event, "event"), severity, message, dict(data))

    def listen(
        self,
        event: str,
        hear: Callable[[Heard], object],
        *,
        node: str = "*",
        where: Callable[[Heard], object] | None = None,
    ) -> Subscription:
        """Hear the events of nodes, while this node runs.

        Args:
            event: name of the event, or ``*``.
            hear: called with each, on a thread that all listeners share: it must be quick.
            node: whose events, or ``*``.
            where: only those for which this is true.

        Returns:
            The subscription; ``cancel()`` ends it.

        Raises:
            BadRequest: a name is no id.
            Unavailable: the node is not running.
        """
        link = self._need_running().link
        return events.listen(link, link.site, event, hear, node=node, where=where)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the node's event loop, from any thread.

        Raises:
            Unavailable: the node is not running.
        """
        try:
            running = self._need_running()
        except Unavailable:
            work.close()
            raise
        return running.spawn(work)

    # -- running ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until SIGTERM or Ctrl-C. While there is no board, keep readings and look for it.

        Exits with code 1 and one line on standard error if the node cannot run (id taken, wrong password …).
        """
        if not logging.getLogger().handlers:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        try:
            asyncio.run(until_signal(self.serve()))
        except CallboardError as error:
            sys.stderr.write(f"{self.id}: {error.message}\n")
            sys.exit(1)

    async def serve(self, *, ready: Callable[[], object] = lambda: None) -> None:
        """Run on the current event loop until cancelled; then stop cleanly.

        Args:
            ready: called once, when the node is on the board for the first time.

        Raises:
            CallboardError: the node cannot run; the message says why and what to do.
        """
        running = self._open()
        try:
            running.start()
            for agent in self._agents:
                agent.begin()
            await running.ready()
            ready()
            await running.wait()
        finally:
            await asyncio.to_thread(self._end_agents)
            self._running = None
            await running.stop()

    def start(self, *, timeout: float = 10.0) -> Self:
        """Run in a thread; returns when the node is on the board.

        Args:
            timeout: seconds to wait for that.

        Raises:
            CallboardError: the node cannot run, or was not on the board in time; it is stopped then.
        """
        if self._thread is not None:
            raise BadRequest(f"node {self.id!r} is running already")
        self._thread = NodeThread(self)
        try:
            self._thread.wait_ready(timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop what :meth:`start` started; does nothing otherwise."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- how it is -------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """True while the node is on the board."""
        return self._running is not None and self._running.link.connected

    @property
    def directory(self) -> Directory:
        """What everybody offers, over this node's own connection; from anywhere while the node runs.

        Raises:
            Unavailable: the node is not running.
        """
        return self._need_running().directory

    def pool(self, service: str | re.Pattern[str], **settings: Any) -> Pool:
        """Return the pool of all workers whose service matches; see :meth:`Directory.pool`."""
        return self.directory.pool(service, **settings)

    def proxy(self, name: str) -> Proxy:
        """Return what is offered as ``name`` and ``name:…``; see :meth:`Directory.proxy`."""
        return self.directory.proxy(name)

    @property
    def waiting(self) -> int:
        """Readings that the broker has not acknowledged."""
        return self._running.outbox.waiting if self._running is not None else 0

    @property
    def backlog(self) -> int:
        """Readings that are held back because the board is away; what is just on its way does not count."""
        running = self._running
        return 0 if running is None or running.readings.mode is Mode.LIVE else running.outbox.waiting

    @property
    def skipped(self) -> dict[str, int]:
        """For each sensor, how many of its ticks passed while it was still being read."""
        runs = self._running.sensors if self._running is not None else {}
        return {name: run.skipped for name, run in runs.items()}

    def why_not_connected(self, waited: float) -> str:
        """Say in one sentence what keeps the node from the board."""
        trouble = self._running.trouble if self._running is not None else "it is not running"
        return f"node {self.id!r} was not on the board within {waited:g} s: {trouble}"

    # -- inside ----------------------------------------------------------------------------------------------

    def _decorate(self, make: Callable[..., Thing | Worker], function: Any, settings: dict[str, Any]) -> Any:
        def decorate(target: _F) -> _F:
            self.add(make(target, **settings))
            return target

        return decorate if function is None else decorate(function)

    def _need_running(self) -> Running:
        if self._running is None:
            raise Unavailable(f"node {self.id!r} is not running")
        return self._running

    def _add_agent(self, agent: Agent) -> None:
        for worker in agent.attach(self):
            self._add_worker(worker)
        self._agents.append(agent)
        if self._running is not None:
            agent.begin()

    def _add_worker(self, worker: Worker) -> None:
        added = self._workers.add(worker)
        if self._running is not None:
            self._running.serving.serve(added)

    def _end_agents(self) -> None:
        for agent in self._agents:
            agent.end()

    def _check_report(self, name: str, value: Value) -> None:
        for sensor in self._things.sensors():
            if sensor.card.name == name:
                to_reading(sensor, value, 0.0)
                return
        for control in self._things.controls():
            if control.card.name == name:
                control.card.check(value)
                return
        raise BadRequest(f"node {self.id!r} has no sensor or control {name!r}")

    def _open(self) -> Running:
        if self._running is not None:
            raise BadRequest(f"node {self.id!r} is running already")
        self._running = Running(self._plan(), self._things, self._workers)
        return self._running

    def _plan(self) -> Plan:
        settings, folder = self._in_force()
        node, locator = settings.node, Locator(settings)
        card = NodeCard(
            name=self.id,
            epoch=0,
            label=self.label,
            description=self.description,
            tags=self.tags,
            version=version("callboard"),
            keepalive=node.keepalive,
            host=machine.describe(),
        )
        return Plan(
            card=card,
            site=settings.site,
            state=self._state_dir or folder,
            endpoint=locator.endpoint,
            credential=locator.credential,
            outbox_limit=node.outbox_limit,
        )

    def _in_force(self) -> tuple[Settings, Path]:
        """Return the settings and the state folder they give this node."""
        if self._settings is not None:
            settings, said = self._settings, self._settings.node.id == self.id
        else:
            loaded = load_settings(flags=self._flags)
            settings, said = loaded.value, loaded.sources["node.state"] != "default"
        return settings, settings.node.state if said else settings.state / "nodes" / self.id
