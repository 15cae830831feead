"""Replacing the board's authority: begun and finished by an admin, while nodes renew their certificates in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from callboard_broker.access import Users
from callboard_broker.services.enrolment.desk import EnrolmentDesk
from callboard_broker.services.enrolment.keys import Keys
from callboard_core.errors import Conflict

__all__ = ["Rotation", "Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How the board's authority is.

    Attributes:
        fingerprint: SHA-256 of the certificate of the authority that signs.
        old: of the one that is being replaced, if one is.
        ends: until when the authority that signs is valid, in Unix seconds.
        not_renewed: nodes whose certificate another authority has signed.
    """

    fingerprint: str
    old: str | None
    ends: float
    not_renewed: list[str]


class Rotation:
    """Safe from any thread.

    Args:
        keys: the authority.
        desk: knows who has renewed.
        users: where credentials are kept.
        told: called with ``rotate`` or ``finish`` once that was done.
    """

    def __init__(self, keys: Keys, desk: EnrolmentDesk, users: Users, told: Callable[[str], None]) -> None:
        self._keys = keys
        self._desk = desk
        self._users = users
        self._told = told

    def standing(self) -> Standing:
        """Return how things are."""
        authority = self._keys.authority
        return Standing(
            fingerprint=authority.fingerprint,
            old=authority.old_fingerprint,
            ends=authority.ends.timestamp(),
            not_renewed=self._desk.not_renewed(),
        )

    def rotate(self) -> Standing:
        """Put a new authority in force; the old one is trusted until :meth:`finish`.

        Raises:
            Conflict: the last rotation is not finished.
        """
        self._keys.authority.rotate(self._keys.names())
        self._told("rotate")
        return self.standing()

    def finish(self, *, force: bool) -> tuple[Standing, list[str]]:
        """Trust the old authority no more; also returns the nodes that were given up.

        Args:
            force: also if nodes have not renewed yet; those have to join again.

        Raises:
            Conflict: no rotation is under way, or nodes have not renewed yet.
        """
        late = self._desk.not_renewed()
        if self._keys.authority.old_fingerprint is not None and late and not force:
            raise Conflict(
                f"not renewed yet: {', '.join(late)}; switch them on, or give them up with --give-up: "
                "they then have to join again"
            )
        self._keys.authority.finish(self._keys.names())
        for node in late:
            self._users.certify(node, "")
        self._told("finish")
        return self.standing(), late
