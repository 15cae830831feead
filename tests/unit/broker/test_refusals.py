"""What was refused."""

from __future__ import annotations

import pytest

from callboard_broker.services.refusals import Refusals, sender
from callboard_core.errors import Overloaded


class Notes:
    def submit(self, key, job) -> None:
        pass


class Stuck:
    def submit(self, key, job) -> None:
        raise Overloaded("no")


@pytest.mark.parametrize(
    ("topic", "node"),
    [
        ("callboard/pi/status", "pi"),
        ("callboard/PI/status", None),
        ("callboard", None),
        ("", None),
        ("a//b", None),
    ],
)
def test_the_sender_is_the_node_of_the_topic(topic, node):
    assert sender(topic) == node


def test_all_are_counted_and_the_last_hundred_kept_newest_first():
    refusals = Refusals(Notes())
    for number in range(150):
        refusals.add("callboard/pi/status", f"reason {number}", 5, float(number))
    assert refusals.count == 150
    assert [one.t for one in refusals.items()] == [float(number) for number in range(149, 49, -1)]


def test_long_and_strange_texts_are_cut():
    refusals = Refusals(Notes())
    refusals.add("t" * 65_000, "\0" * 10_000, 1, 0.0)
    kept = refusals.items()[0]
    assert len(kept.topic) == len(kept.reason) == 500
    assert "\0" not in kept.reason


def test_a_database_that_is_stuck_does_not_stop_counting():
    refusals = Refusals(Stuck())
    refusals.add("t", "r", 1, 0.0)
    assert refusals.count == 1
