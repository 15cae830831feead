"""What the broker says about itself."""

from __future__ import annotations

import pytest

from callboard_broker.services.broker_figures import BrokerFigures, figures, number
from callboard_core.link import Message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12.0),
        ("-1.5", -1.5),
        ("123 seconds", 123.0),
        ("mosquitto version 2.0.11", None),
        ("", None),
        ("é", None),
    ],
)
def test_the_number_a_payload_begins_with(text, value):
    assert number(text) == value


def test_figures_are_kept_by_topic_and_bounded():
    figures = BrokerFigures()
    for index in range(1000):
        figures.on_figure(Message(f"$SYS/{index}", b"%d" % index))
    figures.on_figure(Message("$SYS/0", b"7 s"))
    figures.on_figure(Message("$SYS/1", b"\xff\xfe"))
    found = figures.all()
    assert len(found) == 300
    assert found["$SYS/0"] == 7
    assert found["$SYS/1"] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("7 seconds", {"$SYS/x": 7.0}),
        ('{"queue": 3, "packet": 0, "who": "me"}', {"$SYS/x/queue": 3.0, "$SYS/x/packet": 0.0}),
        ('[{"client": "twin"}, {"client": "two"}]', {"$SYS/x": 2.0}),
        ("{broken", {}),
        ("text", {}),
    ],
)
def test_objects_and_lists_are_numbers_too(text, told):
    assert dict(figures("$SYS/x", text)) == told
