"""Keeps a link connected: the network thread, its attempts, and the greeting at every connect."""

from __future__ import annotations

import logging
import random
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic

from callboard_core.errors import CallboardError, Conflict, Expired, Unauthorized, Unavailable
from callboard_core.link.backoff import Backoff
from callboard_core.link.hooks import Hook, Hooks
from callboard_core.link.inbox import Inbox
from callboard_core.link.lane import Lane
from callboard_core.link.outbox import Outbox, Outgoing, fail, settle
from callboard_core.link.session import Identity, Session
from callboard_core.link.subscriptions import Subscriptions
from callboard_core.link.values import Credential, Endpoint, Message, Will
from callboard_core.link.waker import Waker

__all__ = ["Connector", "Login"]

_log = logging.getLogger("callboard.link")

#: Of its own, so that threads of ours disturb nobody who wants the same random numbers again.
_DICE = random.Random()  # noqa: S311 - it only spreads


@dataclass(slots=True)
class Login:
    """Where and as whom to connect. Callables are asked again before every attempt."""

    client_id: str
    endpoint: Endpoint | Callable[[], Endpoint]
    credential: Credential | Callable[[], Credential | None] | None
    will: Will | None
    keepalive: int
    tls: ssl.SSLContext | Callable[[], ssl.SSLContext | None] | None

    def where(self) -> Endpoint:
        """The endpoint to try now."""
        return self.endpoint() if callable(self.endpoint) else self.endpoint

    def identity(self) -> Identity:
        """The identity to show now."""
        credential = self.credential() if callable(self.credential) else self.credential
        tls = self.tls() if callable(self.tls) else self.tls
        return Identity(self.client_id, self.keepalive, credential, self.will, tls)


