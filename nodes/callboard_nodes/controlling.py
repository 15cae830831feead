"""One control of a running node: apply a value, keep it, echo it as the state."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from pydantic import JsonValue

from callboard_core.errors import BadPayload
from callboard_core.messages import ErrorBody, Level, State, Value
from callboard_core.topics import Kind
from callboard_nodes.sensing import Desk
from callboard_nodes.store import ControlStore
from callboard_nodes.things import Control

__all__ = ["ControlRun"]

_log = logging.getLogger(__name__)

#: Seconds between attempts to apply a stored value that its function refused; doubled up to the second number.
_RETRY, _LONGEST_RETRY = 1.0, 60.0


class ControlRun:
    """Applies one value after the other. Lives on the node's event loop."""

    def __init__(self, control: Control, desk: Desk, store: ControlStore) -> None:
        self._control, self._desk, self._store = control, desk, store
        self._name = control.card.name
        self._turn = asyncio.Lock()  # fair: values are applied in the order they came
        self._sets = 0
        self._failing = False
        self._keeping: asyncio.Future[None] | None = None
        self.value: Value | None = None

    async def run(self) -> None:
        """Apply the stored or the initial value; try again while the function refuses, until somebody sets another."""
        wanted = self._remembered()
        self._show(call=None)
        pause = _RETRY
        while wanted is not None and self._sets == 0:
            try:
                await self._apply(wanted, call=None)
            except Exception:  # noqa: BLE001 - it is shown as the control's state
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_RETRY)
            else:
                return

    async def set(self, value: JsonValue, *, call: str | None = None) -> Value:
        """Set the control.

        Args:
            value: what to set.
            call: id of the call, shown in the state.

        Returns:
            The value in force.

        Raises:
            BadPayload: the control does not take this value; nothing changed.
            Exception: whatever the function raised; the value in force is the one before.
        """
        try:
            checked = self._control.card.check(value)
        except ValueError as error:
            raise BadPayload(str(error), key="value") from None
        self._sets += 1
        return await self._apply(checked, call=call)

    def take(self, value: Value) -> None:
        """Note a value that came into force by itself (somebody turned the knob)."""
        self._sets += 1
        self._in_force(value, call=None)
        self._keeping = asyncio.ensure_future(self._keep(value))

    async def _apply(self, value: Value, *, call: str | None) -> Value:
        async with self._turn:
            try:
                answer: Any = await self._desk.call(self._control.apply, value)
                found = value if answer is None else self._control.card.check(answer)
            except Exception as error:
                self._fail(error, call)
                raise
            self._in_force(found, call)
            await self._keep(found)
            return found

    def _in_force(self, value: Value, call: str | None) -> None:
        self.value = value
        if self._failing:
            self._failing = False
            self._desk.recovered(Kind.CONTROL, self._name)
        self._show(call)

    async def _keep(self, value: Value) -> None:
        """Store the value in a thread: a busy SD card takes its time."""
        if not self._control.persist:
            return
        try:
            await self._desk.call(self._store.put, self._name, value)
        except OSError as error:
            _log.warning("the value of control %s cannot be kept: %s", self._name, error)

    def _fail(self, error: Exception, call: str | None) -> None:
        body = ErrorBody.of(error)
        self._show(call, error=body)
        if not self._failing:
            self._failing = True
            self._desk.failing(Kind.CONTROL, self._name, body)

    def _show(self, call: str | None, error: ErrorBody | None = None) -> None:
        level = Level.NORMAL if error is None else Level.ERROR
        state = State(v=self.value, t=time.time(), level=level, error=error, call=call)
        self._desk.state(Kind.CONTROL, self._name, state)

    def _remembered(self) -> Value | None:
        stored = self._store.get(self._name) if self._control.persist else None
        if stored is None:
            return self._control.initial
        try:
            return self._control.card.check(stored)
        except ValueError as error:
            _log.warning("the stored value of control %s is not used: %s", self._name, error)
            return self._control.initial
