"""One action of a running node: check the arguments, run it, show how it stands."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_jsonable_python

from callboard_core.errors import Failed, Overloaded, TimedOut
from callboard_core.messages import ErrorBody, Level, State
from callboard_core.topics import Kind
from callboard_nodes.sensing import Desk
from callboard_nodes.things import Action, is_async

__all__ = ["ActionRun", "Running"]


class Running(Protocol):
    """What is needed of the call that runs."""

    @property
    def id(self) -> str:
        """The call's id."""

    @property
    def args(self) -> Mapping[str, JsonValue]:
        """The call's arguments."""

    @property
    def cancelled(self) -> threading.Event:
        """Set when the call is interrupted or took too long."""


class ActionRun:
    """Runs one call at a time. Lives on the node's event loop."""

    def __init__(self, action: Action, desk: Desk) -> None:
        self._action, self._desk = action, desk
        self._name = action.card.name
        self._task: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Show that nothing runs."""
        self._show("idle", None)

    async def call(self, request: Running) -> JsonValue:
        """Run the action; cancelling this interrupts it.

        Returns:
            What the function returned, as JSON.

        Raises:
            BadPayload: an argument is wrong; the message names it.
            Overloaded: the action is still running.
            Exception: whatever the function raised.
        """
        arguments = self._action.parameters.fill(request.args, request)
        if self._task is not None and not self._task.done():
            raise Overloaded(f"{self._name} is still running; interrupt it or wait")
        self._show("running", request.id)
        try:
            result = _as_json(await self._run_in_time(arguments, request))
            self._check_interrupted(request)
        except asyncio.CancelledError:
            self._show("failed", request.id, Failed("it was interrupted"))
            raise
        except Exception as error:
            self._show("failed", request.id, error)
            raise
        self._show("done", request.id)
        return result

    async def _run_in_time(self, arguments: Mapping[str, Any], request: Running) -> Any:
        """Run the function; interrupt it at the time-out if it can be interrupted."""
        limit = self._action.card.timeout if self._action.card.interruptible else None
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                return await self._run(arguments)
        except TimeoutError:
            if not scope.expired():
                raise  # the function's own
            request.cancelled.set()
            raise TimedOut(f"action/{self._name} took longer than {limit:g} s") from None

    async def _run(self, arguments: Mapping[str, Any]) -> Any:
        self._task = asyncio.ensure_future(self._desk.call(self._action.run, **arguments))
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            # A thread cannot be stopped from outside: it sees request.cancelled, and is busy until it returns.
            if is_async(self._action.run):
                self._task.cancel()
            self._task.add_done_callback(_retrieve)
            raise

    def _check_interrupted(self, request: Running) -> None:
        """An ordinary function ends by itself when it is interrupted; that is not success."""
        if self._action.card.interruptible and request.cancelled.is_set():
            raise asyncio.CancelledError

    def _show(self, word: str, call: str | None, error: Exception | None = None) -> None:
        body = None if error is None else ErrorBody.of(error)
        level = Level.NORMAL if error is None else Level.ERROR
        state = State(v=word, t=time.time(), level=level, error=body, call=call)
        self._desk.state(Kind.ACTION, self._name, state)


def _as_json(value: object) -> JsonValue:
    try:
        found: JsonValue = to_jsonable_python(value)
    except PydanticSerializationError as error:
        raise Failed(f"the result cannot be written as JSON: {error}") from None
    return found


def _retrieve(task: asyncio.Future[Any]) -> None:
    """Look at the outcome of what nobody waits for any more, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()