class Connector:
    """Connects, serves the session, waits, and connects again until it is stopped.

    An attempt that was refused (credential, id) is repeated slowly, any other with growing, jittered delays.
    """

    def __init__(
        self,
        login: Login,
        backoff: Backoff,
        *,
        reply_topic: str,
        on_reply: Callable[[bytes], None],
        on_arrived: Callable[[], None],
        on_lost: Callable[[CallboardError], None],
        outbox: Outbox,
        inbox: Inbox,
        subscriptions: Subscriptions,
        worker: Lane,
        greeter: Lane,
        waker: Waker,
    ) -> None:
        self._login = login
        self.backoff = backoff
        self._reply_topic = reply_topic
        self._on_reply = on_reply
        self._on_arrived = on_arrived
        self._on_lost = on_lost
        self._outbox = outbox
        self._inbox = inbox
        self._subscriptions = subscriptions
        self._worker = worker
        self._greeter = greeter
        self._waker = waker
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._session: Session | None = None
        self._refused = False
        self._failed = False
        self.trouble: CallboardError = Unavailable("the link was not started")
        self.gate: Callable[[Endpoint], None] | None = None
        self.connect_hooks = Hooks()
        self.disconnect_hooks = Hooks()
        self.number = 0
        self.endpoint: Endpoint | None = None
        self.up = False  # this session's subscriptions are in force
        self.greeted = False  # … and its hooks have run

    @property
    def stopped(self) -> bool:
        """True once :meth:`stop` was called."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Start the network thread."""
        if self._thread is not None:
            raise RuntimeError("a link is started once")
        self.trouble = Unavailable("not connected yet")
        name = f"{self._login.client_id}-network"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def greet_with(self, run: Callable[[], None]) -> Hook:
        """Run ``run`` at every connect, and now if connected."""
        with self._changed:
            hook = self.connect_hooks.add(run)
            if self.up:
                self._greeter.post(hook)
        return hook

    def wait(self, timeout: float, *, retry: bool) -> None:
        """Wait until greeted; raises the trouble that prevents it."""
        deadline = monotonic() + timeout
        with self._changed:
            while not (self.greeted or (self.up and self._greeter.inside)):
                hopeless = self._refused or self.stopped or (self._failed and not retry)
                if hopeless or not self._changed.wait(deadline - monotonic()):
                    raise self.trouble

    def wait_drained(self, timeout: float) -> None:
        """Wait until everything is out and acknowledged, or the connection is gone."""
        with self._changed:
            self._changed.wait_for(self._drained, timeout)

    def request(self, topic_filter: str) -> None:
        """Tell the broker what is now wanted of a filter."""
        with self._changed:
            if self._session is not None:
                self._session.request(topic_filter, self._subscriptions.qos(topic_filter))
        self._waker.wake()

    def push(self) -> None:
        """See to it that what was put into the outbox is sent."""
        session = self._session
        if session is None or not session.push():
            self._waker.wake()

    def stop(self, timeout: float) -> None:
        """Send DISCONNECT and end the network thread."""
        with self._changed:
            self._stopping.set()
            self.trouble = Unavailable("the link was stopped")
            if self._session is not None:
                self._session.close()
            self._changed.notify_all()
        self._waker.wake()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _drained(self) -> bool:
        return self._session is None or not (len(self._outbox) or self._session.in_flight)

    # The network thread.

    def _run(self) -> None:
        attempt = 0
        while not self.stopped:
            begun = monotonic()
            try:
                served = self._attempt()
            except Exception:  # noqa: BLE001 - whatever it was, the thread must go on
                _log.exception("%s: the connection ended in a defect", self._login.client_id)
                served = False
            steady = served and monotonic() - begun >= self.backoff.steady
            attempt = 0 if steady else attempt + 1
            if self._refused:
                delay = self.backoff.refused
            else:
                delay = self.backoff.delay(max(0, attempt - 1), _DICE.random())
            self._stopping.wait(delay)
        self._waker.close()

    def _attempt(self) -> bool:
        """Connect once and serve the connection to its end; returns True if it was established."""
        try:
            endpoint = self._login.where()
            if self.gate is not None:
                self.gate(endpoint)
            session = Session(self._login.identity(), self, self._outbox, self._waker)
            session.open(endpoint)
            self.endpoint = endpoint
        except CallboardError as error:
            self._note_trouble(error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it was, the thread must go on
            _log.exception("%s: cannot try to connect", self._login.client_id)
            self._note_trouble(Unavailable(f"cannot try to connect: {error}"))
            return False
        return self._serve(session)

    def _serve(self, session: Session) -> bool:
        with self._changed:
            self._session = session
            self.number += 1
            if self.stopped:
                session.close()
        unsent: list[Outgoing] = []
        try:
            unsent = session.run()
        except Exception:  # noqa: BLE001 - whatever it was, the thread must go on
            _log.exception("%s: the connection failed", self._login.client_id)
            unsent = session.unsent()
        with self._changed:
            self._session = None
            self.up = self.greeted = False
        lost = Unavailable(f"connection lost: {session.reason}")
        self._worker.post(partial(fail, self._outbox.give_back(unsent), lost))
        self._on_lost(lost)
        self._after(session)
        return session.established

    def _after(self, session: Session) -> None:
        if self.stopped:
            return
        if session.established:
            self._note_trouble(Unavailable(f"connection lost: {session.reason}"))
            for hook in self.disconnect_hooks:
                self._greeter.post(partial(hook, session.reason))
        else:
            self._note_trouble(session.error or Unavailable(f"not connected: {session.reason}"))

    def _note_trouble(self, error: CallboardError) -> None:
        refused = isinstance(error, Unauthorized | Conflict)
        again = f"; trying again every {self.backoff.refused:g} s"
        if refused and not error.message.endswith(again):  # as told by a probe
            error = type(error)(error.message + again)
        level = logging.INFO if error.message == self.trouble.message else logging.WARNING
        _log.log(level, "%s: %s", self._login.client_id, error.message)
        with self._changed:
            if not self.stopped:
                self.trouble = error
            self._refused = refused
            self._failed = True
            self._changed.notify_all()

    # What a session tells (on the network thread).

    def wanted(self) -> list[tuple[str, int]]:
        """Every filter to subscribe to."""
        return [(self._reply_topic, 1), *self._subscriptions.wanted()]

    def granted(self, topic_filter: str, *, ok: bool) -> None:
        """Pass on the broker's answer to a subscription."""
        if not ok:
            _log.warning("%s: the broker refused %s", self._login.client_id, topic_filter)
        for tell in self._subscriptions.granted(topic_filter, ok=ok):
            self._worker.post(tell)

    def established(self) -> None:
        """Start the greeting: the hooks, then whatever waits."""
        with self._changed:
            self.up = True
            self.gate = None
            self._refused = False
            number = self.number
            for hook in self.connect_hooks:
                self._greeter.post(hook)
            self._greeter.post(partial(self._greeting_done, number))
            self._changed.notify_all()

    def _greeting_done(self, number: int) -> None:
        with self._changed:
            if number != self.number or not self.up:
                return
            self._outbox.release()
            self.greeted = True
            self._changed.notify_all()
        self._waker.wake()

    def received(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> bool:
        """Hand a message to its handlers; False withholds its acknowledgement."""
        if topic == self._reply_topic:
            self._on_reply(payload)
            return True
        handlers = self._subscriptions.handlers(topic)
        if not handlers:
            return True
        return self._inbox.offer(handlers, Message(topic, payload, qos, retain, self.number, monotonic()))

    def arrived(self) -> None:
        """Let what was received be handled."""
        self._inbox.release()
        self._on_arrived()

    def must_pause(self) -> bool:
        """Tell whether the inbox wants nothing to be read now."""
        return self._inbox.must_pause()

    def has_room(self) -> bool:
        """Tell whether withheld acknowledgements may go."""
        return not self._inbox.full

    def settled(self, items: list[Outgoing]) -> None:
        """Complete the futures of what is out."""
        awaited = [item for item in items if item.futures]
        if awaited:
            self._worker.post(partial(settle, awaited))
        if not len(self._outbox):
            with self._changed:
                self._changed.notify_all()

    def too_late(self, items: list[Outgoing]) -> None:
        """Fail the futures of what waited too long."""
        self._worker.post(partial(fail, items, Expired("it waited too long to be sent")))
