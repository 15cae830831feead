"""Render clients as rows: nodes that have slots, and the slots one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from callboard_broker.services.farm.items.base import Filters, Row, Table, Values
from callboard_broker.services.farm.model import Slot
from callboard_broker.services.farm.roster import Wish
from callboard_broker.services.farm.service import Farm
from callboard_core.errors import Conflict
from callboard_core.farm.requests import Tags

__all__ = ["ClientValues", "Clients", "Slots"]

_ANNOUNCED = "it is there as soon as its node announces a slot"
_WISHES: Mapping[str, Wish] = {"enabled": "on", "draining": "draining", "disabled": "off"}
_WORDS = {wish: word for word, wish in _WISHES.items()}


class ClientValues(Values):
    """What can be asked of a client."""

    status: Literal["enabled", "draining", "disabled"] | None = Field(
        default=None, description="draining: what it does is finished first"
    )
    note: Annotated[str, Field(max_length=10_000)] | None = Field(default=None, description="why, for people")
    tags: Tags | None = Field(default=None, description="besides those of its own settings")


class NoValues(Values):
    """Nothing can be given."""


class _Announced(Table):
    """What slots and whole nodes have in common."""

    creates = _ANNOUNCED
    updates = ClientValues
    deletes = NoValues
    needs = ()

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    def _slots(self, row: Row) -> list[Slot]:
        raise NotImplementedError

    def update(self, rows: Sequence[Row], values: ClientValues) -> None:
        """Enable, drain or disable; tag; note."""
        roster = self._farm.roster
        for slot in [slot for row in rows for slot in self._slots(row)]:
            wanted = _wish(slot) if values.status is None else _WISHES[values.status]
            if values.status is not None or values.note is not None:
                kept = "" if values.status == "enabled" else slot.note  # the reason has gone with the order
                roster.wish([slot], wanted, kept if values.note is None else values.note)
            if values.tags is not None:
                roster.tag(slot, values.tags)

    def delete(self, rows: Sequence[Row], values: NoValues) -> None:
        """Forget those whose node is gone."""
        del values
        slots = [slot for row in rows for slot in self._slots(row)]
        for slot in slots:
            if slot.live:
                raise Conflict(f"{slot.node}/{slot.name} is there; only what is gone can be forgotten")
        for slot in slots:
            self._farm.roster.remove(slot.key)


class Slots(_Announced):
    """Slots one by one."""

    name = "slot"
    aliases = ("slots",)
    fields: Mapping[str, str] = {
        "id": "node/name",
        "client": "the node",
        "name": "unique on the node",
        "status": "enabled, draining or disabled: what people want of it",
        "state": "what it says of itself, e.g. idle or rendering",
        "live": "its node is there",
        "engine": "what it runs",
        "version": "of the engine",
        "tags": "its own, its node's and those given here",
        "job": "the job it works on",
        "task": "the task it works on",
        "frame": "the frame it renders",
        "progress": "of the task, 0 to 1",
        "eta": "seconds the task will still take",
        "note": "why it is as it is wanted",
        "reason": "why it is as it is",
        "frames_done": "since it is known",
        "failures": "since it is known",
        "first_seen": "Unix seconds",
        "last_seen": "Unix seconds",
    }

    def rows(self, filters: Filters) -> Iterable[Row]:
        """See :class:`~callboard_broker.services.farm.items.base.Item`."""
        del filters
        with self._farm.reading() as book:
            return [self._row(slot) for _, slot in sorted(book.slots.items())]

    def _row(self, slot: Slot) -> Row:
        report = slot.report
        return {
            "id": f"{slot.node}/{slot.name}",
            "client": slot.node,
            "name": slot.name,
            "status": _WORDS[_wish(slot)],
            "state": (report.state.value if report else "unknown") if slot.live else "lost",
            "live": slot.live,
            "engine": slot.card.engine,
            "version": slot.card.version,
            "tags": sorted(slot.offer.tags),
            "job": report.job if report else None,
            "task": report.task if report else None,
            "frame": report.frame if report else None,
            "progress": report.progress if report else 0.0,
            "eta": report.eta if report else None,
            "note": slot.note,
            "reason": report.reason if report else None,
            "frames_done": slot.frames_done,
            "failures": slot.failures,
            "first_seen": slot.first_seen,
            "last_seen": slot.last_seen,
        }

    def _slots(self, row: Row) -> list[Slot]:
        return [self._farm.core.book.slot((row["client"], row["name"]))]


class Clients(_Announced):
    """Nodes that have slots."""

    name = "client"
    aliases = ("clients", "node", "nodes")
    fields: Mapping[str, str] = {
        "id": "the node",
        "name": "the node",
        "status": "enabled, draining or disabled; mixed when its slots differ",
        "live": "it is there",
        "slots": "how many it has",
        "busy": "slots that have work",
        "engines": "what its slots run",
        "tags": "of its slots",
        "jobs": "jobs its slots work on",
        "note": "why it is as it is wanted",
        "frames_done": "since it is known",
        "failures": "since it is known",
        "first_seen": "Unix seconds",
        "last_seen": "Unix seconds",
    }

    def rows(self, filters: Filters) -> Iterable[Row]:
        """See :class:`~callboard_broker.services.farm.items.base.Item`."""
        del filters
        with self._farm.reading() as book:
            found = sorted(book.by_node.items())
            return [self._row(node, list(slots.values())) for node, slots in found if slots]

    def _row(self, node: str, slots: list[Slot]) -> Row:
        wishes = {_WORDS[_wish(slot)] for slot in slots}
        return {
            "id": node,
            "name": node,
            "status": wishes.pop() if len(wishes) == 1 else "mixed",
            "live": any(slot.live for slot in slots),
            "slots": len(slots),
            "busy": sum(1 for slot in slots if slot.attempts),
            "engines": sorted({slot.card.engine for slot in slots}),
            "tags": sorted({tag for slot in slots for tag in slot.offer.tags}),
            "jobs": sorted({str(one.job.id) for slot in slots for one in slot.attempts.values()}),
            "note": next((slot.note for slot in slots if slot.note), ""),
            "frames_done": sum(slot.frames_done for slot in slots),
            "failures": sum(slot.failures for slot in slots),
            "first_seen": min(slot.first_seen for slot in slots),
            "last_seen": max(slot.last_seen for slot in slots),
        }

    def _slots(self, row: Row) -> list[Slot]:
        return list(self._farm.core.book.on(row["id"]))


def _wish(slot: Slot) -> Wish:
    return next(wish for wish in _WORDS if wish == slot.wanted)
