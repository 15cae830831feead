"""Join codes: made by operators, used up by machines, worthless after a while."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

from callboard_broker.services.enrolment.keys import Keys
from callboard_broker.store import joins
from callboard_broker.store.database import Database
from callboard_broker.store.joins import JoinRecord
from callboard_core.errors import NotFound
from callboard_core.trust import JoinCode
from callboard_core.trust.enrolment import Join, JoinView, MadeJoin

__all__ = ["JoinCodes", "digest"]

#: Bytes of a token, and of the name by which people call a code.
_TOKEN, _NAME = 16, 4
#: Addresses in a code; each makes its QR code larger.
_ADDRESSES = 4
#: Seconds for which codes that expired are listed.
_LISTED = 7 * 86_400.0


def digest(secret: str) -> str:
    """Return what is stored of a secret that is random enough not to be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()


class JoinCodes:
    """Safe from any thread; blocks for as long as the database takes."""

    def __init__(
        self, database: Database, keys: Keys, site: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._keys = keys
        self._site = site
        self._clock = clock

    def make(self, wanted: Join, by: str) -> MadeJoin:
        """Make a code; it is shown this once.

        Raises:
            Conflict: no other machine can reach this board.
        """
        self._keys.check_open()
        now, token = self._clock(), secrets.token_hex(_TOKEN)
        expires = int(now + wanted.seconds) + 1
        code = JoinCode(
            site=self._site,
            addresses=tuple(self._keys.addresses()[:_ADDRESSES]),
            authority=self._keys.authority.fingerprint,
            update_key=self._keys.authority.update_key,
            token=token,
            expires=expires,
        )
        record = JoinRecord(
            name=secrets.token_hex(_NAME),
            digest=digest(token),
            uses=wanted.uses,
            used=0,
            node=wanted.id,
            ask=wanted.ask,
            made=now,
            expires=float(expires),
            by=by,
        )
        with self._database.write() as connection:
            joins.add(connection, record)
            joins.remove_expired(connection, now - _LISTED)
        return MadeJoin(code=code.text, **_view(record).model_dump())

    def items(self) -> list[JoinView]:
        """Return every code, without what makes it one; the newest first."""
        with self._database.read() as connection:
            return [_view(record) for record in joins.every(connection)]

    def revoke(self, name: str) -> None:
        """Make a code worthless.

        Raises:
            NotFound: there is none of this name.
        """
        with self._database.write() as connection:
            if not joins.remove(connection, name):
                raise NotFound(f"there is no join code {name!r} (any more)")


def _view(record: JoinRecord) -> JoinView:
    return JoinView(
        name=record.name,
        uses=record.uses,
        used=record.used,
        id=record.node,
        ask=record.ask,
        made=record.made,
        expires=record.expires,
        by=record.by,
    )
