"""Cards survive the wire, hang where they say, and judge values."""

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_core.calls.names import LONGEST, SERVICE_PATTERN
from callboard_core.cards import (
    ActionCard,
    CameraCard,
    ControlCard,
    Host,
    LoopCard,
    NodeCard,
    Range,
    SensorCard,
    SlotCard,
    WorkerCard,
    parse_card,
)
from callboard_core.errors import BadPayload, BadRequest, TooLarge
from callboard_core.messages import Level
from callboard_core.topics import Address

ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
services = st.from_regex(SERVICE_PATTERN, fullmatch=True).filter(lambda text: len(text) <= LONGEST)
numbers = st.floats(-1e9, 1e9)
maybe = st.none()
common = {
    "name": ids,
    "epoch": st.integers(0, 2**53 - 1),
    "label": maybe | texts,
    "description": maybe | texts,
    "tags": st.lists(texts, max_size=3),
}
ranges = maybe | st.builds(Range, low=maybe | numbers, high=maybe | numbers)
options = st.lists(texts, min_size=1, max_size=3)
cards = st.one_of(
    st.builds(NodeCard, version=texts, host=maybe | st.builds(Host, hostname=texts, system=texts, machine=texts), **common),
    st.builds(SensorCard, unit=maybe | texts, normal=ranges, warning=ranges, minimum=maybe | numbers, **common),
    st.builds(SensorCard, type=st.just("enum"), options=options, **common),
    st.builds(ControlCard, minimum=maybe | numbers, maximum=maybe | numbers, **common),
    st.builds(ActionCard, confirm=maybe | texts, interruptible=st.booleans(), **common),
    st.builds(WorkerCard, service=services, concurrency=st.integers(1, 64), **common),
    st.builds(SlotCard, engine=texts, **common),
    st.builds(LoopCard, elements=st.lists(texts, max_size=3), **common),
    st.builds(CameraCard, width=maybe | st.integers(1, 9999), **common),
)  # fmt: skip


@given(cards)
def test_a_card_survives_being_encoded_and_parsed(card):
    again = parse_card(card.encode())
    assert again == card
    assert type(again) is type(card)


@given(st.one_of(st.binary(), texts, cards.map(lambda card: card.encode()[:-5])))
def test_any_bytes_are_a_card_or_a_bad_payload(payload):
    with contextlib.suppress(BadPayload):
        parse_card(payload)


@pytest.mark.parametrize(
    ("payload", "key", "expected"),
    [
        ("{}", "kind", "kind: missing; it is required"),
        ('{"kind": "sensr", "name": "a", "epoch": 1}', "kind", "kind: expected one of node, sensor, control"),
        ('{"kind": "sensor", "epoch": 1}', "name", "name: missing; it is required"),
        ('{"kind": "sensor", "name": "a"}', "epoch", "epoch: missing; it is required"),
        ('{"kind": "sensor", "name": "A b", "epoch": 1}', "name", "name 'A b' is not an id"),
        ('{"kind": "sensor", "name": "a", "epoch": -1}', "epoch", "epoch: expected greater than or equal to 0"),
        ('{"kind": "sensor", "name": "a", "epoch": 1, "every": 0}', "every", "every: expected greater than 0"),
        ('{"kind": "sensor", "name": "a", "epoch": 1, "type": "enum"}', "options", "options: an enum needs"),
        ('{"kind": "control", "name": "a", "epoch": 1, "type": "enum"}', "options", "options: an enum needs"),
        ('{"kind": "sensor", "name": "a", "epoch": 1, "normal": {"low": "x"}}', "normal.low", "normal.low: expected a valid number"),
        ('{"kind": "sensor", "name": "a", "epoch": 1, "minimum": NaN}', "minimum", "minimum: expected a finite number"),
        ('{"kind": "sensor", "name": "a", "epoch": 1, "tags": [1]}', "tags.0", "tags.0: expected a valid string"),
        ('{"kind": "action", "name": "a", "epoch": 1, "parameters": {"a": NaN}}', "parameters", "parameters: NaN and"),
        ('{"kind": "node", "name": "a", "epoch": 1}', "version", "version: missing; it is required"),
        ("[]", "", "expected an object"),
        ("nonsense", "", "Invalid JSON"),
    ],
)  # fmt: skip
def test_a_bad_card_names_the_key_and_what_it_takes(payload, key, expected):
    with pytest.raises(BadPayload) as caught:
        parse_card(payload)
    assert caught.value.key == key
    assert caught.value.message.startswith(expected)


