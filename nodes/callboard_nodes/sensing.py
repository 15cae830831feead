"""Reading one sensor: when its time has come, on its own schedule, whatever the other things of the node do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any, Protocol

from pydantic import ValidationError

from callboard_core.errors import TimedOut
from callboard_core.messages import ErrorBody, Level, Reading, State, describe
from callboard_core.topics import Kind
from callboard_nodes.readings import Readings
from callboard_nodes.reporter import SHORTEST_INTERVAL, Reporter
from callboard_nodes.things import Handler, Sensor, is_async
from callboard_nodes.ticker import Ticker
from callboard_nodes.values import to_value

__all__ = ["TEXT_LIMIT", "Desk", "SensorRun", "to_reading"]

_log = logging.getLogger(__name__)

#: Longest text a sensor may give, in bytes.
TEXT_LIMIT = 16 * 1024


class Desk(Protocol):
    """What running things need of their node."""

    readings: Readings

    def call(self, function: Handler, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Run a user's function, an ordinary one in a thread."""

    def state(self, kind: Kind, name: str, state: State) -> Future[None]:
        """Publish a thing's state."""

    def failing(self, kind: Kind, name: str, error: ErrorBody) -> None:
        """Tell that a thing began to fail."""

    def recovered(self, kind: Kind, name: str) -> None:
        """Tell that a thing works again."""


class SensorRun:
    """One sensor of a running node. Lives on the node's event loop.

    Attributes:
        skipped: ticks at which the function was still running from an earlier one.
    """

    def __init__(self, sensor: Sensor, desk: Desk) -> None:
        self._sensor, self._desk = sensor, desk
        self._name = sensor.card.name
        self._reporter = Reporter(sensor.card)
        self._failing = False
        self._shown: tuple[float, ErrorBody] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.skipped = 0

    async def run(self) -> None:
        """Read the sensor for ever."""
        function, every = self._sensor.read, self._sensor.card.every
        if function is None or every is None:
            return
        loop = asyncio.get_running_loop()
        ticker = Ticker(every, loop.time())
        while True:
            await asyncio.sleep(ticker.next - loop.time())
            try:
                await self._read(function)
            except Exception as error:  # noqa: BLE001 - the next tick comes whatever happens
                _log.exception("sensor %s", self._name)
                self.fail(error)
            ticker.advance(loop.time())
            if ticker.skipped and not self.skipped:
                _log.warning("sensor %s takes longer than %g s; ticks are skipped", self._name, every)
            self.skipped = ticker.skipped

    def take(self, value: object, t: float | None = None) -> None:
        """Take a value, read or pushed; an unusable one makes the sensor fail."""
        try:
            reading = to_reading(self._sensor, value, time.time() if t is None else t)
        except ValueError as error:
            self.fail(error)
            return
        if self._failing:
            self._failing, self._shown = False, None
            self._reporter.forget()
            self._desk.recovered(Kind.SENSOR, self._name)
        if self._reporter.keeps(reading, time.monotonic()):
            self._desk.readings.keep(Kind.SENSOR, self._name, reading)
            self.send()

    def fail(self, error: BaseException) -> None:
        """Show an error as the sensor's state, until it gives a value again."""
        body, now = ErrorBody.of(error), time.monotonic()
        if not self._failing:
            self._failing = True
            self.send(force=True)
            self._desk.failing(Kind.SENSOR, self._name, body)
        if self._shown is None or (body != self._shown[1] and now >= self._shown[0] + SHORTEST_INTERVAL):
            self._shown = now, body
            self._desk.state(Kind.SENSOR, self._name, State(t=time.time(), level=Level.ERROR, error=body))

    def send(self, *, force: bool = False) -> None:
        """Send what is due, or with ``force`` all that is held; come back when the rest is due."""
        self.close()
        due = self._reporter.due(time.monotonic(), force=force)
        if due is not None:
            state = State(v=due.state.v, t=due.state.t, level=due.level)
            sent = self._desk.state(Kind.SENSOR, self._name, state)
            self._desk.readings.send(Kind.SENSOR, self._name, due.batch, sent)
        at = self._reporter.when()
        if at is not None:
            delay = max(0.0, at - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self.send)

    def close(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _read(self, function: Handler) -> None:
        """Run the function once. Past the time-out it is shown as failing, but never started a second time."""
        task = asyncio.ensure_future(self._desk.call(function))
        try:
            await asyncio.wait({task}, timeout=self._sensor.timeout)
            if not task.done():
                self.fail(TimedOut(f"it has been running for {self._sensor.timeout:g} s"))
                if is_async(function):
                    task.cancel()
                await asyncio.wait({task})
        finally:
            task.cancel()
        if not task.cancelled():
            self._settle(task)

    def _settle(self, task: asyncio.Future[Any]) -> None:
        error = task.exception()
        if error is not None:
            _log.debug("sensor %s failed", self._name, exc_info=error)
            self.fail(error)
        elif task.result() is not None:
            self.take(task.result())


def to_reading(sensor: Sensor, value: object, t: float) -> Reading:
    """Return a reading of a sensor.

    Raises:
        ValueError: the value is not of the sensor's type, too long a text, or cannot be sent.
    """
    found = to_value(sensor.card.type, value, options=sensor.card.options)
    if isinstance(found, str) and len(found.encode()) > TEXT_LIMIT:
        raise ValueError(f"a text of {len(found.encode())} bytes is over the limit of {TEXT_LIMIT}")
    try:
        return Reading(v=found, t=t)
    except ValidationError as error:
        raise ValueError(describe(error).message) from None
