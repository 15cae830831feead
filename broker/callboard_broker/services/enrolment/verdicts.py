"""Whether a machine that asks to be let in is, has to wait, or is turned away. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from callboard_broker.store.joins import JoinRecord
from callboard_core.errors import Conflict, Expired, Forbidden
from callboard_core.trust.enrolment import EnrolmentState

__all__ = ["Known", "Verdict", "judge", "usable"]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the id that is asked for.

    Attributes:
        enrolled: a node has a credential for it, in force or disabled.
        key: SHA-256 of that node's key, if it is on record.
        person: a user has this name who is no node.
        live: a node without a credential of its own is there under it now.
    """

    enrolled: bool = False
    key: str | None = None
    person: bool = False
    live: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of it, and why in words for the operator."""

    state: EnrolmentState
    reason: str


def usable(join: JoinRecord, node: str, now: float) -> None:
    """Return only if a join code is good for this id now.

    Raises:
        Expired: its time is over.
        Conflict: it has let in as many machines as it was made for.
        Forbidden: it was made for another id.
    """
    if join.expires <= now:
        raise Expired("this join code has expired; ask for a new one (`callboard join`)")
    if join.used >= join.uses:
        machines = "a machine" if join.uses == 1 else f"{join.uses} machines"
        raise Conflict(
            f"this join code has let in {machines} already, and no more; ask for a new one (`callboard join`)"
        )
    if join.node is not None and join.node != node:
        raise Forbidden(
            f"this join code lets in {join.node!r} only, not {node!r}; give this machine that id, or ask for another code"
        )


def judge(join: JoinRecord, node: str, key: str, known: Known) -> Verdict:
    """Decide about a machine with the key ``key`` that wants to be ``node``, with a usable code.

    Raises:
        Conflict: the id can be no node's.
    """
    if known.person:
        raise Conflict(f"there is a user {node!r} that is no node's; give this machine another id")
    if join.ask:
        return Verdict(EnrolmentState.PENDING, "its join code asks for an operator's yes")
    if join.node == node:
        return Verdict(EnrolmentState.ACCEPTED, f"join code {join.name} was made for this id")
    if known.enrolled and known.key != key:
        return Verdict(
            EnrolmentState.PENDING, "the id is known, with another key: re-imaged, or somebody else"
        )
    if known.live and not known.enrolled:
        return Verdict(
            EnrolmentState.PENDING, "a node of this id is here already, without a credential of its own"
        )
    return Verdict(EnrolmentState.ACCEPTED, f"join code {join.name}")
