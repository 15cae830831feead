"""A node while it runs: its link, its presence on the board, and one task per thing, all on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from callboard_core import topics
from callboard_core.artifacts import HttpArtifacts
from callboard_core.callee import Callee, Request
from callboard_core.cards import NodeCard
from callboard_core.directory import Directory
from callboard_core.epoch import next_epoch
from callboard_core.errors import CallboardError, Conflict, Failed, Unauthorized, Unavailable
from callboard_core.link import Credential, Endpoint, Link
from callboard_core.link.backoff import Backoff
from callboard_core.messages import ErrorBody, Event, Severity, State, Value
from callboard_core.presence import Presence, new_instance
from callboard_core.runners import Pool
from callboard_core.settings import LaneSettings
from callboard_core.topics import Kind
from callboard_nodes.acting import ActionRun
from callboard_nodes.audience import Audience
from callboard_nodes.controlling import ControlRun
from callboard_nodes.direct import Direct
from callboard_nodes.install.layout import INSTALLED
from callboard_nodes.lock import StateLock
from callboard_nodes.outbox import Outbox
from callboard_nodes.readings import Readings
from callboard_nodes.sensing import SensorRun
from callboard_nodes.serving import Serving
from callboard_nodes.store import ControlStore
from callboard_nodes.things import Action, Control, Handler, Sensor, Things, is_async
from callboard_nodes.workers import Worker

__all__ = ["Part", "Plan", "Running"]

_log = logging.getLogger("callboard.node")

#: Functions that may run at the same time; each thing runs its own at most once at a time.
_THREADS = 1000
#: Seconds between two looks whether the board was found; the attempts themselves go on all the time.
_LOOK = 1.0
#: Seconds after which the callee answers for an action that keeps its own time-out and is late.
_MARGIN = 5.0
#: Seconds within which a broker has learned of a new enrolment: Mosquitto is told every other second. And how soon a
#: node that has just enrolled tries again.
_NEWS = 15.0
_ENROLLED = Backoff(refused=4.0)
#: Seconds for what is under way at a stop.
_PATIENCE = 2.0


@dataclass(frozen=True)
class Plan:
    """Everything that is settled when a node starts.

    Attributes:
        http: where the HTTP API is; empty for where the board's card says it is.
        tls: what encrypts MQTT, where the endpoint says so; None for the system's authorities.
        web_tls: the same for the HTTP API.
        bound: the credential is good for this node's id only.
    """

    card: NodeCard
    site: str
    state: Path
    endpoint: Callable[[], Endpoint]
    credential: Callable[[], Credential | None]
    outbox_limit: int
    http: str | Callable[[], str] = ""
    tls: Callable[[], ssl.SSLContext | None] = lambda: None
    web_tls: Callable[[], ssl.SSLContext | None] = lambda: None
    bound: bool = False
    lane: LaneSettings = field(default_factory=LaneSettings)


class Part(Protocol):
    """Something else that runs with a node, on its event loop."""

    def start(self) -> None:
        """Begin; just before the node connects."""

    async def stop(self) -> None:
        """End; while the node is still connected."""


class Running:
    """One run of a node, from start to stop.

    Attributes:
        readings: where readings go.
        outbox: readings that are not acknowledged.
        link: the connection.
        artifacts: what the board keeps for being too large for messages.
    """

    def __init__(
        self,
        plan: Plan,
        things: Things,
        workers: Iterable[Worker] = (),
        parts: Iterable[Callable[[Running], Part]] = (),
    ) -> None:
        self._plan = plan
        self._node = plan.card.name
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: set[Future[Any]] = set()
        self._pool = Pool(f"{self._node}-thing", _THREADS)
        self.trouble = "it was not started"
        self._directory: Directory | None = None
        self._directory_lock = threading.Lock()
        self._lock = StateLock(plan.state, self._node)
        try:
            self._build(things, workers)
            self._parts = [make(self) for make in parts]
        except OSError as error:
            self._lock.release()
            raise Unavailable(f"the state folder {plan.state} cannot be used: {error}") from error
        except BaseException:
            self._lock.release()
            raise

    def _build(self, things: Things, workers: Iterable[Worker]) -> None:
        plan = self._plan
        epoch, instance = next_epoch(plan.state / "epoch"), new_instance()
        self.outbox = Outbox(plan.state / "outbox", limit=plan.outbox_limit)
        self.link = Link(
            client_id=self._node,
            endpoint=plan.endpoint,
            credential=plan.credential,
            site=plan.site,
            keepalive=plan.card.keepalive,
            reconnect=_ENROLLED if plan.bound else Backoff(),
            tls=plan.tls,
        )
        self.artifacts = HttpArtifacts.of(self.link, plan.credential, plan.http, tls=plan.web_tls)
        self.link.artifacts = self.artifacts
        self.presence = Presence(self.link, card=plan.card, epoch=epoch, instance=instance, bound=plan.bound)
        self.callee = Callee(self.link, self.presence)
        audience = Audience(self.link, site=plan.site, on_change=partial(self._soon, self._audience_changed))
        self.readings = Readings(self.outbox, self.link, site=plan.site, node=self._node, heard=audience.wait)
        store = ControlStore(plan.state / "controls.json")
        self.sensors = {one.card.name: SensorRun(one, self) for one in things.sensors()}
        self.controls = {one.card.name: ControlRun(one, self, store) for one in things.controls()}
        self.actions = {one.card.name: ActionRun(one, self) for one in things.actions()}
        for thing in things:
            self._announce(thing)
        self.direct = Direct(
            self.link,
            self.callee,
            plan.lane,
            instance=instance,
            changed=self._announce_workers,
        )
        self.serving = Serving(
            link=self.link,
            presence=self.presence,
            callee=self.callee,
            loop=self._loop,
            node=self._node,
            directory=lambda: self.directory,
            tell=self.event,
            lane=self.direct.lane,
        )
        for worker in workers:
            self.serving.serve(worker)

    @property
    def directory(self) -> Directory:
        """The directory, followed from the first use on."""
        with self._directory_lock:
            if self._directory is None:
                self._directory = Directory(self.link)
                self._directory.start()
            return self._directory

    # -- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read, to listen and to connect; returns at once."""
        self.link.on_connect(partial(self._soon, self._connected))
        self.link.on_disconnect(lambda reason: self._soon(self._disconnected, reason))
        self.presence.on_conflict(partial(self._soon, self._fail))
        for part in self._parts:
            part.start()
        self.link.start()
        for action in self.actions.values():
            action.start()
        for sensor in self.sensors.values():
            self._spawn(sensor.run())
        for control in self.controls.values():
            self._spawn(control.run())
        self._spawn(self._watch())

    async def ready(self) -> None:
        """Wait until the node is on the board for the first time; raises as :meth:`wait` does."""
        await asyncio.wait({self._ready, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            self._failed.result()

    async def wait(self) -> None:
        """Wait until the node cannot go on.

        Raises:
            Conflict: another process runs under the node's id.
            Unauthorized: the board does not know the credential.
        """
        await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """Send what is held back, say farewell, end everything."""
        for task in self._tasks:
            task.cancel()
        for call in list(self._calls):
            call.cancel()
        for outcome in await asyncio.gather(*(part.stop() for part in self._parts), return_exceptions=True):
            if outcome is not None:
                _log.error("something of node %s did not stop in order: %r", self._node, outcome)
        await asyncio.to_thread(self.serving.stop)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sensor in self.sensors.values():
            sensor.send(force=True)
        await asyncio.to_thread(self.callee.close)
        await asyncio.to_thread(self.direct.close)
        await self._settle_in()
        await asyncio.to_thread(self.link.stop, farewell=self.presence.farewell(), timeout=_PATIENCE)
        for sensor in self.sensors.values():
            sensor.close()
        self.readings.close()
        self._pool.stop()
        self._lock.release()
        if self._failed.done():
            self._failed.exception()

    async def _settle_in(self) -> None:
        """Let a connect that is under way be finished: before that there is no farewell."""
        if self.link.connected:
            with contextlib.suppress(CallboardError):
                await asyncio.to_thread(self.link.wait_connected, _PATIENCE)

    def report(self, name: str, value: Value, t: float | None) -> None:
        """Take a pushed value; from any thread."""
        if name in self.sensors:
            self._soon(self.sensors[name].take, value, t)
        else:
            self._soon(self.controls[name].take, value)

    # -- what things need (Desk) -----------------------------------------------------------------------------

    def call(self, function: Handler, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Run a user's function: an ``async`` one on the loop, an ordinary one in a thread."""
        if is_async(function):
            return _guarded(function(*args, **kwargs))
        future: Future[Any] = Future()
        if not self._pool.run(partial(_settle, future, partial(function, *args, **kwargs))):
            future.set_exception(Failed(f"{_THREADS} functions of this node hang"))
        return asyncio.wrap_future(future)

    def state(self, kind: Kind, name: str, state: State) -> Future[None]:
        """Publish a thing's state. What the link refuses fails the future; the next connect brings it anyway."""
        try:
            return self.presence.state(kind, name, state)
        except CallboardError as error:
            _log.debug("the state of %s %s waits for the next connect: %s", kind, name, error)
            refused: Future[None] = Future()
            refused.set_exception(error)
            return refused

    def failing(self, kind: Kind, name: str, error: ErrorBody) -> None:
        """Tell that a thing began to fail."""
        _log.warning("%s %s fails: %s", kind, name, error.message)
        data = {"kind": kind, "name": name, "error": error.model_dump(exclude_none=True)}
        self.event("failing", Severity.ERROR, f"{kind} {name}: {error.message}", data)

    def recovered(self, kind: Kind, name: str) -> None:
        """Tell that a thing works again."""
        _log.info("%s %s works again", kind, name)
        self.event("recovered", Severity.INFO, f"{kind} {name} works again", {"kind": kind, "name": name})

    def event(self, name: str, severity: Severity, message: str, data: dict[str, Any]) -> None:
        """Publish an event of this node."""
        event = Event(t=time.time(), severity=severity, message=message, data=data)
        try:
            self.link.publish(topics.event(self._plan.site, self._node, name), event, qos=1)
        except CallboardError as error:
            _log.debug("the event %s is not sent: %s", name, error)

    # -- connections -----------------------------------------------------------------------------------------

    def _connected(self) -> None:
        _log.info("node %s is on the board", self._node)
        self.trouble = ""
        self.link.reconnect = Backoff()
        self.readings.connected()
        if not self._ready.done():
            self._ready.set_result(None)

    def _audience_changed(self) -> None:
        if self.link.connected:
            self.readings.connected()

    def _disconnected(self, reason: str) -> None:
        _log.warning("node %s lost the board: %s", self._node, reason)
        self.readings.disconnected()

    async def _watch(self) -> None:
        """Until the first connect: say what is in the way, and give up on what waiting cannot cure."""
        patient_until = time.monotonic() + _NEWS
        while not self._ready.done():
            try:
                await asyncio.to_thread(self.link.wait_connected, _LOOK)
            except Unauthorized:
                if self._plan.bound and time.monotonic() < patient_until:
                    await asyncio.sleep(_LOOK)
                    continue
                self._fail(Unauthorized(self._wrong_password()))
                return
            except Conflict as error:
                self._fail(error)
                return
            except Unavailable as error:
                if error.message != self.trouble:
                    _log.warning("not connected: %s; still trying", error.message)
                self.trouble = error.message
            else:
                return

    def _wrong_password(self) -> str:
        if self._plan.bound:
            again = (
                "sudo callboard node --install --join" if INSTALLED in os.environ else "callboard node --join"
            )
            return (
                f"the board has withdrawn the enrolment of node {self._node!r}; join it again "
                f"(`{again} CODE`, with a code from `callboard join --id {self._node}` on the board)"
            )
        credential = self._plan.credential()
        who = (
            f"user {credential.username!r}: wrong username or password"
            if credential
            else "a node without a password"
        )
        return (
            f"the board refuses {who}; set CALLBOARD_NODE_USERNAME and CALLBOARD_NODE_PASSWORD_FILE "
            "(on the board's machine: credentials/node.password in its state folder)"
        )

    def _fail(self, error: CallboardError) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    # -- things ----------------------------------------------------------------------------------------------

    def _announce_workers(self) -> None:
        self.serving.announce_anew()

    def _announce(self, thing: Sensor | Control | Action) -> None:
        self.presence.pin(thing.card)
        if isinstance(thing, Control):
            self.callee.handle(
                Kind.CONTROL, thing.card.name, partial(self._set, thing.card.name), timeout=30.0
            )
        elif isinstance(thing, Action):
            # Cancelling a coroutine interrupts it; an ordinary handler is only told, and goes on.
            act, margin = (self._act, _MARGIN) if thing.card.interruptible else (self._act_to_the_end, 0.0)
            handler = partial(act, self.actions[thing.card.name])
            self.callee.handle(Kind.ACTION, thing.card.name, handler, timeout=thing.card.timeout + margin)

    async def _set(self, name: str, request: Request) -> JsonValue:
        setting = self.controls[name].set(request.args.get("value"), call=request.id)
        return {"value": await asyncio.wrap_future(self.spawn(setting))}

    async def _act(self, run: ActionRun, request: Request) -> JsonValue:
        return await asyncio.wrap_future(self.spawn(run.call(request)))

    def _act_to_the_end(self, run: ActionRun, request: Request) -> JsonValue:
        result: JsonValue = self.spawn(run.call(request)).result()
        return result

    def spawn(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the node's loop from another thread; cancelling the future cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        return future

    # -- small things ----------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    def _soon(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop was closed: nobody needs to know any more
            _log.debug("%s after the end", function)


async def _guarded(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except SystemExit as error:
        raise Failed("the function called sys.exit()") from error


def _settle(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except Exception as error:  # noqa: BLE001 - it is the future's
        future.set_exception(error)
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler must not end the node
        future.set_exception(Failed(f"the function raised {type(error).__name__}"))
    else:
        future.set_result(result)
