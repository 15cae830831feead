"""The desk where machines ask to be let in, operators say yes or no, and credentials are handed out."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from cryptography.hazmat.primitives import serialization

from callboard_broker.access import Role, Users
from callboard_broker.services.brake import Brake
from callboard_broker.services.enrolment.codes import digest
from callboard_broker.services.enrolment.keys import Keys
from callboard_broker.services.enrolment.verdicts import Known, judge, usable
from callboard_broker.store import enrolments, joins
from callboard_broker.store.database import Database
from callboard_broker.store.enrolments import EnrolmentRecord
from callboard_broker.store.joins import JoinRecord
from callboard_core.errors import Conflict, Forbidden, NotFound, Overloaded, Unauthorized
from callboard_core.topics import BOARD
from callboard_core.trust import fingerprint_of_pem
from callboard_core.trust.enrolment import (
    Enrol,
    Enrolled,
    EnrolmentState,
    EnrolmentView,
    Pending,
    Renew,
    Renewed,
)
from callboard_core.trust.keys import check_request

__all__ = ["AT_ONCE", "EnrolmentDesk", "Tell"]

_log = logging.getLogger(__name__)

#: Machines that should be let in at the same time: each takes a core for hashes and signatures.
AT_ONCE = 2
#: Machines that may wait for an operator's word; more are turned away.
MOST_PENDING = 100
#: Bytes of a ticket and of a node's password.
_TICKET, _PASSWORD = 24, 16
#: Seconds for which an answer that was lost on its way can be asked for again, and for which the undecided are listed.
_AGAIN, _LISTED = 3_600.0, 7 * 86_400.0
#: How many are listed.
_SHOWN = 1_000


class Tell(Protocol):
    """Who tells the console and the audit log."""

    def __call__(self, record: EnrolmentRecord) -> None:
        """Tell what became of somebody."""


class EnrolmentDesk:
    """Safe from any thread; blocks for as long as hashes and the database take.

    Args:
        database: where codes and machines are kept.
        keys: what certifies.
        users: where credentials are kept.
        site: the site's id.
        brake: slows down who guesses tokens.
        is_live: tells whether a node of an id is there now.
        tell: told of everybody who asks, and of every decision.
        clock: Unix seconds.
    """

    def __init__(
        self,
        database: Database,
        keys: Keys,
        users: Users,
        site: str,
        *,
        brake: Brake,
        is_live: Callable[[str], bool],
        tell: Tell,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._keys = keys
        self._users = users
        self._site = site
        self._brake = brake
        self._is_live = is_live
        self._tell = tell
        self._clock = clock
        self._deciding = threading.Lock()

    # ---- machines

    def enrol(self, asked: Enrol, address: str) -> Enrolled | Pending:
        """Take in a machine that asks with a token; one that asks again gets the same answer, and uses nothing up.

        Args:
            asked: what it sent.
            address: where from.

        Raises:
            Unauthorized: no join code has this token.
            Overloaded: too many wrong tokens from there, or too many who wait.
            Expired: the code has expired.
            Conflict: the code is used up, or the id can be no node's.
            Forbidden: the code is for another id, or an operator said no.
            BadRequest: the request to certify the key is none.
        """
        now = self._clock()
        join = self._join(asked.token, address, now)
        key = _key_of(asked.csr)
        with self._deciding:
            with self._database.read() as connection:
                found = enrolments.same(connection, join.name, asked.id, key)
            if found is None or self._is_over(found):
                usable(join, asked.id, now)
                found = self._take_in(join, asked, key, address, now)
        return self._answer(found, asked.csr)

    def collect(self, ticket: str) -> Enrolled | Pending:
        """Answer a machine that waits.

        Raises:
            NotFound: nobody waits with this ticket (any more).
            Forbidden: an operator said no.
        """
        with self._database.read() as connection:
            found = enrolments.by_ticket(connection, digest(ticket))
        if found is None or self._is_over(found):
            raise NotFound("nobody waits with this ticket (any more); join again")
        if found.state == EnrolmentState.PENDING:
            return Pending(ticket=ticket)
        return self._answer(found, found.csr)

    def renew(self, asked: Renew, node: str) -> Renewed:
        """Give a node, which has shown who it is, a new certificate; its password stays.

        Raises:
            Forbidden: this user is no enrolled node.
            BadRequest: the request to certify the key is none.
        """
        if self._users.owner(node) != node:
            raise Forbidden(f"{node} is no enrolled node; only those have certificates")
        certificate = self._keys.authority.certify(asked.csr, node)
        self._note_certificate(node, _key_of(asked.csr))
        self._users.certify(node, fingerprint_of_pem(certificate))
        return Renewed(certificate=certificate, **self._keys.facts().model_dump())

    # ---- operators

    def items(self) -> list[EnrolmentView]:
        """Return who asked, the newest first."""
        with self._database.read() as connection:
            return [_view(record) for record in enrolments.every(connection, _SHOWN)]

    def decide(self, number: int, by: str, *, accept: bool) -> EnrolmentView:
        """Let somebody in who waits, or not.

        Raises:
            NotFound: there is nobody of this number.
            Conflict: it has been decided already.
        """
        state = EnrolmentState.ACCEPTED if accept else EnrolmentState.REJECTED
        values = {"state": state.value, "decided": self._clock(), "by": by}
        with self._database.write() as connection:
            changed = enrolments.change(connection, number, values, state=EnrolmentState.PENDING)
            found = enrolments.by_number(connection, number)
        if found is None:
            raise NotFound(f"nobody with the number {number} has asked to be let in")
        if not changed:
            raise Conflict(f"{found.node} does not wait (any more): it is {found.state}")
        self._tell(found)
        return _view(found)

    def revoke(self, number: int, by: str) -> EnrolmentView:
        """Take its credential away from a node that was let in.

        Raises:
            NotFound: there is nobody of this number.
            Conflict: it has no credential, or has been let in again since.
        """
        with self._database.read() as connection:
            found = enrolments.by_number(connection, number)
            latest = None if found is None else enrolments.latest(connection, found.node)
        if found is None:
            raise NotFound(f"nobody with the number {number} has asked to be let in")
        if latest is None or latest.number != number or not self.withdraw(found.node):
            raise Conflict(f"{found.node} has no credential from this; look at `callboard join ls`")
        gone = replace(found, state=EnrolmentState.REVOKED.value, decided=self._clock(), by=by)
        self._tell(gone)
        return _view(gone)

    def withdraw(self, node: str) -> bool:
        """Make a node's credential worthless; its live session ends within seconds. Returns whether it had one."""
        held = self._users.owner(node) == node
        if held:
            self._users.remove(node)
        with self._database.write() as connection:
            enrolments.forget_node(connection, node)
        return held

    def not_renewed(self) -> list[str]:
        """Return the nodes whose certificate another authority has signed than the one that signs now."""
        current = self._keys.authority.fingerprint
        with self._database.read() as connection:
            found = enrolments.of_nodes(connection)
        return sorted(
            node
            for node, record in found.items()
            if record.authority != current and self._users.owner(node) == node
        )

    # ---- inside

    def _is_over(self, found: EnrolmentRecord) -> bool:
        """Tell whether an answer cannot be asked for again: too long ago, or the credential is gone or another's since."""
        if found.decided is None:
            return False
        if found.authority is not None and not self._users.is_node(found.node):
            return True
        with self._database.read() as connection:
            followed = enrolments.was_followed(connection, found)
        return followed or found.decided < self._clock() - _AGAIN

    def _join(self, token: str, address: str, now: float) -> JoinRecord:
        with self._database.read() as connection:
            join = joins.by_digest(connection, digest(token))
        if join is not None:  # nobody guesses one, so others who try from there do not hold it up
            return join
        wait = self._brake.wait(address, now)
        if wait:
            raise Overloaded(f"too many wrong join codes; try again in {max(wait, 1):.0f} s")
        self._brake.failed(address, now)
        raise Unauthorized("this join code is not known here; ask for a new one (`callboard join`)")

    def _take_in(self, join: JoinRecord, asked: Enrol, key: str, address: str, now: float) -> EnrolmentRecord:
        verdict = judge(join, asked.id, key, self._known(asked.id))
        record = EnrolmentRecord(
            node=asked.id,
            state=verdict.state.value,
            reason=verdict.reason,
            label=asked.label,
            host=asked.host,
            address=address,
            key=key,
            csr=asked.csr,
            code=join.name,
            # Until one is given to the machine that waits.
            ticket=digest(secrets.token_urlsafe(_TICKET)),
            asked=now,
            decided=now if verdict.state is EnrolmentState.ACCEPTED else None,
            by=join.by if verdict.state is EnrolmentState.ACCEPTED else None,
        )
        with self._database.write() as connection:
            enrolments.remove_old(connection, now - _LISTED)
            if enrolments.count_pending(connection) >= MOST_PENDING and record.decided is None:
                raise Overloaded(
                    "too many machines wait to be let in; have an operator decide about them first"
                )
            if not joins.take(connection, join.name, now):
                raise Conflict("this join code is used up; ask for a new one (`callboard join`)")
            record = replace(record, number=enrolments.add(connection, record))
        self._tell(record)
        return record

    def _known(self, node: str) -> Known:
        owner = self._users.owner(node)
        person = node in {*Role, BOARD} or (node in self._users.names() and not self._users.is_node(node))
        with self._database.read() as connection:
            found = enrolments.latest(connection, node)
        return Known(
            # On record, though its credential is still being made or was taken away by other means.
            enrolled=owner == node or found is not None,
            key=None if found is None else found.key,
            person=person or owner not in {None, node},
            live=self._is_live(node),
        )

    def _answer(self, found: EnrolmentRecord, csr: str) -> Enrolled | Pending:
        match found.state:
            case EnrolmentState.REJECTED:
                raise Forbidden(f"an operator has refused to let {found.node} in")
            case EnrolmentState.PENDING:
                return self._pending(found)
        return self._let_in(found, csr)

    def _pending(self, found: EnrolmentRecord) -> Pending:
        ticket = secrets.token_urlsafe(_TICKET)
        with self._database.write() as connection:
            enrolments.change(connection, found.number, {"ticket": digest(ticket)})
        return Pending(ticket=ticket)

    def _let_in(self, found: EnrolmentRecord, csr: str) -> Enrolled:
        keys, node, password = self._keys, found.node, secrets.token_hex(_PASSWORD)
        if node in self._users.names() and self._users.find(node) is None:
            raise Forbidden(f"the user {node} is disabled; enable it first (`callboard user enable {node}`)")
        certificate = keys.authority.certify(csr, node)
        self._users.enrol(node, password, fingerprint_of_pem(certificate))
        with self._database.write() as connection:
            enrolments.change(connection, found.number, {"authority": keys.authority.fingerprint})
        return Enrolled(
            site=self._site,
            id=node,
            certificate=certificate,
            password=password,
            **keys.facts().model_dump(),
        )

    def _note_certificate(self, node: str, key: str) -> None:
        values = {"authority": self._keys.authority.fingerprint, "key": key}
        with self._database.write() as connection:
            found = enrolments.latest(connection, node)
            if found is not None:
                enrolments.change(connection, found.number, values)


def _key_of(csr: str) -> str:
    """SHA-256 of the public key of a request."""
    key = check_request(csr).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(key).hexdigest()


def _view(record: EnrolmentRecord) -> EnrolmentView:
    return EnrolmentView(
        number=record.number,
        id=record.node,
        state=EnrolmentState(record.state),
        reason=record.reason,
        label=record.label,
        host=record.host,
        address=record.address,
        fingerprint=record.key,
        asked=record.asked,
        decided=record.decided,
        by=record.by,
    )
