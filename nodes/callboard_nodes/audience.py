"""Whether somebody hears what a node says: the board's own services, on whatever broker they are.

A broker acknowledges a reading although nobody may be there to store it. So readings go out only once the board has
answered, and wait on the disk while it is known to be away. On a broker without a board they go out at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from callboard_core import topics
from callboard_core.errors import CallboardError
from callboard_core.link import Link, Message
from callboard_core.messages import Status, StatusName, parse
from callboard_core.topics import BOARD, Address, Kind, Leaf

__all__ = ["Audience"]

_log = logging.getLogger(__name__)

#: Seconds for the broker to bring what it has retained, and for the board to answer.
_PATIENCE = 2.0
#: Pings without an answer after which a board that says it is there is taken at its word.
_PINGS = 10

_HERE = frozenset({StatusName.INIT, StatusName.READY, StatusName.SLEEPING})


class Audience:
    """Follows the board's status.

    Args:
        link: make the audience before the link is started.
        site: first level of the topics.
        on_change: called on the link's dispatcher thread when the board has come, gone or was replaced.
    """

    def __init__(self, link: Link, *, site: str, on_change: Callable[[], object]) -> None:
        self._link, self._on_change = link, on_change
        self._ping = Address(site, BOARD, Leaf.COMMAND, Kind.ACTION, "ping")
        self._status: Status | None = None
        link.subscribe(topics.status(site, BOARD), self._take)

    async def wait(self) -> None:
        """Wait until the board answers; not at all if this broker has never seen a board.

        While the board is away, or there is no connection, this does not return: call it anew at each change.
        """
        await self._settled()
        for _ in range(_PINGS):
            away = self._status is not None and self._status.status not in _HERE
            if away or not self._link.connected:
                await (
                    asyncio.get_running_loop().create_future()
                )  # for ever: whoever waits begins anew at a change
            if self._status is None or await self._answers():
                return
        _log.warning("the board says that it is there and does not answer; readings are sent nevertheless")

    async def _settled(self) -> None:
        """Wait until the retained status, if there is one, has arrived."""
        try:
            await asyncio.wrap_future(self._link.round_trip(_PATIENCE))
        except CallboardError as error:
            _log.debug("the broker is slow: %s", error)

    async def _answers(self) -> bool:
        try:
            await asyncio.wrap_future(self._link.call(self._ping, {}, timeout=_PATIENCE))
        except CallboardError as error:
            _log.debug("the board does not answer: %s", error)
            return False
        return True

    def _take(self, message: Message) -> None:
        try:
            seen = parse(Status, message.payload) if message.payload else None
        except CallboardError as error:
            _log.warning("the board's status cannot be read: %s", error)
            return
        before, self._status = self._status, seen
        if _who(before) != _who(seen):
            self._on_change()


def _who(status: Status | None) -> tuple[bool, int, str | None] | None:
    return None if status is None else (status.status in _HERE, status.epoch, status.instance)
