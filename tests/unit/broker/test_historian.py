"""From messages to readings, without network or database."""

from __future__ import annotations

import asyncio
import json

import pytest

from callboard_broker.services import historian as module
from callboard_broker.services.buffer import Buffer
from callboard_broker.services.clocks import Clocks
from callboard_broker.services.feed import Feed
from callboard_broker.services.historian import TEXT_LIMIT, Historian
from callboard_broker.services.refusals import Refusals
from callboard_broker.services.values import Values
from callboard_core.link import Message

NOW = 1_795_000_000.0
STATE = "callboard/pi/state/sensor/temperature"
SERIES = "callboard/pi/series/sensor/temperature"
THING = ("pi", "sensor", "temperature")


class Notes:
    def submit(self, key, job) -> None:
        pass


@pytest.fixture
def historian():
    loop = asyncio.new_event_loop()
    yield Historian(
        buffer=Buffer(1000),
        values=Values(),
        clocks=Clocks(),
        refusals=Refusals(Notes()),
        feed=Feed(loop),
        clock=lambda: NOW,
    )
    loop.close()


def say(topic: str, body: object, *, retain: bool = False) -> Message:
    return Message(topic, body if isinstance(body, bytes) else json.dumps(body).encode(), 1, retain)


def kept(historian) -> list[tuple[int, float | str]]:
    return [(item.t, item.value) for item in historian._buffer.take(1000)]


def reasons(historian) -> list[str]:
    return [one.reason for one in historian._refusals.items()]


@pytest.mark.parametrize(
    ("value", "stored"),
    [(21.5, 21.5), (21, 21.0), (True, 1.0), (False, 0.0), ("open", "open"), ("a\0b", "a�b")],
)
def test_a_state_is_stored_with_its_time_in_microseconds(historian, value, stored):
    historian.on_state(say(STATE, {"v": value, "t": NOW - 1.5}))
    assert kept(historian) == [(round((NOW - 1.5) * 1e6), stored)]


def test_a_state_is_the_value_of_its_thing(historian):
    historian.on_state(say(STATE, {"v": 1, "t": NOW, "level": "warning"}))
    value = historian.values.of(THING)
    assert (value.state.v, value.state.level, value.received) == (1, "warning", NOW)


def test_a_state_without_value_is_shown_and_not_stored(historian):
    historian.on_state(say(STATE, {"v": None, "t": NOW, "error": {"code": "failed", "message": "unplugged"}}))
    assert kept(historian) == []
    assert historian.values.of(THING).state.error.message == "unplugged"


def test_a_cleared_state_is_no_value_any_more(historian):
    historian.on_state(say(STATE, {"v": 1, "t": NOW}))
    historian.on_state(say(STATE, b""))
    assert historian.values.of(THING) is None
    assert reasons(historian) == []


def test_a_batch_is_stored_reading_by_reading(historian):
    historian.on_series(say(SERIES, {"t": [NOW - 2, NOW - 1], "v": [1, "x"]}))
    assert [value for _, value in kept(historian)] == [1.0, "x"]


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (STATE, b"{", "JSON"),
        (STATE, b"[]", "object"),
        (STATE, b'{"v": 1}', "t:"),
        (STATE, b'{"v": 1, "t": "yesterday"}', "t:"),
        (STATE, b'{"v": 1, "t": 1e300}', "t:"),
        (STATE, b'{"v": NaN, "t": 1}', "v"),
        (STATE, b'{"v": {"a": 1}, "t": 1}', "v"),
        (STATE, b"\xff\xfe", ""),
        ("callboard/pi/state/sensor/UPPER", b'{"v": 1, "t": 1}', "UPPER"),
        ("callboard/pi/state/sensor", b'{"v": 1, "t": 1}', "levels"),
        ("callboard/pi/state/toaster/x", b'{"v": 1, "t": 1}', "toaster"),
        ("callboard/pi/state", b'{"v": 1, "t": 1}', "levels"),
    ],
)
def test_what_does_not_parse_is_refused_with_the_reason(historian, topic, payload, reason):
    historian.on_state(say(topic, payload))
    assert kept(historian) == []
    assert reason in reasons(historian)[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"t": [1], "v": []}',
        b'{"t": [], "v": []}',
        b'{"t": [1, 2], "v": [1]}',
        b'{"t": 1, "v": 2}',
    ],
)
def test_a_bad_batch_is_refused_as_a_whole(historian, body):
    historian.on_series(say(SERIES, body))
    assert kept(historian) == []
    assert len(reasons(historian)) == 1


def test_readings_from_the_future_are_shown_and_not_stored(historian):
    historian.on_state(say(STATE, {"v": 1, "t": NOW + 86_400}, retain=True))
    assert kept(historian) == []
    assert historian.unbelieved == 1
    assert historian.values.of(THING) is not None


def test_readings_of_a_node_a_day_ahead_are_stored_at_the_boards_time(historian):
    historian.on_state(say(STATE, {"v": 1, "t": NOW + 86_400}))
    historian.on_series(say(SERIES, {"t": [NOW + 86_390], "v": [2]}))
    assert kept(historian) == [(round(NOW * 1e6), 1.0), (round((NOW - 10) * 1e6), 2.0)]


def test_a_retained_state_says_nothing_about_the_clock_and_when_the_node_was_seen(historian):
    historian.on_state(say(STATE, {"v": 1, "t": NOW - 1e6}, retain=True))
    clock = historian._clocks.of("pi")
    assert (clock.last_seen, clock.skew.seconds) == (None, None)
    historian.on_state(say(STATE, {"v": 1, "t": NOW}))
    assert clock.last_seen == NOW


def test_names_without_end_are_refused(historian, monkeypatch):
    monkeypatch.setattr(module, "MOST_SERIES", 3)
    for number in range(5):
        historian.on_state(say(f"callboard/pi/state/sensor/s{number}", {"v": 1, "t": NOW}))
    assert len(kept(historian)) == 3
    assert len(reasons(historian)) == 2


def test_a_long_text_is_cut_in_history_only(historian):
    historian.on_state(say(STATE, {"v": "x" * 5000, "t": NOW}))
    assert kept(historian)[0][1] == "x" * TEXT_LIMIT
    assert len(historian.values.of(THING).state.v) == 5000


def test_forgetting_a_node_drops_its_values(historian):
    historian.on_state(say(STATE, {"v": 1, "t": NOW}))
    historian.forget("pi")
    assert historian.values.find() == []
