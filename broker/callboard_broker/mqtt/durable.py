"""The journal that keeps: changes become records, records become one batch a turn, and a start reads them back."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from callboard_broker.mqtt.journal import Journal
from callboard_broker.mqtt.log import Damaged, Log, Rewriter, unusable
from callboard_broker.mqtt.reasons import ProtocolError
from callboard_broker.mqtt.records import (
    Kind,
    Replay,
    pack,
    pack_delivery,
    pack_message,
    pack_session,
    pack_subscription,
    pack_u64,
    pack_will,
    split,
    state_of,
)
from callboard_broker.mqtt.wire import pack_text, pack_u16

if TYPE_CHECKING:
    from callboard_broker.mqtt.access import Grant
    from callboard_broker.mqtt.delivery import Delivery
    from callboard_broker.mqtt.hub import Hub
    from callboard_broker.mqtt.message import Message
    from callboard_broker.mqtt.packets import WillSpec
    from callboard_broker.mqtt.session import Session
    from callboard_broker.mqtt.tree import Subscription

__all__ = ["DurableJournal", "Regrant"]

log = logging.getLogger("callboard.broker")

#: The file is rewritten when it has grown by this many bytes and to twice what it was after the last time.
_GROWTH = 16_777_216
#: Records of the rewritten file in one step.
_STEP = 2_000
#: Steps at a time while acknowledgements wait for the rewritten file.
_HURRY = 16
#: Seconds until a rewrite that failed is tried again.
_RETRY = 2.0
#: While the disk is full: bytes kept in memory until the whole state is written anew instead.
_HELD_BACK = 33_554_432

#: User and client id to a grant; None if the user is gone.
Regrant = Callable[[str, str], "Grant | None"]


class DurableJournal(Journal):
    """Keeps everything in a :class:`Log`.

    Args:
        folder: where the log lives.
    """

    def __init__(self, folder: Path) -> None:
        self._log = Log(folder)
        self._records: list[bytes] = []
        self._number = 0
        self._rewriter: Rewriter | None = None
        self._hub: Hub | None = None
        self._full = False
        self._stale = False
        self._retry_at = -math.inf
        self._floor = 0
        self.waiting = False

    # ---- start and stop

    def load(self, hub: Hub, regrant: Regrant, will_grace: float) -> None:
        """Build the hub's state again, then begin a fresh file.

        A client that was connected when the broker died gets ``will_grace`` seconds to come back before its will
        is published.

        Raises:
            StoreUnavailable: the disk is full or broken; the file is as it was.
        """
        self._hub = hub
        try:
            self._read(hub)
            self._settle(hub, regrant, will_grace)
            hub.journal = self
            self._write_anew(hub)
        except OSError as error:
            self._log.close()
            raise unusable(self._log.folder, error) from error

    def _read(self, hub: Hub) -> None:
        replay = Replay(hub)
        try:
            for batch in self._log.read():
                replay.apply(split(batch))
        except (Damaged, ProtocolError, ValueError) as damage:
            kept = self._log.set_aside()
            log.error(  # noqa: TRY400 - the reason says all
                "the journal is damaged (%s): it is set aside as %s; what precedes the damage is used",
                damage,
                kept,
            )
        replay.finish()
        self._number = self._floor = replay.highest

    def _write_anew(self, hub: Hub) -> None:
        rewriter = self._log.rewriter(state_of(hub))
        try:
            while not rewriter.step(_STEP):
                pass
            self._log.switch(rewriter)
        except OSError:
            rewriter.abandon()
            raise

    @staticmethod
    def _settle(hub: Hub, regrant: Regrant, will_grace: float) -> None:
        for session in list(hub.sessions.values()):
            grant = regrant(session.user, session.client_id)
            if grant is None:
                hub.end(session)
                continue
            session.grant = grant
            lost = math.isnan(session.disconnected_at)
            session.disconnected_at = hub.now if lost else session.disconnected_at
            hub.revive(session, will_grace)

    def close(self) -> bool:
        """Write what is left and close. Return whether all that was told is written."""
        self._abandon()
        if self._stale and self._hub is not None:
            self._begin_rewrite(self._hub)
            self._advance(sys.maxsize)
        written = self.commit()
        self._log.close()
        return written

    # ---- writing

    @property
    def size(self) -> int:
        """Bytes of the log file."""
        return self._log.size

    def commit(self) -> bool:
        """Write what was told as one batch. Return False while the disk does not take it."""
        if self._stale:
            return self._catch_up()
        if not self._records:
            return True
        records = b"".join(self._records)
        try:
            self._log.append(records)
        except OSError as error:
            return self._held_back(records, error)
        if self._full:
            self._full = False
            log.warning("the journal can be written again")
        self._records.clear()
        self.waiting = False
        return True

    def _held_back(self, records: bytes, error: OSError) -> bool:
        if not self._full:
            self._full = True
            log.error(
                "the journal cannot be written (%s): what it has to keep is not acknowledged until it can",
                error,
            )
        self._records = [records]
        if len(records) > _HELD_BACK and self._hub is not None:
            # The file lacks them from here on: only one that is written anew may be relied on, and acknowledge them.
            self._stale = True
            self._abandon()
            self._records.clear()
        return False

    def _catch_up(self) -> bool:
        """Keep little while the file is stale; return whether it has been replaced."""
        if self._rewriter is None:
            self._records.clear()  # the rewrite begins with all that is
        elif sum(map(len, self._records)) > _HELD_BACK:
            self._advance(sys.maxsize)
        return not self._stale

    def sync(self) -> None:
        """Wait for the disk."""
        self._log.sync()

    def tend(self) -> None:
        """Do a little of what can be done later: rewrite a file that holds too much of the past."""
        hub = self._hub
        if hub is None:
            return
        if self._rewriter is not None:
            self._advance(_HURRY if self._stale else 1)
        elif hub.now >= self._retry_at and (self._stale or self._log.size > _GROWTH + 2 * self._log.base):
            self._begin_rewrite(hub)

    def _begin_rewrite(self, hub: Hub) -> None:
        if self._stale:
            self._records.clear()
        elif not self.commit():
            return
        self._floor = self._number
        try:
            self._rewriter = self._log.rewriter(state_of(hub))
        except OSError as error:
            self._give_up(error)

    def _advance(self, steps: int) -> None:
        """Write up to ``steps`` parts of the new file, and go on in it once it is whole."""
        rewriter = self._rewriter
        if rewriter is None:
            return
        try:
            if any(rewriter.step(_STEP) for _ in range(steps)):
                self._switch(rewriter)
        except OSError as error:
            self._give_up(error)

    def _switch(self, rewriter: Rewriter) -> None:
        if not self._stale and not self.commit():
            return
        self._log.switch(rewriter, b"".join(self._records))
        self._rewriter = None
        self._records.clear()
        self.waiting = False
        if self._stale:
            self._stale = self._full = False
            log.warning("the journal was written anew and can be relied on again")

    def _give_up(self, error: OSError) -> None:
        if not self._full:
            log.error("the journal cannot be rewritten: %s", error)
        self._abandon()
        if self._hub is not None:
            self._retry_at = self._hub.now + _RETRY

    def _abandon(self) -> None:
        rewriter, self._rewriter = self._rewriter, None
        if rewriter is not None:
            rewriter.abandon()

    # ---- what is told

    def _tell(self, kind: Kind, *parts: bytes) -> None:
        self._records.append(pack(kind, *parts))
        self.waiting = True
        self.told += 1

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def retained(self, message: Message) -> None:
        """Keep it."""
        self._tell(Kind.RETAINED, pack_message(message))

    def cleared(self, topic: str) -> None:
        """Keep it."""
        self._tell(Kind.CLEARED, pack_text(topic))

    def session(self, session: Session) -> None:
        """Keep it."""
        self._tell(Kind.SESSION, pack_session(session))

    def ended(self, session: Session) -> None:
        """Keep it."""
        self._tell(Kind.ENDED, session.key)

    def subscribed(self, session: Session, subscription: Subscription) -> None:
        """Keep it."""
        self._tell(Kind.SUBSCRIBED, pack_subscription(session, subscription))

    def unsubscribed(self, session: Session, topic_filter: str) -> None:
        """Keep it."""
        self._tell(Kind.UNSUBSCRIBED, session.key, pack_text(topic_filter))

    def queued(self, session: Session, delivery: Delivery) -> None:
        """Keep it; a message owed to many is kept once, and again if the file it was kept in is going away."""
        message = delivery.message
        if message.number <= self._floor:
            message.number = self._next_number()
            self._tell(Kind.MESSAGE, pack_u64(message.number), pack_message(message))
        delivery.number = self._next_number()
        self._tell(Kind.QUEUED, pack_delivery(session, delivery))

    def sent(self, delivery: Delivery, packet_id: int) -> None:
        """Keep it."""
        self._tell(Kind.SENT, pack_u64(delivery.number), pack_u16(packet_id))

    def released(self, delivery: Delivery) -> None:
        """Keep it."""
        self._tell(Kind.RELEASED, pack_u64(delivery.number))

    def done(self, delivery: Delivery) -> None:
        """Keep it."""
        self._tell(Kind.DONE, pack_u64(delivery.number))

    def received(self, session: Session, packet_id: int) -> None:
        """Keep it."""
        self._tell(Kind.RECEIVED, session.key, pack_u16(packet_id))

    def completed(self, session: Session, packet_id: int) -> None:
        """Keep it."""
        self._tell(Kind.COMPLETED, session.key, pack_u16(packet_id))

    def will(self, session: Session, will: WillSpec | None) -> None:
        """Keep it."""
        if will is None:
            self._tell(Kind.WILL_GONE, session.key)
        else:
            self._tell(Kind.WILL, pack_will(session, will))
