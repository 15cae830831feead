"""What a lane's server makes of those who do not keep to the rules: garbage, false tickets, other names, silence."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from callboard_core.errors import Overloaded
from callboard_core.jobs import Request
from callboard_core.lane import connection, frames, server
from callboard_core.lane.certificate import client_context
from callboard_core.lane.frames import Decoder, Hello, Kind
from callboard_core.lane.server import LaneServer
from callboard_core.lane.tickets import proof_of
from callboard_core.messages import Call
from callboard_core.topics import Kind as ThingKind
from support.timing import Stopwatch
from support.waiting import wait_until


class Callee:
    """Notes what it is given, and answers each call with its own id."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Call]] = []

    def take(
        self,
        call: Call,
        kind: ThingKind,
        name: str,
        arrived: float,
        answer: Callable[[bytes], None],
        *,
        run: Any,
    ) -> None:
        assert kind is ThingKind.WORKER
        self.taken.append((name, call))
        answer(json.dumps({"id": call.id, "ok": True, "result": name}).encode())


class Stranger:
    """Somebody who connects."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket, self._decoder = sock, Decoder(frames.LIMIT)
        self.socket.settimeout(10)

    def say(self, kind: Kind, body: bytes = b"") -> Stranger:
        self.socket.sendall(frames.encode(kind, body))
        return self

    def call(self, worker: str, **fields: Any) -> Stranger:
        payload = Call(**{"id": "1", "reply_to": "callboard/me/reply", **fields}).encode()
        self.socket.sendall(frames.encode_call(worker.encode(), payload))
        return self

    def hear(self) -> tuple[Kind, bytes] | None:
        """The next frame, or None at the end."""
        found: list[tuple[Kind, bytes]] = []
        while not found:
            try:
                data = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLError):
                return None
            if not data:
                return None
            found = self._decoder.feed(data)
        return found[0]


@pytest.fixture
def callee() -> Callee:
    return Callee()


@pytest.fixture
def posted() -> list[tuple[str, bytes]]:
    return []


@pytest.fixture
def lane(callee: Callee, posted: list[tuple[str, bytes]]) -> Iterator[LaneServer]:
    made = LaneServer(
        callee,
        node="a",
        site="callboard",
        instance="x1",
        post=lambda topic, payload: posted.append((topic, payload)),
        online=lambda: True,
    )
    made.listen_here()
    made.listen_on("127.0.0.1", 0, ["127.0.0.1"])
    yield made
    made.close()


@pytest.fixture
def connect(lane: LaneServer) -> Iterator[Callable[[str], Stranger]]:
    made: list[socket.socket] = []

    def make(road: str = "tls") -> Stranger:
        if road == "unix":
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.connect(f"\0{lane.lane.unix}")
        else:
            sock = socket.create_connection(("127.0.0.1", lane.lane.port or 0), timeout=10)
            if road == "tls":
                sock = client_context().wrap_socket(sock)
        made.append(sock)
        return Stranger(sock)

    yield make
    for sock in made:
        sock.close()


def ticket(lane: LaneServer, caller: str = "me", secret: str = "hidden") -> str:
    request = Request(
        "1",
        ThingKind.ACTION,
        "lane",
        {"proof": proof_of(secret)},
        f"callboard/{caller}/reply",
    )
    answer = lane.ticket(request)
    assert isinstance(answer, dict)
    return str(answer["ticket"])


def hello(**fields: Any) -> bytes:
    return Hello(**{"caller": "me", "secret": "hidden", **fields}).encode()


def test_who_has_a_ticket_may_call(lane: LaneServer, connect: Callable[..., Stranger]) -> None:
    me = connect().say(Kind.HELLO, hello(ticket=ticket(lane)))
    kind, body = me.hear() or (None, b"")
    assert kind is Kind.WELCOME
    assert json.loads(body) == {"instance": "x1", "lease": server.LEASE}
    kind, body = me.call("add").hear() or (None, b"")
    assert (kind, json.loads(body)) == (Kind.ANSWER, {"id": "1", "ok": True, "result": "add"})
    assert (me.say(Kind.PING).hear() or (None,))[0] is Kind.PONG


def test_the_same_user_on_the_same_host_needs_none(connect: Callable[..., Stranger]) -> None:
    me = connect("unix").say(Kind.HELLO, hello())
    assert json.loads((me.hear() or (None, b"{}"))[1]) == {"instance": "x1"}


def test_another_user_on_the_same_host_needs_one(
    lane: LaneServer, connect: Callable[..., Stranger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "same_user", lambda _: False)
    assert (connect("unix").say(Kind.HELLO, hello()).hear() or (None,))[0] is Kind.REFUSED
    assert (connect("unix").say(Kind.HELLO, hello(ticket=ticket(lane))).hear() or (None,))[0] is Kind.WELCOME


@pytest.mark.parametrize(
    "wrong",
    [{"ticket": ""}, {"ticket": "0.0"}, {"secret": "guessed"}, {"caller": "you"}, {"version": 2}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_false_ticket_is_refused_and_the_true_one_is_used_up(
    lane: LaneServer, connect: Callable[..., Stranger], callee: Callee, wrong: dict[str, Any]
) -> None:
    good = ticket(lane)
    me = connect().say(Kind.HELLO, hello(**{"ticket": good, **wrong})).call("add")
    kind, body = me.hear() or (None, b"")
    assert kind is Kind.REFUSED
    assert json.loads(body)["code"] == "unauthorized"
    assert me.hear() is None
    assert not callee.taken


def test_a_ticket_is_for_one_connection(lane: LaneServer, connect: Callable[..., Stranger]) -> None:
    good = ticket(lane)
    assert (connect().say(Kind.HELLO, hello(ticket=good)).hear() or (None,))[0] is Kind.WELCOME
    assert (connect().say(Kind.HELLO, hello(ticket=good)).hear() or (None,))[0] is Kind.REFUSED


def test_an_old_ticket_is_refused(
    lane: LaneServer, connect: Callable[..., Stranger], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = ticket(lane)
    later = time.monotonic() + 11
    monkeypatch.setattr(server, "monotonic", lambda: later)
    assert (connect().say(Kind.HELLO, hello(ticket=good)).hear() or (None,))[0] is Kind.REFUSED


def test_whose_ticket_has_run_out_is_shut_out_unless_it_shows_another(
    lane: LaneServer, connect: Callable[..., Stranger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LEASE", 1.5)
    me, you = (connect().say(Kind.HELLO, hello(ticket=ticket(lane))) for _ in range(2))
    assert (me.hear() or (None,))[0] is Kind.WELCOME
    assert (you.hear() or (None,))[0] is Kind.WELCOME
    time.sleep(0.8)
    assert (me.say(Kind.RENEW, hello(ticket=ticket(lane))).hear() or (None,))[0] is Kind.WELCOME
    assert you.hear() is None
    assert (me.say(Kind.PING).hear() or (None,))[0] is Kind.PONG


@pytest.mark.parametrize("road", ["unix", "tls", "plain"])
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 64,
        b"\xff" * 64,
        frames.encode(Kind.PING),
        frames.encode(Kind.HELLO, b"{"),
        frames.encode(Kind.HELLO, b'{"caller":"../#"}'),
        b"\x00\x00\x08\x00\x01",  # a greeting of 2 KiB
    ],
)
def test_garbage_ends_the_connection_and_nothing_else(
    connect: Callable[..., Stranger], callee: Callee, garbage: bytes, road: str
) -> None:
    me = connect(road)
    me.socket.sendall(garbage)
    while me.hear() is not None:
        pass
    assert not callee.taken
    good = connect("unix").say(Kind.HELLO, hello())
    assert (good.hear() or (None,))[0] is Kind.WELCOME


@pytest.mark.parametrize(
    "frame",
    [
        (frames.LIMIT + 1).to_bytes(4, "big") + b"\x04",
        frames.encode(Kind.CALL, b"\x03add{"),
        frames.encode(Kind.CALL, b"\xff"),
        frames.encode(Kind.ANSWER, b"{}"),
        frames.encode(Kind.HELLO, b'{"caller":"you"}'),
        frames.encode_call(b"add", Call(id="1", reply_to="callboard/you/reply").encode()),
        frames.encode_call(b"add", b'{"id":"1","args":7}'),
    ],
)
def test_who_is_in_and_breaks_the_rules_is_out(
    connect: Callable[..., Stranger], callee: Callee, frame: bytes
) -> None:
    me = connect("unix").say(Kind.HELLO, hello())
    assert (me.hear() or (None,))[0] is Kind.WELCOME
    me.socket.sendall(frame)
    assert me.hear() is None
    assert not callee.taken


def test_who_says_nothing_is_not_waited_for(
    connect: Callable[..., Stranger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE", 0.2)
    begun = Stopwatch()
    assert connect("unix").hear() is None
    assert begun.within(3), begun


def test_who_is_silent_for_long_is_gone(
    lane: LaneServer, connect: Callable[..., Stranger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SILENCE", 0.3)
    me = connect("unix").say(Kind.HELLO, hello())
    assert (me.hear() or (None,))[0] is Kind.WELCOME
    assert me.hear() is None
    wait_until(lambda: not lane._connections)


def test_no_more_strangers_than_are_allowed_wait_at_a_time(
    lane: LaneServer, connect: Callable[..., Stranger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STRANGERS", 3)
    waiting = [connect("unix") for _ in range(3)]
    wait_until(lambda: len(lane._connections) == 3)
    assert connect("unix").hear() is None
    assert (waiting[0].say(Kind.HELLO, hello()).hear() or (None,))[0] is Kind.WELCOME
    assert (connect("unix").say(Kind.HELLO, hello()).hear() or (None,))[0] is Kind.WELCOME


def test_who_does_not_read_is_given_up_and_answers_go_through_the_broker(
    lane: LaneServer,
    connect: Callable[..., Stranger],
    callee: Callee,
    posted: list[tuple[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("callboard_core.lane.sender.LIMIT", 200_000)
    large = "x" * 50_000

    def take(
        call: Call, kind: object, name: str, arrived: float, answer: Callable[[bytes], None], *, run: Any
    ) -> None:
        threading.Thread(
            target=answer, args=(json.dumps({"id": call.id, "ok": True, "result": large}).encode(),)
        ).start()

    monkeypatch.setattr(callee, "take", take)
    me = connect("unix").say(Kind.HELLO, hello())
    assert (me.hear() or (None,))[0] is Kind.WELCOME
    for n in range(60):
        try:
            me.call("add", id=str(n))
        except OSError:
            break
    wait_until(lambda: not lane._connections)
    wait_until(lambda: posted)
    assert {topic for topic, _ in posted} == {"callboard/me/reply"}


def test_nobody_gets_a_ticket_who_cannot_be_answered(lane: LaneServer) -> None:
    for _ in range(16):
        ticket(lane, "greedy")
    with pytest.raises(Overloaded):
        ticket(lane, "greedy")
    assert ticket(lane, "me")


def test_the_key_is_nowhere_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server.server_context()
    assert list(tmp_path.iterdir()) == []
