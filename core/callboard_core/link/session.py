"""One MQTT 3.1.1 connection from TCP connect to its end, over paho-mqtt.

Everything here runs on the link's network thread, except :meth:`Session.push`. Each connection gets a fresh paho client with a clean
session: what was not acknowledged goes back to the outbox, so that a greeting can go before it.
"""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
import threading
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from callboard_core.errors import CallboardError, Conflict, Unauthorized, Unavailable
from callboard_core.link.client import BufferedClient
from callboard_core.link.outbox import Outbox, Outgoing
from callboard_core.link.values import Credential, Endpoint, Will
from callboard_core.link.waker import Waker
from callboard_core.silence import Silence, probe

__all__ = ["Identity", "Peer", "Session"]

_log = logging.getLogger("callboard.link")

#: Messages handed to paho and not yet written (QoS 0) or acknowledged (QoS 1).
WINDOW = 512
#: Messages on their way up to which a caller sends at once itself; with more the network thread sends many together.
FEW = 2
#: Seconds within which the broker must accept the connection and then grant the subscriptions.
HANDSHAKE = 10.0
#: Seconds to open the TCP connection; a lost first packet is repeated after one.
REACH = 2.5
#: Probes of a quiet connection within a keep-alive, but none more often than once a second.
PROBES = 10
#: Bytes that may wait for the socket before no more messages are handed over.
UNSENT = 256 * 1024
#: Messages read before anything else has its turn.
BATCH = 64
#: Filters per SUBSCRIBE packet.
CHUNK = 50

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: CONNACK return codes 1 to 5 (MQTT 3.1.1, 3.2.2.3), as paho names them.
_REFUSALS: dict[str, type[CallboardError]] = {
    "Bad user name or password": Unauthorized,
    "Not authorized": Unauthorized,
    "Client identifier not valid": Conflict,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who connects, and how."""

    client_id: str
    keepalive: int
    credential: Credential | None = None
    will: Will | None = None
    tls: ssl.SSLContext | None = None


class Peer(Protocol):
    """What a session needs from its link. All calls are quick and made on the network thread."""

    def wanted(self) -> list[tuple[str, int]]:
        """Every filter to subscribe to, with its QoS."""

    def granted(self, topic_filter: str, *, ok: bool) -> None:
        """The broker answered a subscription."""

    def established(self) -> None:
        """All subscriptions are answered; greetings may go."""

    def received(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> bool:
        """A message arrived; False withholds its acknowledgement until there is room."""

    def arrived(self) -> None:
        """What was received since this was last said may be handled."""

    def must_pause(self) -> bool:
        """Tell whether nothing should be read from the network now."""

    def has_room(self) -> bool:
        """Tell whether withheld acknowledgements may go."""

    def settled(self, items: list[Outgoing]) -> None:
        """These messages are out."""

    def too_late(self, items: list[Outgoing]) -> None:
        """These messages waited past their deadline and were not sent."""


class Session:
    """One connection. ``request`` and ``close`` may be called from any thread, followed by a wake."""

    def __init__(self, identity: Identity, peer: Peer, outbox: Outbox, waker: Waker) -> None:
        self._identity = identity
        self._peer = peer
        self._outbox = outbox
        self._waker = waker
        self._selector = selectors.DefaultSelector()
        self._mask = 0
        self._tick = min(1.0, identity.keepalive / 4)
        self._requests: deque[tuple[str, int | None]] = deque()
        self._asked: dict[int | None, list[str]] = {}
        self._first: set[int | None] = set()  # SUBSCRIBEs that must be answered before the greeting
        self._unwritten: list[tuple[int, Outgoing]] = []
        self._unacknowledged: deque[tuple[int, Outgoing, int]] = deque()  # with their packet ids
        self._sent = 0
        self._withheld: deque[int] = deque()
        self._deadline: float | None = None
        self._silence: Silence | None = None
        self._turning = threading.Lock()  # held by whoever uses the client
        self._closing = False
        self._farewell_sent = False
        self.established = False
        self.error: CallboardError | None = None
        self.reason = "closed"
        self._client = self._make_client()

    def open(self, endpoint: Endpoint) -> None:
        """Connect the socket and send CONNECT.

        Raises:
            Unavailable: nothing answers there.
        """
        if endpoint.tls:
            self._client.tls_set_context(self._identity.tls or ssl.create_default_context())
        try:
            self._client.connect(endpoint.host, endpoint.port, self._identity.keepalive)
        except (OSError, ValueError) as error:
            raise Unavailable(f"cannot reach the broker at {endpoint}: {error}") from error
        sock: Any = self._client.socket()
        if sock is not None:
            sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # a call must not wait 40 ms for company
            probe(sock, max(1, round(self._identity.keepalive / PROBES)))
            self._silence = Silence(sock)
        self._deadline = monotonic() + HANDSHAKE

    def request(self, topic_filter: str, qos: int | None) -> None:
        """Subscribe, or unsubscribe if ``qos`` is None."""
        self._requests.append((topic_filter, qos))

    def close(self) -> None:
        """Send DISCONNECT and end."""
        self._closing = True

    def run(self) -> list[Outgoing]:
        """Serve the connection until it ends; returns what was not acknowledged, in order of sending."""
        self._selector.register(self._waker.reader, _READ)
        try:
            while self._client.socket() is not None:
                self._turn()
        finally:
            with self._turning:  # from now on nobody can hand anything over
                self._drop_socket()
            self._selector.close()
        return self.unsent()

    @property
    def in_flight(self) -> int:
        """Messages handed over and not yet acknowledged."""
        return len(self._unwritten) + len(self._unacknowledged)

    def unsent(self) -> list[Outgoing]:
        """What was handed over and not acknowledged, in order of sending."""
        unacknowledged = [(number, item) for number, item, _ in self._unacknowledged]
        rest = sorted([*self._unwritten, *unacknowledged], key=lambda sent: sent[0])
        return [item for _, item in rest]

    def _make_client(self) -> BufferedClient:
        identity = self._identity
        client = BufferedClient(CallbackAPIVersion.VERSION2, identity.client_id, reconnect_on_failure=False)
        client.connect_timeout = REACH
        if identity.credential is not None:
            client.username_pw_set(identity.credential.username, identity.credential.password)
        if identity.will is not None:
            will = identity.will
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.taken = self._take
        return client

    def push(self) -> bool:
        """Send what waits from the calling thread, if nothing is in the way; False: wake the network thread.

        While many are on their way anyway the network thread does it, many at a time.
        """
        if len(self._unacknowledged) > FEW or not self._turning.acquire(blocking=False):
            return False
        try:
            if not self.established or self._closing or self._client.socket() is None:
                return False
            # A message must not overtake a subscription that was asked for before it.
            self._serve_requests()
            self._serve_outbox()
            self._client.flush()
            self._collect()
            return self._client.socket() is not None and not self._client.want_write()
        finally:
            self._turning.release()

    def _turn(self) -> None:
        with self._turning:
            paused = self._peer.must_pause()
            self._watch((0 if paused else _READ) | (_WRITE if self._client.want_write() else 0))
            buffered = not paused and self._client.buffered
        timeout = 0.0 if buffered else 0.1 if paused else self._tick
        events = self._selector.select(timeout)
        with self._turning:
            self._serve_events(events, buffered)

    def _serve_events(self, events: list[tuple[selectors.SelectorKey, int]], readable: bool) -> None:
        for key, event in events:
            if key.fileobj is self._waker.reader:
                self._waker.clear()
            else:
                readable = readable or bool(event & _READ)
        if readable:
            self._client.read(BATCH, self._peer.must_pause)
            self._peer.arrived()
        self._serve()
        self._client.loop_misc()
        self._client.flush()
        self._collect()
        self._check_deadline()

    def _watch(self, mask: int) -> None:
        sock = self._client.socket()
        if mask == self._mask or sock is None:
            return
        if not self._mask:
            self._selector.register(sock, mask)
        elif mask:
            self._selector.modify(sock, mask)
        else:
            self._selector.unregister(sock)
        self._mask = mask

    def _serve(self) -> None:
        if self._closing:
            if not self._farewell_sent:
                self._farewell_sent = True
                self._client.leaving = True
                self._client.disconnect()
            return
        if self._client.is_connected():
            self._serve_requests()
            self._serve_acknowledgements()
            if self.established:
                self._serve_outbox()

    def _serve_requests(self) -> None:
        while self._requests:
            topic_filter, qos = self._requests.popleft()
            if qos is None:
                self._client.unsubscribe(topic_filter)
            else:
                self._subscribe([(topic_filter, qos)])

    def _serve_acknowledgements(self) -> None:
        while self._withheld and self._peer.has_room():
            self._client.acknowledge(self._withheld.popleft())

    def _serve_outbox(self) -> None:
        room = WINDOW - len(self._unwritten) - len(self._unacknowledged)
        if room <= 0 or self._client.unsent > UNSENT:
            return
        ready, late = self._outbox.take(room, monotonic())
        for item in ready:
            self._sent += 1
            number = self._client.send_message(item.topic, item.payload, item.qos, item.retain)
            if item.qos:
                self._unacknowledged.append((self._sent, item, number))
            else:
                self._unwritten.append((self._sent, item))
        if late:
            self._peer.too_late(late)

    def _collect(self) -> None:
        """Find out what is through: written (QoS 0), or acknowledged, which comes in order (MQTT 3.1.1, 4.6)."""
        done = [item for _, item in self._unwritten]
        self._unwritten.clear()
        queue, missing = self._unacknowledged, self._client.unacknowledged
        while queue and queue[0][2] not in missing:
            done.append(queue.popleft()[1])
        if done:
            self._peer.settled(done)
            if len(self._outbox):
                self._waker.wake()

    def _check_deadline(self) -> None:
        if self._deadline is not None and monotonic() > self._deadline:
            self.reason = "the broker did not answer in time"
            self._drop_socket()
        elif self._silence is not None and self._silence.is_deadly(monotonic()):
            self.reason = "nothing gets through"
            self._drop_socket()

    def _drop_socket(self) -> None:
        sock = self._client.socket()
        if sock is not None:
            sock.close()
            self._client.disconnect()

    def _subscribe(self, wanted: list[tuple[str, int]]) -> int | None:
        _, mid = self._client.subscribe(wanted)
        self._asked[mid] = [topic_filter for topic_filter, _ in wanted]
        return mid

    def _on_connect(self, _: Client, __: Any, ___: Any, reason: ReasonCode, ____: Any) -> None:
        if reason.is_failure:
            kind = _REFUSALS.get(str(reason), Unavailable)
            who = f"client id {self._identity.client_id!r}"
            if self._identity.credential is not None:
                who += f", user {self._identity.credential.username!r}"
            self.reason = f"the broker refused {who}: {str(reason).lower()}"
            self.error = kind(self.reason)
            return
        self._requests.clear()  # all of them are among what is wanted
        wanted = self._peer.wanted()
        chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)]
        self._first = {self._subscribe(chunk) for chunk in chunks}

    def _on_subscribe(self, _: Client, __: Any, mid: int, reasons: list[ReasonCode], ___: Any) -> None:
        for topic_filter, reason in zip(self._asked.pop(mid, ()), reasons, strict=False):
            self._peer.granted(topic_filter, ok=not reason.is_failure)
        self._first.discard(mid)
        if not self._first and not self.established:
            self.established = True
            self._deadline = None
            self._peer.established()

    def _take(self, name: bytes, payload: bytes, qos: int, retain: bool, number: int) -> None:
        try:
            topic = name.decode()
        except UnicodeDecodeError:
            _log.warning("%s: a topic that is not UTF-8 was ignored", self._identity.client_id)
            acknowledge = True
        else:
            acknowledge = self._peer.received(topic, payload, qos, retain=retain)
        if qos:
            if acknowledge and not self._withheld:
                self._client.acknowledge(number)
            else:
                self._withheld.append(number)

    def _on_disconnect(self, _: Client, __: Any, ___: Any, reason: ReasonCode, ____: Any) -> None:
        if self.error is None and self.reason == "closed" and reason.is_failure:
            self.reason = str(reason).lower()
