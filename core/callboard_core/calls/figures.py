"""A pool's figures, for people."""

from __future__ import annotations

from dataclasses import dataclass

from callboard_core.calls.member import Member
from callboard_core.cards import WorkerCard
from callboard_core.view import Entry

__all__ = ["MemberInfo", "Stats"]


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """One member of a pool; times in seconds."""

    node: str
    name: str
    service: str
    standing: str
    nearness: str
    outstanding: int
    response: float | None
    done: int
    failed: int
    broken: int

    @classmethod
    def of(cls, entry: Entry, member: Member) -> MemberInfo:
        """Describe a member."""
        card = entry.card
        return cls(
            node=entry.node,
            name=entry.name,
            service=card.service if isinstance(card, WorkerCard) else "",
            standing=member.standing.name.lower(),
            nearness=member.traits.nearness.name.lower(),
            outstanding=len(member.outstanding),
            response=member.recent,
            done=member.done,
            failed=member.failed,
            broken=member.broken,
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """Calls on members, calls that wait for one, and calls that were refused."""

    members: int
    outstanding: int
    waiting: int
    refused: int
