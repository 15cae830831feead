"""What happens because time passes: ticks, reports, the journal's upkeep, new certificates, revoked users."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from time import monotonic

from callboard_broker.engine.embedded.audit import CommandFeed
from callboard_broker.engine.embedded.host import Host
from callboard_broker.engine.embedded.login import Login
from callboard_broker.engine.embedded.turn import Turn
from callboard_broker.engine.embedded.unheard import Unheard
from callboard_broker.mqtt.durable import DurableJournal
from callboard_broker.mqtt.hub import Hub
from callboard_broker.mqtt.report import Reporter
from callboard_core.errors import CallboardError

__all__ = ["Clock", "SteadyTime"]

log = logging.getLogger("callboard.broker")
#: Seconds between looks at the clock: how late a will, a keep-alive or an expiry may be.
_TICK = 0.25
#: Seconds between looks at users and certificates; a revoked credential's session must be gone within 5.
_LOOK = 2.0


class SteadyTime:
    """Unix seconds that are never stepped: the wall clock when this was made, and what has passed since.

    Unix seconds, because messages and sessions expire across restarts; never stepped, because keep-alives, time-outs
    and wills ask how long ago something was, and a clock that is set must not end the connections of living clients.

    Args:
        wall: Unix seconds; read once.
        elapsed: seconds since some moment; never goes back.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._elapsed = elapsed
        self._offset = wall() - elapsed()

    def now(self) -> float:
        """Return the time."""
        return self._offset + self._elapsed()


class Clock:
    """Drives a hub by a time that is never stepped.

    Args:
        sys_interval: seconds between two reports under ``$SYS``.
    """

    def __init__(
        self,
        hub: Hub,
        turn: Turn,
        host: Host,
        journal: DurableJournal | None,
        login: Login,
        time: SteadyTime,
        sys_interval: float,
        unheard: Unheard,
        feed: CommandFeed,
    ) -> None:
        self._feed = feed
        self._unheard = unheard
        self._time = time
        self._sys_interval = sys_interval
        self._hub = hub
        self._turn = turn
        self._host = host
        self._journal = journal
        self._login = login
        self._stamps = host.certificate_stamps()

    async def run(self) -> None:
        """Tick until cancelled."""
        reporter = Reporter(self._hub, version("callboard"), self._time.now())
        report_at = look_at = self._time.now()
        while True:
            now = self._time.now()
            self._hub.tick(now)
            if now >= report_at:
                report_at = now + self._sys_interval
                for topic, payload in reporter.changes(now):
                    self._hub.router.announce(topic, payload)
            if now >= look_at:
                look_at = now + _LOOK
                self._look()
            self._feed.tell()
            if self._journal is not None:
                self._journal.tend()
            self._unheard.look(monotonic())
            self._turn.soon()
            await asyncio.sleep(_TICK)

    def _look(self) -> None:
        try:
            self._login.revoke()
            self._reload()
        except (CallboardError, OSError) as error:
            log.error("%s", error)  # noqa: TRY400 - the message says all; what was in force stays in force

    def _reload(self) -> None:
        stamps = self._host.certificate_stamps()
        if stamps != self._stamps:
            self._host.reload_certificates()
            self._stamps = stamps
            log.info("certificates were read again")
