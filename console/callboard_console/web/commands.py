"""What became of the commands a session sent: sent, acknowledged, running, done, failed, timed out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count
from typing import Protocol

from pydantic import JsonValue

from callboard_core.errors import CallboardError, TimedOut
from callboard_core.topics import Address

__all__ = ["FINAL", "Caller", "Ledger", "Order", "Stage", "step"]

#: Orders a session remembers.
_KEPT = 50


class Stage(StrEnum):
    """Where an order stands."""

    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"


#: Stages after which nothing follows.
FINAL = frozenset({Stage.DONE, Stage.FAILED, Stage.TIMED_OUT})

_STEPS: dict[tuple[Stage, str], Stage] = {
    (before, event): after
    for before in Stage
    if before not in FINAL
    for event, after in (
        ("progress", Stage.RUNNING),
        ("done", Stage.DONE),
        ("failed", Stage.FAILED),
        ("timed out", Stage.TIMED_OUT),
    )
} | {(Stage.SENT, "ack"): Stage.ACKNOWLEDGED}


def step(stage: Stage, event: str) -> Stage:
    """Return the stage after an event; what comes late or twice changes nothing."""
    return _STEPS.get((stage, event), stage)


@dataclass(frozen=True, slots=True)
class Order:
    """One command and what is known of it. Times are Unix seconds, ``progress`` 0…1."""

    number: int
    address: Address
    title: str
    args: Mapping[str, JsonValue]
    sent: float
    stage: Stage = Stage.SENT
    ended: float | None = None
    progress: float | None = None
    result: JsonValue = None
    error: str | None = None

    @property
    def took(self) -> float | None:
        """Seconds from sending to the end, None while it is under way."""
        return None if self.ended is None else self.ended - self.sent


class Caller(Protocol):
    """The part of a link that sends commands."""

    def call(
        self,
        address: Address,
        args: Mapping[str, JsonValue],
        *,
        timeout: float,
        on_progress: Callable[[float], None] | None = None,
        on_ack: Callable[[], None] | None = None,
    ) -> Future[JsonValue]:
        """Send one call; the future holds its result."""


class Ledger:
    """The orders of one session, newest first. Replies arrive on other threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._orders: deque[Order] = deque(maxlen=_KEPT)
        self._numbers = count(1)
        self._lock = threading.Lock()

    def orders(self) -> list[Order]:
        """Return what is remembered, newest first."""
        with self._lock:
            return list(self._orders)

    def last(self, address: Address) -> Order | None:
        """Return the newest order to one thing."""
        return next((order for order in self.orders() if order.address == address), None)

    def send(
        self, caller: Caller, address: Address, title: str, args: Mapping[str, JsonValue], *, timeout: float
    ) -> Order:
        """Send a command and follow it. Never raises for what the other side does: the order tells."""
        order = Order(next(self._numbers), address, title, args, self._clock())
        with self._lock:
            self._orders.appendleft(order)
        try:
            future = caller.call(
                address,
                args,
                timeout=timeout,
                on_progress=lambda progress: self._advance(order.number, "progress", progress=progress),
                on_ack=lambda: self._advance(order.number, "ack"),
            )
        except CallboardError as error:
            self._fail(order.number, error)
        else:
            future.add_done_callback(lambda done: self._finish(order.number, done))
        return order

    def refuse(self, address: Address, title: str, args: Mapping[str, JsonValue], reason: str) -> None:
        """Note a command that could not even be sent."""
        now = self._clock()
        order = Order(
            next(self._numbers), address, title, args, now, stage=Stage.FAILED, ended=now, error=reason
        )
        with self._lock:
            self._orders.appendleft(order)

    def _finish(self, number: int, done: Future[JsonValue]) -> None:
        if done.cancelled():
            self._advance(number, "failed", error="given up")
            return
        error = done.exception()
        if error is not None:
            self._fail(number, error)
        else:
            self._advance(number, "done", result=done.result())

    def _fail(self, number: int, error: BaseException) -> None:
        event = "timed out" if isinstance(error, TimedOut) else "failed"
        self._advance(number, event, error=str(error) or type(error).__name__)

    def _advance(
        self,
        number: int,
        event: str,
        *,
        progress: float | None = None,
        result: JsonValue = None,
        error: str | None = None,
    ) -> None:
        with self._lock:
            for position, order in enumerate(self._orders):
                if order.number != number:
                    continue
                if order.stage in FINAL:
                    return
                stage = step(order.stage, event)
                self._orders[position] = replace(
                    order,
                    stage=stage,
                    progress=order.progress if progress is None else progress,
                    result=order.result if result is None else result,
                    error=order.error if error is None else error,
                    ended=self._clock() if stage in FINAL else None,
                )
                return
