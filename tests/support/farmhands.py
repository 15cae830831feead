"""Slots that only pretend to render: real nodes on a real broker that keep the farm's protocol, for tests and load."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from callboard_core.callee import Callee, Request
from callboard_core.cards import NodeCard, SlotCard
from callboard_core.errors import CallboardError, Overloaded, TimedOut
from callboard_core.farm.messages import (
    ATTEMPT_WORKER,
    Assignment,
    AttemptEvent,
    AttemptReply,
    AttemptStatus,
    SlotCommand,
    SlotReply,
    SlotReport,
    as_args,
)
from callboard_core.farm.states import SlotState
from callboard_core.link import Credential, Endpoint, Link
from callboard_core.presence import Presence, new_instance
from callboard_core.topics import BOARD, Address, Kind, Leaf

#: Decides what becomes of a frame: None (it is done) or a failed event's fields.
Fate = Callable[[Assignment, int], dict[str, Any] | None]


@dataclass
class Work:
    """One attempt on a slot."""

    assignment: Assignment
    seq: int = 0
    unsent: list[AttemptEvent] = field(default_factory=list)
    cancelled: bool = False
    finished: bool = False


class Hand:
    """One slot: a thread that takes what it is given, frame by frame."""

    def __init__(self, crew: Crew, name: str) -> None:
        self.crew, self.name = crew, name
        self.works: deque[Work] = deque()
        self.gaps: list[float] = []
        self.begun: list[tuple[str, int]] = []
        self.released = threading.Event()
        self.released.set()
        self._ended: float | None = None
        self._wake = threading.Condition()
        self._stopping = False
        self._ends: SimpleQueue[Work | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=work, name=f"hand-{name}", daemon=True)
            for work in (self._run, self._report_ends)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self.released.set()
        self._ends.put(None)
        for thread in self._threads:
            thread.join(5)

    def command(self, request: Request) -> Any:
        command = SlotCommand.model_validate(dict(request.args))
        with self._wake:
            match command.do:
                case "assign":
                    if sum(not work.finished for work in self.works) >= 2:
                        raise Overloaded("two are enough")
                    assert command.assignment is not None
                    self.works.append(Work(command.assignment))
                    self._wake.notify_all()
                case "cancel":
                    for work in self.works:
                        if work.assignment.attempt == command.attempt:
                            work.cancelled = True
                            self._wake.notify_all()
                case "report":
                    return as_args(self._report())
                case _:
                    self.crew.commands.append((self.name, command.do))
        return as_args(SlotReply())

    def _report(self) -> SlotReply:
        attempts = [
            AttemptStatus(
                attempt=w.assignment.attempt,
                task=w.assignment.task,
                seq=w.seq,
                state="ended" if w.finished else "next" if n else "running",
            )
            for n, w in enumerate(self.works)
        ]
        report = SlotReport(state=SlotState.RENDERING if self.works else SlotState.IDLE, since=time.time())
        return SlotReply(report=report, attempts=attempts)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._next() or self._stopping)
                if self._stopping:
                    return
                work = self._next()
            assert work is not None
            self._do(work)

    def _next(self) -> Work | None:
        return next((work for work in self.works if not work.finished), None)

    def _report_ends(self) -> None:
        """The end of one attempt is on its way while the next one runs."""
        while (work := self._ends.get()) is not None:
            self._send(work)
            with self._wake:
                self.works.remove(work)

    def _do(self, work: Work) -> None:
        if self._ended is not None:
            self.gaps.append(time.monotonic() - self._ended)
        self._note(work, "started", seconds=0.0)
        if self.crew.lines:
            self._note(work, "log", lines=self.crew.lines)
        frames = work.assignment.frames or [None]
        for frame in frames:
            self.begun.append((work.assignment.task, frame if frame is not None else 0))
            if not self._render(work):
                break
            fate = self.crew.fate(work.assignment, frame if frame is not None else 0)
            if fate is not None:
                self._note(work, "failed", frame=frame, **fate)
                break
            if frame is not None:
                self._note(work, "frame", frame=frame, seconds=self.crew.seconds, **self.crew.file(frame))
            if len(frames) > 1:
                self._send(work, wait=False)
        else:
            self._note(work, "done")
        self._ended = time.monotonic()
        with self._wake:
            work.finished = True
        self._ends.put(work)

    def _render(self, work: Work) -> bool:
        """Wait for as long as a frame takes; False when it was cancelled or the slot stops."""
        self._hold(work)
        deadline = time.monotonic() + self.crew.seconds
        with self._wake:
            while (left := deadline - time.monotonic()) > 0 and not work.cancelled and not self._stopping:
                self._wake.wait(left)
        if work.cancelled:
            self._note(work, "cancelled")
        return not work.cancelled and not self._stopping

    def _hold(self, work: Work) -> None:
        while not self.released.wait(0.05) and not work.cancelled and not self._stopping:
            self._send(work)

    def _note(self, work: Work, what: str, **fields: Any) -> None:
        work.seq += 1
        work.unsent.append(AttemptEvent(seq=work.seq, t=time.time(), what=what, **fields))

    def _send(self, work: Work, *, wait: bool = True) -> None:
        """Send what was not answered yet, once or until it is; void attempts are dropped."""
        while not self._stopping:
            events, args = list(work.unsent), {"attempt": work.assignment.attempt, "slot": self.name}
            call = {**args, "events": [as_args(event) for event in events]}
            try:
                reply = AttemptReply.model_validate(self.crew.report(call).result(5))
            except (CallboardError, TimeoutError) as caught:
                error = caught if isinstance(caught, CallboardError) else TimedOut("nobody answered")
                self.crew.refused.append(error.message)
                if error.code in {"not_found", "expired", "forbidden"}:
                    work.unsent.clear()
                    work.cancelled = True
                    return
                if not wait:
                    return
                with self._wake:
                    self._wake.wait(0.1)
                continue
            work.unsent = [event for event in work.unsent if event.seq > reply.seq]
            if reply.cancel:
                work.cancelled = True
            if not work.unsent:
                return


class Crew:
    """One node with slots that pretend."""

    def __init__(
        self,
        port: int,
        node: str = "farmer",
        *,
        slots: int = 1,
        seconds: float = 0.0,
        engine: str = "simulated",
        tags: tuple[str, ...] = (),
        credential: Credential | None = None,
        epoch: int = 1,
    ) -> None:
        self.node, self.seconds = node, seconds
        self.commands: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.lines: list[str] = []
        self.fate: Fate = lambda assignment, frame: None
        self.file: Callable[[int], dict[str, Any]] = lambda frame: {}
        self.link = Link(client_id=node, endpoint=Endpoint("127.0.0.1", port), credential=credential)
        card = NodeCard(name=node, epoch=epoch, version="1", tags=list(tags))
        self.presence = Presence(self.link, card=card, epoch=epoch, instance=new_instance())
        self.callee = Callee(self.link, self.presence)
        self.hands = [Hand(self, f"s{number}") for number in range(slots)]
        for hand in self.hands:
            self.callee.handle(Kind.SLOT, hand.name, hand.command, run="inline")
            self.presence.pin(SlotCard(name=hand.name, epoch=epoch, engine=engine))
        self._board = Address(self.link.site, BOARD, Leaf.COMMAND, Kind.WORKER, ATTEMPT_WORKER)

    def report(self, args: dict[str, Any]) -> Any:
        return self.link.call(self._board, args, timeout=1)

    def start(self) -> None:
        self.link.start()
        self.link.wait_connected(10)

    def stop(self) -> None:
        for hand in self.hands:
            hand.stop()
        self.callee.close()
        self.link.stop(farewell=self.presence.farewell())

    def vanish(self) -> None:
        """Be gone without a farewell: the broker publishes the will."""
        for hand in self.hands:
            hand.stop()
        self.callee.close()
        self.presence.farewell()  # from now on nothing is repeated
        with suppress(CallboardError):
            self.link.publish(
                f"{self.link.site}/{self.node}/status", self.link.will.payload, qos=1, retain=True
            ).result(5)  # type: ignore[union-attr]
        self.link.stop(timeout=1)


@contextmanager
def crew(port: int, node: str = "farmer", **options: Any) -> Iterator[Crew]:
    found = Crew(port, node, **options)
    found.start()
    try:
        yield found
    finally:
        found.stop()
