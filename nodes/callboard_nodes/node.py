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
from typing import TYPE_CHECKING, Any, Self

from callboard_core.cards import NodeCard
from callboard_core.errors import BadRequest, CallboardError, Unavailable
from callboard_core.messages import Severity, Value
from callboard_core.settings import Settings, load_settings
from callboard_core.topics import BOARD, check_id
from callboard_nodes import events, machine, things
from callboard_nodes.children import is_child
from callboard_nodes.enrolment import Applicant, Inviting, Renewal, Renewing, Store
from callboard_nodes.events import Heard
from callboard_nodes.hosting import NodeThread, until_signal
from callboard_nodes.locate import Locator
from callboard_nodes.offering import Offers
from callboard_nodes.readings import Mode
from callboard_nodes.running import Part, Plan, Running
from callboard_nodes.sensing import to_reading
from callboard_nodes.serving import Serving

if TYPE_CHECKING:
    from pydantic import JsonValue

    from callboard_core.artifacts import HttpArtifacts
    from callboard_core.calls.pool import Pool
    from callboard_core.calls.proxy import Proxy
    from callboard_core.directory import Directory
    from callboard_core.link import Subscription

__all__ = ["Node"]

_log = logging.getLogger("callboard.node")

#: What keeps a node from the board that was not started.
_IDLE = "it is not running"


class Node(Offers):
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
        super().__init__(id)
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
        self._parts: list[Callable[[Running], Part]] = []
        self._running: Running | None = None
        self._thread: NodeThread | None = None
        self._trouble = _IDLE

    def extend(self, make: Callable[[Running], Part]) -> None:
        """Have something else run with the node; ``make`` is called on its event loop at each start.

        Raises:
            BadRequest: the node is running.
        """
        if self._running is not None:
            raise BadRequest(f"node {self.id!r} is running; extend it before it starts")
        self._parts.append(make)

    # -- what it tells and hears -------------------------------------------------------------------------------

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

        Exits with code 1 and one line on standard error if the node cannot run (id taken, wrong password …). Does
        nothing in a worker's own process, which imports this program only for the function.
        """
        if is_child():
            return
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
        if is_child():
            raise BadRequest(
                f"node {self.id!r} is started again by a process that imports this program to run a worker; "
                "start it below `if __name__ == '__main__':`"
            )
        await self._join()
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

    @property
    def artifacts(self) -> HttpArtifacts:
        """The board's artifacts: content that is too large for messages; from anywhere while the node runs.

        Raises:
            Unavailable: the node is not running.
        """
        return self._need_running().artifacts

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
        trouble = self._running.trouble if self._running is not None else self._trouble
        return f"node {self.id!r} was not on the board within {waited:g} s: {trouble}"

    # -- inside ----------------------------------------------------------------------------------------------

    @property
    def _stage(self) -> Serving | None:
        return None if self._running is None else self._running.serving

    def _need_running(self) -> Running:
        if self._running is None:
            raise Unavailable(f"node {self.id!r} is not running")
        return self._running

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

    async def _join(self) -> None:
        """Join the board that ``node.join_file`` names, if there is a code in it and it was not used yet."""
        settings, state = self._in_force()
        file = settings.node.join_file
        if file is None:
            return
        inviting = Inviting(file, Applicant(self.id, self.label, machine.describe().hostname), Store(state))
        try:
            await inviting.follow(search=Locator(settings, state=state).search, say=self._tell)
        finally:
            self._trouble = _IDLE

    def _tell(self, message: str) -> None:
        self._trouble = message
        _log.warning("%s: %s", self.id, message)

    def _open(self) -> Running:
        if self._running is not None:
            raise BadRequest(f"node {self.id!r} is running already")
        settings, state = self._in_force()
        locator = Locator(settings, state=state)
        plan, parts = self._plan(settings, state, locator), list(self._parts)
        if plan.bound:
            parts.append(lambda running: Renewing(running, Renewal(locator.store, locator.where)))
        self._running = Running(plan, self._things, self._workers, parts)
        return self._running

    def _plan(self, settings: Settings, state: Path, locator: Locator) -> Plan:
        node, enrolment = settings.node, locator.enrolment()
        if enrolment is not None and enrolment.record.id != self.id:
            raise BadRequest(
                f"{locator.store.path} is the enrolment of node {enrolment.record.id!r}; use that id, or another "
                f"state folder for {self.id!r}"
            )
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
            site=settings.site if enrolment is None else enrolment.record.site,
            state=state,
            endpoint=locator.endpoint,
            credential=locator.credential,
            outbox_limit=node.outbox_limit,
            http=locator.http(),
            tls=locator.tls,
            web_tls=locator.web_tls,
            bound=locator.bound,
            lane=node.lane,
        )

    def _in_force(self) -> tuple[Settings, Path]:
        """Return the settings, and the state folder that they or the caller give this node."""
        if self._settings is not None:
            settings, said = self._settings, self._settings.node.id == self.id
        else:
            loaded = load_settings(flags=self._flags)
            settings, said = loaded.value, loaded.sources["node.state"] != "default"
        usual = settings.node.state if said else settings.state / "nodes" / self.id
        return settings, self._state_dir or usual
