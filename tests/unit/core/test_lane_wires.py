"""What travels at once is looked for at once; what does not is waited for, and only for as long as was said."""

from __future__ import annotations

import math
import os
import socket

import pytest

from callboard_core.lane import wires
from callboard_core.lane.wires import Plain


class Looks:
    """Counts how often a wire asks the kernel, and with which patience (milliseconds)."""

    def __init__(self, wire: Plain) -> None:
        self.asked: list[float] = []
        self._poll = wire._poll
        wire._poll = self

    def __call__(self, milliseconds: float) -> object:
        self.asked.append(milliseconds)
        return self._poll(milliseconds)


@pytest.fixture
def pair(monkeypatch):
    """A wire, the other end, and what the wire asks; nothing is ever too late for a spin."""
    monkeypatch.setattr(wires, "SPIN", math.inf)
    monkeypatch.setattr(wires, "_MAY_SPIN", True)
    here, there = socket.socketpair()
    wire = Plain(here, 5.0)
    yield wire, there, Looks(wire)
    wire.close()
    there.close()


def read(wire: Plain, there: socket.socket) -> bytes | None:
    there.send(b"x")
    return wire.read(1.0)


def test_the_first_bytes_are_waited_for(pair):
    wire, there, looks = pair
    assert read(wire, there) == b"x"
    assert looks.asked == [1000.0]


@pytest.fixture
def brisk(pair):
    """The same, once bytes have come at once."""
    wire, there, looks = pair
    read(wire, there)
    looks.asked.clear()
    return pair


def test_whatever_follows_bytes_that_came_at_once_is_looked_for_without_sleeping(brisk, monkeypatch):
    wire, there, looks = brisk
    monkeypatch.setattr(wires, "SPIN", 0.5)
    assert read(wire, there) == b"x"
    assert looks.asked == [0]


def test_a_spin_ends_and_the_kernel_waits_for_the_rest(brisk, monkeypatch):
    wire, _, looks = brisk
    monkeypatch.setattr(wires, "SPIN", 1e-9)
    assert wire.read(0.01) is None
    assert set(looks.asked[:-1]) == {0}
    assert looks.asked[-1] == 10.0


def test_between_two_looks_others_have_their_turn(brisk, monkeypatch):
    wire, there, looks = brisk
    monkeypatch.setattr(wires, "SPIN", 0.5)
    monkeypatch.setattr(os, "sched_yield", lambda: there.send(b"x"))  # the other side shares the processor
    assert wire.read(1.0) == b"x"
    assert looks.asked == [0, 0]


def test_a_look_without_patience_is_one_look(brisk, monkeypatch):
    wire, _, looks = brisk
    monkeypatch.setattr(wires, "SPIN", 0.5)
    assert wire.read(0.0) is None
    assert looks.asked == [0.0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("SPIN", -1.0, id="bytes that took long"),  # everything takes longer
        pytest.param("_MAY_SPIN", False, id="a single processor"),
    ],
)
def test_where_it_is_not_worth_it_the_next_bytes_are_waited_for(pair, monkeypatch, name, value):
    wire, there, looks = pair
    monkeypatch.setattr(wires, name, value)
    read(wire, there)
    looks.asked.clear()
    monkeypatch.setattr(wires, "SPIN", 0.5)
    assert read(wire, there) == b"x"
    assert looks.asked == [1000.0]
