"""Who has sent which command, told to the board: the broker alone knows which user a message comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from callboard_broker.access.rules import AUDIT_FEED, is_command
from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.reasons import Reason
from callboard_broker.services.ledger import Ledger, concerns

if TYPE_CHECKING:
    from callboard_broker.mqtt.connection import Connection
    from callboard_broker.mqtt.hub import Hub
    from callboard_broker.mqtt.session import Session

__all__ = ["CommandFeed"]

#: Entries in one message.
_MOST = 500
#: Characters of names that nobody has checked.
_LONGEST = 100
_CODES = {Reason.CLIENT_IDENTIFIER_NOT_VALID: "forbidden", Reason.SERVER_BUSY: "overloaded"}


class CommandFeed:
    """Collects commands and their answers on the way, and publishes what came of them when the clock ticks.

    What nobody listens to yet is kept, within bounds: the board may just be starting.
    """

    def __init__(self, hub: Hub, site: str) -> None:
        self._hub = hub
        self._site = site
        self._ledger = Ledger(site)

    def concerns(self, topic: str) -> bool:
        """Tell whether a topic carries commands or answers."""
        return concerns(self._site, topic)

    def saw(self, session: Session, topic: str, payload: bytes) -> None:
        """Note a message."""
        self._ledger.saw(self._hub.now, session.user, session.client_id, _address(session), topic, payload)

    def refused(self, session: Session, topic: str) -> None:
        """Note a refused command; what else is refused is counted by the hub."""
        if is_command(self._site, topic):
            self._ledger.refused(self._hub.now, session.user, session.client_id, _address(session), topic)

    def kept_out(self, connection: Connection, reason: Reason) -> None:
        """Note a log-in that was refused."""
        login = connection.login
        if login is not None:
            user, client = (login.username or "")[:_LONGEST], login.client_id[:_LONGEST]
            result = _CODES.get(reason, "unauthorized")
            self._ledger.kept_out(self._hub.now, user, client, connection.address, result)

    def tell(self) -> None:
        """Publish what there is to tell."""
        if not self._ledger.settle(self._hub.now):
            return
        router = self._hub.router
        route = router.route(AUDIT_FEED)
        if route.version != router.tree.version:
            router.refresh(route)
        if route.targets:
            while entries := self._ledger.take(_MOST):
                router.publish(Message(AUDIT_FEED, json.dumps(entries).encode(), 1), route, None)


def _address(session: Session) -> str:
    return session.connection.address if session.connection is not None else ""
