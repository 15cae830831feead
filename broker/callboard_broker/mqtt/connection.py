"""One client's connection as a state machine: fed bytes, it fills ``out`` and tells the hub. No socket lives here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from callboard_broker.mqtt import packets
from callboard_broker.mqtt.access import Everything, Grant
from callboard_broker.mqtt.handlers import FLAGS, HANDLERS
from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.packets import Connect
from callboard_broker.mqtt.phase import Phase
from callboard_broker.mqtt.reasons import ProtocolError, Reason
from callboard_broker.mqtt.stream import consume
from callboard_broker.mqtt.wire import MQTT_3_1_1, MQTT_5, PacketType, malformed

if TYPE_CHECKING:
    from callboard_broker.mqtt.hub import Hub
    from callboard_broker.mqtt.routes import Route
    from callboard_broker.mqtt.session import Session

__all__ = ["Connection", "Phase"]

_NOBODY = Everything()
#: The first byte of whoever speaks MQTT.
_CONNECT = PacketType.CONNECT << 4
#: The flag of a PUBLISH that stands for QoS 2.
_EXACTLY_ONCE = 4
log = logging.getLogger("callboard.broker")


class Connection:
    """A client's connection.

    Attributes:
        out: bytes for the socket, in order; the host takes them.
        closing: the host shall close the socket once ``out`` is written.
        cut: the peer was too slow: what is on its way is thrown away, here and in the kernel.
        direct: a QoS 0 message may be put into ``out`` at once.
        pressed: what was received waits until others had their turn; the host reads no more meanwhile.
        work: deliveries that were caused since it last let others go first; those that had to wait count more.
        choked: the socket takes no more for now (set by the host through :meth:`choke`).
        heard: something was received since the last tick.
        routes: by raw topic, what this client may publish to and where that goes.
        held: packets for it that wait for the journal.
        login: the CONNECT that waits for :meth:`Hub.admit` or :meth:`refuse`.
        tap: sees every packet; the reader then takes no short cuts.
    """

    __slots__ = (
        "address",
        "aliases",
        "certificate",
        "choked",
        "choked_at",
        "closing",
        "cut",
        "direct",
        "fingerprint",
        "grant",
        "heard",
        "heard_at",
        "held",
        "hub",
        "keepalive",
        "largest",
        "login",
        "need",
        "open",
        "out",
        "pending",
        "phase",
        "pressed",
        "publish_in",
        "routes",
        "session",
        "tap",
        "transport",
        "user",
        "version",
        "work",
    )

    def __init__(self, hub: Hub, address: str = "") -> None:
        self.hub = hub
        self.address = address
        self.certificate = ""
        self.fingerprint = ""
        self.phase = Phase.FRESH
        self.open = False
        self.direct = False
        self.choked = False
        self.choked_at = 0.0
        self.closing = False
        self.cut = False
        self.pressed = False
        self.work = 0
        self.out: list[bytes] = []
        self.pending = bytearray()
        self.need = 0
        self.version = MQTT_3_1_1
        self.login: Connect | None = None
        self.session: Session | None = None
        self.user = ""
        self.grant: Grant = _NOBODY
        self.routes: dict[bytes, Route] = {}
        self.aliases: dict[int, str] | None = None
        self.largest = 0
        self.keepalive = hub.limits.connect_timeout
        self.heard = False
        self.heard_at = hub.now
        self.publish_in = 0
        self.held = 0
        self.tap = hub.observer
        self.transport: object = None
        hub.connections.add(self)
        hub.counters.sockets += 1

    # ---- bytes in and out

    def receive(self, data: bytes) -> None:
        """Take bytes from the socket. Never raises: whoever breaks the protocol is disconnected."""
        if self.phase is Phase.CLOSED:
            return
        self.heard = True
        self.hub.counters.bytes_in += len(data)
        if self.phase is Phase.FRESH and data and not self.pending and data[0] != _CONNECT:
            self.fail(malformed(f"the first byte is {data[0]:#04x}, which begins no CONNECT"))
            return
        if self.pending or self.phase is Phase.CHECKING or self.pressed:
            self.pending += data
            if self._must_wait():
                return
            data, self.pending, self.need = bytes(self.pending), bytearray(), 0
        try:
            used, self.need = consume(self, data)
        except ProtocolError as error:
            self.fail(error)
            return
        except Exception:
            # A defect of ours must cost one connection, not the broker.
            log.exception("closing %s (%s)", self.user or "a client", self.address)
            self.close(Reason.UNSPECIFIED_ERROR)
            return
        if used < len(data):
            self.pending += data[used:] if used else data

    def press(self) -> None:
        """Let others go first: what is left of the bytes received waits for the next turn, or for a crowded session."""
        self.pressed = True
        self.hub.press(self)

    def unpress(self) -> None:
        """Go on with what waits."""
        self.pressed = False
        self.work = 0
        self.receive(b"")

    def _must_wait(self) -> bool:
        if self.pressed:
            return True
        if self.phase is Phase.CHECKING:
            if len(self.pending) > self.hub.largest_packet:
                self.fail(ProtocolError(Reason.QUOTA_EXCEEDED, "too much sent before CONNACK"))
            return True
        return len(self.pending) < self.need

    def send(self, data: bytes) -> None:
        """Put a packet out."""
        if not self.out:
            self.hub.dirty.append(self)
        self.out.append(data)

    def send_message(
        self, message: Message, flags: int, packet_id: int, identifiers: tuple[int, ...]
    ) -> None:
        """Put a PUBLISH out; one the client cannot take is dropped and counted (MQTT-3.1.2-24)."""
        if self.version == MQTT_5:
            requests = self.hub.requests
            if requests is not None and message.payload.startswith(requests.mark):
                message.properties = requests.correlation(message)
            data = message.encode5(flags, packet_id, identifiers, self.hub.now)
            if self.largest and len(data) > self.largest:
                self._too_large(message, packet_id)
                return
        else:
            data = message.encode(flags, packet_id)
        counters = self.hub.counters
        counters.messages_out += 1
        counters.publish_out += 1
        counters.publish_bytes_out += len(message.payload)
        if flags & _EXACTLY_ONCE:
            self.send_exactly_once(data)
            return
        if not self.out:
            self.hub.dirty.append(self)
        self.out.append(data)

    def send_exactly_once(self, data: bytes) -> None:
        """Put out what would come twice if the broker died before the journal has it."""
        if self.hub.journal.deferred:
            self.hub.acknowledge(self, data)
        else:
            self.send(data)

    def _too_large(self, message: Message, packet_id: int) -> None:
        if self.session is not None:
            self.session.drop(message)
            if packet_id:
                self.session.forget(self.session.inflight.pop(packet_id, None))

    def choke(self, choked: bool) -> None:
        """The host says whether the socket takes more."""
        self.choked = choked
        self.choked_at = self.hub.now
        session = self.session
        self.direct = self.open and not choked and not (session is not None and session.backlog)
        if session is not None and not choked:
            session.pump()

    # ---- ends

    def fail(self, error: ProtocolError) -> None:
        """Close because of what the peer did."""
        self.hub.note_error(self, error)
        if self.phase in {Phase.FRESH, Phase.CHECKING}:
            self._refuse_connect(error.reason)
        else:
            self.close(error.reason, str(error))

    def _refuse_connect(self, reason: Reason) -> None:
        if reason is Reason.UNSUPPORTED_PROTOCOL_VERSION:
            self.send(packets.pack_connack(MQTT_3_1_1, reason))
        elif self.login is not None and self.version == MQTT_5:
            self.send(packets.pack_connack(MQTT_5, reason))
        self.close()

    def refuse(self, reason: Reason) -> None:
        """Answer a CONNECT with a refusal and close."""
        if self.phase is not Phase.CHECKING:
            return
        self.hub.counters.refused["connect"] += 1
        self.send(packets.pack_connack(self.version, reason))
        self.close()

    def give_up(self, reason: Reason, text: str = "") -> None:
        """End the connection because the client is too slow; one that takes nothing is not waited for."""
        self.cut = self.choked
        self.close(reason, text)

    def close(self, reason: Reason | None = None, text: str = "", *, clean: bool = False) -> None:
        """End the connection; ``clean`` means that the client's will is not wanted."""
        if self.phase is Phase.CLOSED:
            return
        if reason is not None and self.version == MQTT_5 and self.open:
            self.send(packets.pack_disconnect(reason, text[:200]))
        self.phase = Phase.CLOSED
        self.open = self.direct = False
        self.closing = True
        if not self.out:
            self.hub.dirty.append(self)
        self.routes = {}
        self.pending = bytearray()
        self.hub.detach(self, clean=clean)

    def dispatch(self, first: int, body: bytes) -> None:
        """Handle one packet that the reader does not do itself.

        Raises:
            ProtocolError: it is malformed or out of place.
        """
        kind = first >> 4
        if self.tap is not None:
            self.tap.packet_received(self, first, body)
        self.hub.counters.messages_in += 1
        handler = HANDLERS.get((self.phase, kind))
        if handler is None:
            raise ProtocolError(Reason.PROTOCOL_ERROR, f"packet type {kind} while {self.phase.value}")
        if kind != PacketType.PUBLISH and first & 15 != FLAGS.get(kind, 0):
            raise malformed(f"flags {first & 15:#x} of packet type {kind}")
        handler(self, first, body)
