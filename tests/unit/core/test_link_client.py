"""Packets are taken and made by ourselves: whole or in pieces, in order, and what is none ends the connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from paho.mqtt.enums import CallbackAPIVersion

from callboard_core.link.client import BufferedClient

Taken = list[tuple[bytes, bytes, int, bool, int]]


@pytest.fixture
def ends() -> Iterator[tuple[BufferedClient, socket.socket, Taken]]:
    client, (ours, theirs) = BufferedClient(CallbackAPIVersion.VERSION2, "x"), socket.socketpair()
    ours.setblocking(False)
    client._sock = ours
    taken: Taken = []
    client.taken = lambda *message: taken.append(message)
    yield client, theirs, taken
    for end in (ours, theirs):
        end.close()


def never() -> bool:
    return False


def message(payload: bytes, *, qos: int = 0, retain: bool = False, number: int = 7) -> bytes:
    body = b"\x00\x01t" + (number.to_bytes(2, "big") if qos else b"") + payload
    length, digits = len(body), []
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (128 if length else 0))
        if not length:
            return bytes([0x30 | qos << 1 | retain, *digits]) + body


@pytest.mark.parametrize("size", [0, 1, 121, 127, 128, 20_000])
def test_messages_are_taken_however_they_are_cut(ends, size: int) -> None:
    client, theirs, taken = ends
    stream = message(b"x" * size) + message(b"y" * size, qos=1, retain=True)
    for start in range(0, len(stream), max(1, len(stream) // 97)):
        theirs.sendall(stream[start : start + max(1, len(stream) // 97)])
        client.read(64, never)
        client.read(64, never)
    assert taken == [(b"t", b"x" * size, 0, False, 0), (b"t", b"y" * size, 1, True, 7)]
    assert not client.buffered


def test_no_more_is_taken_than_asked_for_nor_during_a_pause(ends) -> None:
    client, theirs, taken = ends
    theirs.sendall(message(b"a") * 5)
    client.read(2, never)
    assert (len(taken), client.buffered) == (2, True)
    client.read(64, lambda: len(taken) == 4)
    assert (len(taken), client.buffered) == (4, True)


def test_what_is_sent_is_what_is_read_and_acknowledged(ends) -> None:
    client, theirs, _taken = ends
    first = client.send_message("t", b"a", 1, False)
    second = client.send_message("t", b"b" * 200, 1, True)
    assert client.send_message("t", b"c", 0, False) == 0
    client.acknowledge(0x0102)
    client.flush()
    wanted = message(b"a", qos=1, number=first) + message(b"b" * 200, qos=1, retain=True, number=second)
    assert theirs.recv(9999) == wanted + message(b"c") + b"\x40\x02\x01\x02"
    assert client.unacknowledged == {first, second}
    theirs.sendall(b"\x40\x02" + first.to_bytes(2, "big"))
    client.read(64, never)
    assert client.unacknowledged == {second}


@pytest.mark.parametrize(
    "nonsense",
    [b"\xff" * 6, b"\x30\x02\xff\xff", b"\x32\x03\x00\x01t", b"\x20\x00", b"\xf0\x00", b"\x00\x00"],
)
def test_what_is_no_packet_ends_the_connection(ends, nonsense: bytes) -> None:
    client, theirs, taken = ends
    theirs.sendall(nonsense)
    client.read(64, never)
    assert client.socket() is None
    assert not taken


def test_a_connection_that_is_closed_is_noticed(ends) -> None:
    client, theirs, _ = ends
    theirs.close()
    client.read(64, never)
    assert client.socket() is None
    client.read(64, never)
