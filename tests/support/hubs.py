"""A broker core without sockets: clients are fed bytes, and what they would be sent is parsed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from callboard_broker.mqtt.access import Everything, Grant
from callboard_broker.mqtt.connection import Connection
from callboard_broker.mqtt.durable import DurableJournal
from callboard_broker.mqtt.hub import Hub
from callboard_broker.mqtt.limits import Limits
from support import packets as p
from support.packets import Packet

NOW = 1_000_000.0


class Deny:
    """A grant that denies what it is told to."""

    subscribe_covers_receive = False

    def __init__(
        self,
        *,
        publish: tuple[str, ...] = (),
        subscribe: tuple[str, ...] = (),
        receive: tuple[str, ...] = (),
        rank: int = 0,
    ) -> None:
        self.rank = rank
        self._denied = {"publish": publish, "subscribe": subscribe, "receive": receive}

    def may_publish(self, topic: str, retain: bool) -> bool:
        return topic not in self._denied["publish"]

    def may_subscribe(self, topic_filter: str) -> bool:
        return topic_filter not in self._denied["subscribe"]

    def may_receive(self, topic: str) -> bool:
        return topic not in self._denied["receive"]


class Client:
    """One connection of a test."""

    def __init__(self, broker: Broker, *, level: int = 4) -> None:
        self.broker, self.level = broker, level
        self.connection = Connection(broker.hub, "test")
        self.pids = itertools.count(1)
        self.received = b""
        self.early: list[Packet] = []

    def feed(self, *raw: bytes) -> list[Packet]:
        """Give bytes to the connection; returns what it puts out in return."""
        self.connection.receive(b"".join(raw))
        self.broker.turn()
        return self.packets()

    def packets(self) -> list[Packet]:
        """What was put out since the last look."""
        raw, self.received = self.received, b""
        found, self.early = self.early, []
        while raw:
            size, shift, start = 0, 0, 1
            while True:
                byte = raw[start]
                size |= (byte & 127) << shift
                start, shift = start + 1, shift + 7
                if byte < 128:
                    break
            found.append(p.parse(raw[0], raw[start : start + size], self.level))
            raw = raw[start + size :]
        return found

    def payloads(self) -> list[bytes]:
        """Payloads of the messages put out since the last look; everything is acknowledged."""
        found = self.packets()
        for packet in found:
            if packet.kind == p.PUBLISH and packet.qos:
                self.connection.receive(p.ack(p.PUBACK if packet.qos == 1 else p.PUBREC, packet.pid))
            elif packet.kind == p.PUBREL:
                self.connection.receive(p.ack(p.PUBCOMP, packet.pid))
        self.broker.turn()
        return [packet.payload for packet in found if packet.kind == p.PUBLISH]

    def everything(self) -> list[bytes]:
        """Payloads of all messages that come as long as each is acknowledged."""
        found: list[bytes] = []
        while self.received or self.early:
            found += self.payloads()
        return found

    def connect(
        self, client_id: str, *, user: str = "", grant: Grant | None = None, **options: Any
    ) -> Packet:
        self.connection.receive(p.connect(client_id, level=self.level, **options))
        if self.connection in self.broker.hub.logins:
            self.broker.hub.logins.remove(self.connection)
            self.broker.hub.admit(self.connection, user, grant or Everything())
        self.broker.turn()
        answer, *self.early = self.packets()
        return answer

    def subscribe(self, *filters: tuple[str, int], props: dict[str, Any] | None = None) -> list[Packet]:
        return self.feed(p.subscribe(filters, pid=next(self.pids), level=self.level, props=props))

    def publish(self, topic: str, payload: bytes = b"x", *, qos: int = 0, **options: Any) -> list[Packet]:
        return self.feed(p.publish(topic, payload, qos=qos, pid=next(self.pids), level=self.level, **options))

    @property
    def closed(self) -> bool:
        return self.connection.closing


class Broker:
    """A hub with a clock that is moved by hand."""

    def __init__(self, state: Path | None = None, will_grace: float = 15.0, **limits: Any) -> None:
        self.hub = Hub(Limits(**limits), now=NOW)
        self.clients: dict[Connection, Client] = {}
        self.journal: DurableJournal | None = None
        if state is not None:
            self.journal = DurableJournal(state)
            self.journal.load(
                self.hub, lambda user, client_id: None if user == "gone" else Everything(), will_grace
            )

    def client(self, client_id: str = "", *, level: int = 4, **options: Any) -> Client:
        """A client; connected if it has an id."""
        made = Client(self, level=level)
        self.clients[made.connection] = made
        if client_id:
            answer = made.connect(client_id, **options)
            assert answer.code == 0, answer
        return made

    def turn(self) -> None:
        """What the host does after each turn of its loop."""
        again = True
        while again:
            self.hub.settle()
            if self.journal is not None and self.journal.commit():
                self.hub.release()
            self._hand_out()
            again = self.hub.go_on() or bool(self.hub.dirty)

    def _hand_out(self) -> None:
        dirty, self.hub.dirty = self.hub.dirty, []
        for connection in dirty:
            if connection in self.clients:
                self.clients[connection].received += b"".join(connection.out)
            connection.out = []

    def wait(self, seconds: float) -> None:
        """Let time pass in ticks of a quarter second, as the host does."""
        for _ in range(int(seconds * 4)):
            self.hub.tick(self.hub.now + 0.25)
        self.turn()

    def crash(self) -> None:
        """Let go of the journal without any farewell."""
        assert self.journal is not None
        self.journal._log.close()
