"""The one connection of this server process to the broker: keeps the model, hands out snapshots."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from functools import partial
from secrets import token_hex

from callboard_console.web.client import Api
from callboard_console.web.model import Model
from callboard_console.web.snapshot import Snapshot, Topics
from callboard_core import topics
from callboard_core.errors import CallboardError
from callboard_core.link import Credential, Endpoint, Link, Message, Subscription
from callboard_core.steady import Steady
from callboard_core.topics import Leaf
from callboard_core.view import Generation

__all__ = ["Feed"]

_log = logging.getLogger("callboard.console")

#: Seconds between two looks at whether there is something new, and between two snapshots of mere values.
TICK, SNAPSHOT_EVERY = 0.1, 1.0
#: Seconds between two questions to the registry, and the least between two sweeps.
REGISTRY_EVERY, SWEEP_EVERY = 10.0, 10.0
#: Failures in a row after which the registry is reported missing.
REGISTRY_PATIENCE = 5
#: Seconds to wait for everything retained to arrive.
ROUND_TRIP = 30.0


class Feed:
    """Reads everything with the viewer's credential and never publishes."""

    def __init__(self, *, site: str, endpoint: Endpoint, credential: Credential, http_url: str) -> None:
        self._site = site
        self._link = Link(
            client_id=f"console-{token_hex(4)}", endpoint=endpoint, site=site, credential=credential
        )
        self._api = Api(http_url, credential.username, credential.password)
        self._model = Model(site, time.time())
        self._lock = threading.Lock()
        self._snapshot = self._model.snapshot(time.time())
        self._stopping = threading.Event()
        self._last_sweep = 0.0
        self._subscriptions: list[Subscription] = []
        self._round = self._dropped = 0
        self._threads = [
            threading.Thread(target=self._tick, name="console-tick", daemon=True),
            threading.Thread(target=self._ask_registry, name="console-registry", daemon=True),
        ]

    def start(self) -> None:
        """Connect and keep up to date until :meth:`stop`."""
        self._subscribe()
        self._link.subscribe(f"{self._site}/+/{Leaf.EVENT}/+", self._receive, qos=1)
        self._link.on_disconnect(self._lost)
        self._link.on_connect(self._connected)
        self._link.start()
        for thread in self._threads:
            thread.start()

    def _subscribe(self) -> None:
        """Ask for everything retained; once more if it was asked for before."""
        filters = (
            topics.every_status(self._site),
            topics.every_card(self._site),
            topics.every_state(self._site),
        )
        earlier = self._subscriptions
        self._subscriptions = [self._link.subscribe(each, self._receive, qos=0) for each in filters]
        for subscription in earlier:
            subscription.cancel()

    def stop(self) -> None:
        """Disconnect and end the threads."""
        self._stopping.set()
        self._link.stop(timeout=1.0)
        for thread in self._threads:
            thread.join(timeout=0.5)

    def snapshot(self) -> Snapshot:
        """Return the newest snapshot; costs nothing."""
        return self._snapshot

    def topics(self) -> Topics:
        """Return every retained message."""
        with self._lock:
            return self._model.topics()

    def sweep(self) -> None:
        """Look again for retained messages outside the usual tree; returns at once."""
        now = time.monotonic()
        if not self._link.connected or now - self._last_sweep < SWEEP_EVERY:
            return
        self._last_sweep = now
        subscription = self._link.subscribe(f"{self._site}/#", self._receive_stray, qos=0)
        subscription.ready.add_done_callback(lambda _: self._finish_sweep(subscription))

    def _finish_sweep(self, subscription: Subscription) -> None:
        try:
            arrived = self._link.round_trip(ROUND_TRIP)
        except CallboardError:
            subscription.cancel()
            return
        arrived.add_done_callback(lambda done: self._swept_all(subscription, done))

    def _swept_all(self, subscription: Subscription, done: Future[None]) -> None:
        subscription.cancel()
        if done.exception() is None:
            with self._lock:
                self._model.swept()

    # -- on the link's threads -----------------------------------------------------------------------------

    def _receive(self, message: Message) -> None:
        if self._link.dropped != self._dropped:
            self._look_again()
        with self._lock:
            self._model.apply(message, time.time(), self._round)

    def _look_again(self) -> None:
        """Messages were dropped because they came faster than they are taken in; some may have been news."""
        self._dropped = self._link.dropped
        self._round += 1
        self._subscribe()
        self._synchronise((self._link.session, self._round))

    def _receive_stray(self, message: Message) -> None:
        if message.retain:
            with self._lock:
                self._model.stray(message, time.time())

    def _connected(self) -> None:
        with self._lock:
            self._model.connection(time.time(), connected=True)
        self._synchronise((self._link.session, self._round))

    def _synchronise(self, generation: Generation) -> None:
        self._link.round_trip(ROUND_TRIP).add_done_callback(partial(self._settled, generation))

    def _settled(self, generation: Generation, done: Future[None]) -> None:
        if done.exception() is not None:
            if self._link.connected and self._link.session == generation[0]:
                self._synchronise(generation)
            return
        with self._lock:
            self._model.settle(generation)

    def _lost(self, reason: str) -> None:
        _log.warning("the console lost the broker: %s", reason)
        with self._lock:
            self._model.connection(time.time(), connected=False)

    # -- our own threads -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        made = 0.0
        steady = Steady(_log, "drawing up what the console shows")
        while not self._stopping.wait(TICK):
            now = time.time()
            if self._model.urgent or not 0 <= now - made < SNAPSHOT_EVERY:
                made = now
                with steady, self._lock:
                    self._snapshot = self._model.snapshot(now)

    def _ask_registry(self) -> None:
        failures = 0
        steady = Steady(_log, "reading the board's registry")
        while not self._stopping.is_set():
            with steady:
                failures = self._ask_once(failures)
            if steady.failing:
                failures = REGISTRY_PATIENCE
            # At a start of everything at once the board may answer a moment later than we ask.
            self._stopping.wait(1.0 if 0 < failures < REGISTRY_PATIENCE else REGISTRY_EVERY)

    def _ask_once(self, failures: int) -> int:
        """Ask once; returns how often in a row that has failed now."""
        try:
            items = self._api.nodes()
        except CallboardError as error:
            if failures + 1 == REGISTRY_PATIENCE:
                _log.warning("the console cannot read the board's registry: %s", error)
            return failures + 1
        with self._lock:
            self._model.registry(items)
        return 0
