"""Bringing queues and slots together: one pass after each batch of what happened, and sending what it decided."""

from __future__ import annotations

import logging
from concurrent.futures import Future

from pydantic import JsonValue

from callboard_broker.services.farm.attempts import Attempts
from callboard_broker.services.farm.core import Core
from callboard_broker.services.farm.files import Files
from callboard_broker.services.farm.model import Attempt, Slot, Step
from callboard_broker.services.farm.roster import Caller, Roster
from callboard_broker.services.farm.rules import Usage
from callboard_broker.services.farm.schedule import Pick, plan
from callboard_broker.services.farm.why import Reason, why
from callboard_core.errors import BadRequest, CallboardError
from callboard_core.farm.messages import Assignment, SlotCommand

__all__ = ["Dispatch"]

_log = logging.getLogger(__name__)


class Dispatch:
    """On the farm's thread only.

    Attributes:
        passes: so far.
    """

    def __init__(self, core: Core, attempts: Attempts, roster: Roster, files: Files, call: Caller) -> None:
        self.passes = 0
        self._core = core
        self._attempts = attempts
        self._roster = roster
        self._files = files
        self._call = call

    def settle(self) -> None:
        """Give what is free to who waits, if anything has changed."""
        if not self._core.due:
            return
        self._core.due = False
        if not len(self._core.lineup):
            return
        self.passes += 1
        for pick in plan(self._core.lineup, self._roster.offers(), self.usage()):
            self._give(pick)

    def usage(self) -> Usage:
        """Return what is in use now."""
        core = self._core
        return Usage(
            now=core.clock(),
            limits=core.settings.limits,
            running=core.running,
            owners=core.owners,
            shares=core.settings.schedule.shares,
            schedule=core.settings.schedule,
        )

    def why(self, step: Step) -> list[Reason]:
        """Return why a step is not running, by the same rules."""
        closed = self._roster.closed
        live = self._roster.offers()
        others = [slot.offer for slot in self._core.book.slots.values() if not slot.live]
        for slot in self._core.book.slots.values():
            if not slot.live:
                slot.offer.closed = closed(slot)
        return why(step.queue, self._core.lineup, [*live, *others], self.usage())

    def _give(self, pick: Pick) -> None:
        job = self._core.book.jobs[int(pick.queue[0])]
        step, slot = job.steps[pick.queue[1]], self._core.book.slots[pick.offer]
        # What was picked before it may have ended the job.
        attempt = None if step.queue.held else self._attempts.assign(step, slot, pick.count)
        if attempt is None:
            return
        try:
            assignment = self._files.assignment(attempt)
        except CallboardError as error:
            self._attempts.fail(attempt, "job", "input_missing", error.message)
            return
        self._core.desk.then(lambda: self._send(attempt, slot, assignment))

    def _send(self, attempt: Attempt, slot: Slot, assignment: Assignment) -> None:
        future = self._call(slot.key, SlotCommand(do="assign", assignment=assignment))
        future.add_done_callback(lambda done: self._sent(attempt, slot, done))

    def _sent(self, attempt: Attempt, slot: Slot, done: Future[JsonValue]) -> None:
        error = done.exception()
        if error is not None:
            self._core.desk.post(lambda: self._refused(attempt, slot, error))

    def _refused(self, attempt: Attempt, slot: Slot, error: BaseException) -> None:
        """A slot did not take a task, or its answer was lost: it is asked what it has."""
        _log.info("slot %s/%s did not take %s: %s", slot.node, slot.name, attempt.task_id, error)
        if attempt.ended is not None or attempt.seq:
            return
        if isinstance(error, BadRequest):
            self._attempts.fail(attempt, "node", error.code, error.message)
        elif slot.live:
            self._roster.ask_later(slot)
