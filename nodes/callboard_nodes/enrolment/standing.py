"""Whether a board still lets a node in that has joined it."""

from __future__ import annotations

from collections.abc import Iterable

from callboard_core.errors import CallboardError, Unauthorized
from callboard_nodes.enrolment.https import Peer
from callboard_nodes.enrolment.store import Enrolment

__all__ = ["is_withdrawn"]


def is_withdrawn(found: Enrolment, addresses: Iterable[str] = ()) -> bool | None:
    """Tell whether the board has withdrawn an enrolment; None when it does not answer.

    Args:
        found: the enrolment; only who proves to be its board is told anything.
        addresses: where else to ask, as ``host:port``.
    """
    for address in dict.fromkeys([*found.record.addresses, *addresses]):
        try:
            Peer(address, found.context(), found.credential).get("/api/v1/me")
        except Unauthorized:
            return True
        except CallboardError:
            continue
        return False
    return None
