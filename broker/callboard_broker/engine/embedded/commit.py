"""When the journal is written: at the end of each turn, or after a delay so that more acknowledgements share a write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from callboard_broker.mqtt.durable import DurableJournal
from callboard_broker.mqtt.hub import Hub
from callboard_core.settings import BrokerDurability

__all__ = ["Committer"]

log = logging.getLogger("callboard.broker")
#: Seconds until a write that failed is tried again.
_RETRY = 0.5


class Committer:
    """Writes the journal and lets go of acknowledgements that waited for it.

    Args:
        journal: None if nothing is kept.
        soon: called when acknowledgements were put out.
    """

    def __init__(
        self, hub: Hub, journal: DurableJournal | None, wanted: BrokerDurability, soon: Callable[[], None]
    ) -> None:
        self._hub = hub
        self._journal = journal
        self._delay = wanted.commit_delay
        self._fsync = wanted.fsync
        if journal is not None:
            journal.deferred = wanted.fsync or wanted.commit_delay > 0
        self._soon = soon
        self._task: asyncio.Task[None] | None = None

    def turn(self) -> None:
        """End a turn: what was told is written before anything is sent, unless writes are to be shared."""
        journal = self._journal
        if journal is None or not (journal.waiting or self._hub.held) or self._task is not None:
            return
        if not self._delay and not self._fsync and journal.commit():
            self._hub.release()
        else:
            self._task = asyncio.get_running_loop().create_task(self._later())

    async def _later(self) -> None:
        try:
            while self._journal is not None and (self._journal.waiting or self._hub.held):
                await asyncio.sleep(self._delay)
                await self._write(self._journal)
        finally:
            self._task = None

    async def _write(self, journal: DurableJournal) -> None:
        count = len(self._hub.held)
        if not journal.commit():
            await asyncio.sleep(_RETRY)
            return
        if self._fsync:
            try:
                await asyncio.to_thread(journal.sync)
            except OSError as error:
                log.error("the disk does not take the journal: %s", error)  # noqa: TRY400 - the reason says all
                await asyncio.sleep(_RETRY)
                return
        self._hub.release(count)
        self._soon()

    async def stop(self) -> None:
        """Write everything now."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._journal is not None:
            if self._journal.close():
                self._hub.release()
            self._journal = None
