"""Slots: which there are, whether they are there, what they work on, and what people want of them.

A slot that comes (back) is asked what it works on before it gets anything: what the board knows of goes on, the rest
is stopped. A node that is gone keeps its tasks for a while, because one that comes back goes on with them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Literal, Protocol

from pydantic import JsonValue, ValidationError

from callboard_broker.services.farm.attempts import Attempts
from callboard_broker.services.farm.core import Core
from callboard_broker.services.farm.model import Attempt, Slot, SlotKey
from callboard_broker.services.farm.rules import Offer
from callboard_core.cards import SlotCard
from callboard_core.errors import BadRequest, CallboardError
from callboard_core.farm.messages import SlotCommand, SlotReply, SlotReport
from callboard_core.farm.states import SlotState

__all__ = ["Caller", "Roster", "Wish"]

_log = logging.getLogger(__name__)

#: Seconds before a slot that did not answer is asked again, and that it has to answer.
_AGAIN = 2.0
#: What a slot holds at most: one to work on and one for later.
_ROOM = 2
#: States in which a slot takes nothing, whatever the board thinks of it.
_CLOSED = frozenset({SlotState.DISABLED, SlotState.DRAINING, SlotState.ASLEEP, SlotState.ERROR})

Wish = Literal["on", "draining", "off"]
_DO: dict[str, Literal["enable", "drain", "disable"]] = {
    "on": "enable",
    "draining": "drain",
    "off": "disable",
}


class Caller(Protocol):
    """Sends a command to a slot."""

    def __call__(self, key: SlotKey, command: SlotCommand) -> Future[JsonValue]:
        """Send it; the future has the answer, or fails."""


class Roster:
    """Keeps the slots of the book; on the farm's thread only, but for what is marked otherwise.

    Args:
        core: what is shared.
        attempts: ends what a lost slot had.
        call: sends commands to slots.
        tags: returns the tags of a node.
    """

    def __init__(
        self, core: Core, attempts: Attempts, *, call: Caller, tags: Callable[[str], Iterable[str]]
    ) -> None:
        self._core = core
        self._attempts = attempts
        self._call = call
        self._tags = tags

    # -- coming and going -----------------------------------------------------------------------------------

    def load(self, row: Any) -> None:
        """Take over a slot that was known; it is not there until its card says so."""
        card = SlotCard.model_validate_json(row.card)
        document = json.loads(row.document)
        slot = self._make((row.node, row.slot), card)
        slot.wanted, slot.note, slot.tags = document["wanted"], document["note"], document["tags"]
        slot.frames_done, slot.failures = document["frames"], document["failures"]
        slot.first_seen, slot.last_seen = document["first_seen"], document["last_seen"]
        slot.lost_at = self._core.monotonic()
        self._describe(slot)

    def appear(self, key: SlotKey, card: SlotCard, *, live: bool) -> None:
        """Note a slot's card, and whether its node is there."""
        core, slot = self._core, self._core.book.slots.get(key)
        if slot is None:
            slot = self._make(key, card)
            slot.first_seen = core.clock()
            slot.lost_at = core.monotonic()
            core.ledger.slot(slot)
        elif slot.card != card:
            slot.card = card
            core.ledger.slot(slot)
        self._describe(slot)
        if live and not slot.live:
            self._came(slot)
        elif slot.live and not live:
            self._went(slot)

    def remove(self, key: SlotKey) -> None:
        """Note that a slot's card was taken down."""
        slot = self._core.book.slots.get(key)
        if slot is None:
            return
        for attempt in list(slot.attempts.values()):
            self._attempts.lose(attempt, "slot_removed", "the slot was removed")
        self._core.book.remove_slot(key)
        self._core.ledger.no_slot(slot)
        self._core.due = True

    def _make(self, key: SlotKey, card: SlotCard) -> Slot:
        slot = Slot(node=key[0], name=key[1], card=card, offer=Offer(key=key, engine=card.engine))
        self._core.book.add_slot(slot)
        return slot

    def describe_node(self, node: str) -> None:
        """Look at a node's tags again."""
        for slot in self._core.book.on(node):
            self._describe(slot)

    def _describe(self, slot: Slot) -> None:
        slot.offer.engine = slot.card.engine
        slot.offer.tags = frozenset([*slot.card.tags, *slot.tags, *self._tags(slot.node)])
        self._core.due = True

    def _came(self, slot: Slot) -> None:
        slot.live, slot.lost_at = True, 0.0
        slot.last_seen = self._core.clock()
        self._core.ledger.slot(slot)
        self.synchronise(slot)

    def _went(self, slot: Slot) -> None:
        core = self._core
        slot.live, slot.synced = False, False
        slot.lost_at, slot.last_seen = core.monotonic(), core.clock()
        slot.generation += 1
        core.ledger.slot(slot)
        core.due = True
        if slot.attempts:
            generation = slot.generation
            core.desk.later(core.settings.node_grace, lambda: self._give_up(slot, generation))

    def _give_up(self, slot: Slot, generation: int) -> None:
        """A node has been away for too long."""
        if slot.live or slot.generation != generation:
            return
        if not self._core.online():
            self._core.desk.later(self._core.settings.node_grace, lambda: self._give_up(slot, generation))
            return
        for attempt in list(slot.attempts.values()):
            self._attempts.lose(attempt, "node_lost", f"node {slot.node} was lost")

    def watch_lost(self) -> None:
        """Begin to wait for the nodes that had something when the board last ran."""
        for slot in self._core.book.slots.values():
            if slot.attempts and not slot.live:
                self._went(slot)

    # -- what a slot works on -------------------------------------------------------------------------------

    def synchronise(self, slot: Slot) -> None:
        """Ask a slot what it works on; until it has answered it gets nothing."""
        slot.synced = False
        slot.generation += 1
        generation = slot.generation

        def ask() -> None:
            future = self._call(slot.key, SlotCommand(do="report"))
            future.add_done_callback(
                lambda done: self._core.desk.post(lambda: self._answered(slot, generation, done))
            )

        self._core.desk.then(ask)

    def _answered(self, slot: Slot, generation: int, done: Future[JsonValue]) -> None:
        if slot.generation != generation or not slot.live:
            return
        try:
            reply = SlotReply.model_validate(done.result())
        except (CallboardError, ValidationError) as error:
            _log.info("slot %s/%s did not report (%s); it is asked again", slot.node, slot.name, error)
            self._core.desk.later(_AGAIN, lambda: self._ask_again(slot, generation))
            return
        self._adopt(slot, reply)

    def ask_later(self, slot: Slot) -> None:
        """Give a slot nothing for a moment, then ask what it has."""
        slot.synced = False
        slot.generation += 1
        generation = slot.generation
        self._core.desk.later(_AGAIN, lambda: self._ask_again(slot, generation))

    def _ask_again(self, slot: Slot, generation: int) -> None:
        if slot.live and slot.generation == generation:
            self.synchronise(slot)

    def _adopt(self, slot: Slot, reply: SlotReply) -> None:
        """Compare what the slot has with what it should have."""
        there = {one.attempt for one in reply.attempts or []}
        for attempt in list(slot.attempts.values()):
            if attempt.id not in there:
                self._attempts.lose(attempt, "forgotten", "the slot does not have it any more")
        for attempt_id in there - slot.attempts.keys():
            self.command(slot, SlotCommand(do="cancel", attempt=attempt_id))
        self._attempts.renew(slot.attempts.values())
        for attempt in slot.attempts.values():
            if attempt.cancelled:
                self.command(slot, SlotCommand(do="cancel", attempt=attempt.id))
        self.note_report(slot.key, reply.report)
        slot.synced = True
        self._core.due = True
        if slot.wanted != "on" and (slot.report is None or slot.report.state not in _CLOSED):
            self.command(slot, SlotCommand(do=_DO[slot.wanted], reason=slot.note or None))

    def note_report(self, key: SlotKey, report: SlotReport | None) -> None:
        """Note what a slot says of itself."""
        slot = self._core.book.slots.get(key)
        if slot is None or report is None:
            return
        before, slot.report = slot.report, report
        if before is None or before.state != report.state:
            self._core.due = True

    # -- what people want -----------------------------------------------------------------------------------

    def wish(self, slots: Iterable[Slot], wanted: Wish, note: str = "") -> int:
        """Enable, drain or disable slots; return how many changed."""
        changed = 0
        for slot in slots:
            if (slot.wanted, slot.note) == (wanted, note) and not _disagrees(slot):
                continue
            slot.wanted, slot.note = wanted, note
            self._core.ledger.slot(slot)
            self._core.due = True
            changed += 1
            if slot.live:
                self.command(slot, SlotCommand(do=_DO[wanted], reason=note or None))
        return changed

    def tag(self, slot: Slot, tags: Iterable[str]) -> None:
        """Give a slot tags, besides those of its card and its node."""
        slot.tags = sorted(set(tags))
        self._core.ledger.slot(slot)
        self._describe(slot)

    def send(self, slots: Iterable[Slot], do: Literal["pause", "resume", "sleep", "wake"]) -> None:
        """Have slots pause, go on, sleep or wake.

        Raises:
            BadRequest: the node of one is not there; none is told.
        """
        chosen = list(slots)
        for slot in chosen:
            if not slot.live:
                raise BadRequest(f"slot {slot.node}/{slot.name} is not there; wait until its node is back")
        for slot in chosen:
            self.command(slot, SlotCommand(do=do))

    def command(self, slot: Slot, command: SlotCommand) -> None:
        """Send a command once all that changed is written; what becomes of it shows in the slot's state."""
        self._core.desk.then(lambda: self._tell(slot, command))

    def _tell(self, slot: Slot, command: SlotCommand) -> None:
        def note(done: Future[JsonValue]) -> None:
            if (error := done.exception()) is not None:
                _log.info("slot %s/%s, %s: %s", slot.node, slot.name, command.do, error)

        self._call(slot.key, command).add_done_callback(note)

    # -- for the scheduler ----------------------------------------------------------------------------------

    def offers(self) -> list[Offer]:
        """Return the slots that are there, as they are now."""
        now = self._core.clock()
        found = []
        for slot in self._core.book.slots.values():
            if slot.live:
                offer = slot.offer
                offer.room = max(0, _ROOM - len(slot.attempts))
                offer.closed = self.closed(slot)
                offer.eta = _eta(slot, now) if offer.room == 1 else None
                found.append(offer)
        return found

    def closed(self, slot: Slot) -> str:
        """Return why a slot takes nothing; empty when it does."""
        if not slot.live:
            return "lost"
        if slot.wanted != "on":
            return "disabled" if slot.wanted == "off" else "draining"
        if not slot.synced:
            return "unknown"
        if slot.report is not None and slot.report.state in _CLOSED:
            return slot.report.state.value
        return ""


def _disagrees(slot: Slot) -> bool:
    closed = slot.report is not None and slot.report.state in _CLOSED
    return closed == (slot.wanted == "on")


def _eta(slot: Slot, now: float) -> float | None:
    """Seconds until a slot's only attempt ends, as its frames went so far."""
    attempt: Attempt = next(iter(slot.attempts.values()))
    if slot.report is not None and slot.report.state is SlotState.PAUSED:
        return None
    if attempt.eta is not None:
        return attempt.eta
    step = attempt.step
    pace = step.queue.slot_seconds.get(slot.key) if step.queue.slot_seconds else step.frame_seconds
    if pace is None:
        return None
    left = pace * (len(attempt.indexes) - attempt.done)
    if attempt.started is None:
        return left + (step.startup_seconds or 0.0)
    return max(0.0, left - (now - attempt.frame_began))