def test_a_card_over_the_limit_is_too_large_before_it_is_parsed():
    with pytest.raises(TooLarge, match="1048576 bytes is over the limit of 65536"):
        parse_card(b"x" * 1024 * 1024)


def test_a_card_hangs_where_it_says():
    sensor = SensorCard(name="heat", epoch=1).encode()
    assert parse_card(sensor, address=Address.parse("site/roof/announce/sensor/heat")).name == "heat"
    with pytest.raises(BadPayload, match="kind: the card says 'sensor', its topic 'control'"):
        parse_card(sensor, address=Address.parse("site/roof/announce/control/heat"))
    with pytest.raises(BadPayload, match="name: the card says 'heat', its topic 'cold'"):
        parse_card(sensor, address=Address.parse("site/roof/announce/sensor/cold"))


def test_a_nodes_card_hangs_under_its_own_id():
    card = NodeCard(name="roof", epoch=1, version="1").encode()
    assert parse_card(card, address=Address.parse("site/roof/announce")).name == "roof"
    with pytest.raises(BadPayload, match="its topic 'cellar'"):
        parse_card(card, address=Address.parse("site/cellar/announce"))


def test_a_wrong_name_is_a_bad_request_when_a_card_is_built_too():
    with pytest.raises(BadRequest, match="try 'open-vent'"):
        ActionCard(name="open_vent", epoch=1)


def test_the_title_is_the_label_or_the_name():
    assert SensorCard(name="a", epoch=1).title == "a"
    assert SensorCard(name="a", epoch=1, label="Air").title == "Air"


NORMAL, WARNING, ERROR = Level.NORMAL, Level.WARNING, Level.ERROR


@pytest.mark.parametrize(
    ("normal", "warning", "levels"),
    [
        (None, None, {-1: NORMAL, 15: NORMAL, 99: NORMAL}),
        ((10, 20), None, {9: WARNING, 10: NORMAL, 20: NORMAL, 21: WARNING}),
        ((10, 20), (0, 30), {-1: ERROR, 0: WARNING, 9.9: WARNING, 15: NORMAL, 30: WARNING, 31: ERROR}),
        (None, (0, 30), {-1: ERROR, 15: NORMAL, 31: ERROR}),
        ((None, 20), None, {-1e9: NORMAL, 21: WARNING}),
    ],
)
def test_a_sensor_judges_numbers_by_its_ranges(normal, warning, levels):
    card = SensorCard(
        name="a",
        epoch=1,
        normal=normal and Range(low=normal[0], high=normal[1]),
        warning=warning and Range(low=warning[0], high=warning[1]),
    )
    assert {value: card.level(value) for value in levels} == levels


def test_what_is_no_number_is_always_normal():
    card = SensorCard(name="a", epoch=1, normal=Range(low=10))
    assert [card.level(value) for value in (True, "x", None)] == [NORMAL] * 3


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ({}, 5),
        ({"minimum": 0, "maximum": 100}, 100),
        ({"type": "boolean"}, False),
        ({"type": "enum", "options": ["a", "b"]}, "b"),
        ({"type": "text", "max_length": 3}, "abc"),
        ({"type": "colour"}, "#Ff8800"),
    ],
)
def test_a_control_takes_what_it_declares(declared, value):
    assert ControlCard(name="a", epoch=1, **declared).check(value) == value


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ({}, True, "expected a number"),
        ({}, "5", "expected a number"),
        ({}, None, "expected a number"),
        ({}, math.nan, "not a finite number"),
        ({"minimum": 0, "maximum": 100}, 101, "101 is outside 0.0 … 100.0"),
        ({"type": "boolean"}, 1, "expected true or false"),
        ({"type": "enum", "options": ["a", "b"]}, "c", "'c' is not one of a, b"),
        ({"type": "text", "max_length": 3}, "abcd", "4 characters are more than 3"),
        ({"type": "text"}, 5, "expected a text"),
        ({"type": "colour"}, "red", "not a colour like #ff8800"),
    ],
)
def test_a_control_refuses_the_rest_and_says_what_it_takes(declared, value, expected):
    with pytest.raises(ValueError, match=expected):
        ControlCard(name="a", epoch=1, **declared).check(value)


def test_keys_from_a_later_version_are_ignored():
    content = json.loads(SensorCard(name="a", epoch=1).encode()) | {"mood": "good"}
    assert parse_card(json.dumps(content)) == SensorCard(name="a", epoch=1)
