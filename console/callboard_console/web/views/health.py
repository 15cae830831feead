"""The state of the whole board in one word, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from callboard_console.web.snapshot import NodeView, Snapshot
from callboard_console.web.views import words
from callboard_core.messages import Level, StatusName
from callboard_core.topics import BOARD

__all__ = ["Health", "health"]

#: How many names a reason spells out.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Health:
    """One word, its tone (``ok``, ``warn``, ``bad``, ``idle``) and one sentence that says why."""

    word: str
    tone: str
    reason: str


def health(snapshot: Snapshot) -> Health:
    """Judge the board; the first rule that applies speaks."""
    return next(verdict for rule in _RULES if (verdict := rule(snapshot)) is not None)


def _blind(snapshot: Snapshot) -> Health | None:
    if snapshot.connected:
        return None
    lasted = words.duration(snapshot.t - snapshot.changed)
    return Health(
        "Blind", "bad", f"No connection to the broker for {lasted}; shown is what was known before."
    )


def _arriving(snapshot: Snapshot) -> Health | None:
    return None if snapshot.complete else Health("Starting", "idle", "Reading what hangs on the board …")


def _empty(snapshot: Snapshot) -> Health | None:
    return None if snapshot.guests else Health("Empty", "idle", "No node has signed in yet.")


def _boardless(snapshot: Snapshot) -> Health | None:
    board = snapshot.nodes.get(BOARD)
    if board is None or board.live:
        return None
    return Health(
        "Degraded", "bad", "The board's own process is gone: no history and no HTTP until it is back."
    )


def _lost(snapshot: Snapshot) -> Health | None:
    lost = [node for node in snapshot.guests if node.status is StatusName.LOST]
    if not lost:
        return None
    if len(lost) == len(snapshot.guests):
        return Health("Down", "bad", f"Every node is lost: {_names(lost)}.")
    if len(lost) == 1 and lost[0].since is not None:
        lasted = words.duration(snapshot.t - lost[0].since)
        return Health("Degraded", "bad", f"{lost[0].title} has been lost for {lasted}.")
    return Health(
        "Degraded", "bad", f"{words.count(len(lost), 'node is', 'nodes are')} lost: {_names(lost)}."
    )


def _alarmed(snapshot: Snapshot) -> Health | None:
    totals = snapshot.totals
    level = Level.ERROR if totals.errors else Level.WARNING
    many = totals.errors or totals.warnings
    if not many:
        return None
    node = next(node for node in snapshot.nodes.values() if any(one.level is level for one in node.alarms))
    thing = next(one for one in node.alarms if one.level is level)
    said = f"{thing.title} on {node.title}" + (f" and {many - 1} more are" if many > 1 else " is")
    where, tone = ("in error", "bad") if level is Level.ERROR else ("outside the normal range", "warn")
    return Health("Attention", tone, f"{said} {where}.")


def _well(snapshot: Snapshot) -> Health:
    guests = snapshot.guests
    away = sum(not node.live for node in guests)
    if away == len(guests):
        return Health("Quiet", "idle", "Every node has signed off.")
    if away:
        return Health(
            "Healthy", "ok", f"{len(guests) - away} of {len(guests)} nodes are here; the rest signed off."
        )
    everyone = f"{guests[0].title} is" if len(guests) == 1 else f"All {len(guests)} nodes are"
    return Health("Healthy", "ok", f"{everyone} here and every reading is in order.")


_RULES: tuple[Callable[[Snapshot], Health | None], ...] = (
    _blind,
    _arriving,
    _empty,
    _boardless,
    _lost,
    _alarmed,
    _well,
)


def _names(nodes: Sequence[NodeView]) -> str:
    named = ", ".join(node.title for node in nodes[:_NAMED])
    return named if len(nodes) <= _NAMED else f"{named} and {len(nodes) - _NAMED} more"
