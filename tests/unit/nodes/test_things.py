"""callboard_nodes.things."""

from __future__ import annotations

from typing import Literal

import pytest

from callboard_core.cards import Range
from callboard_core.errors import BadRequest
from callboard_core.topics import Kind
from callboard_nodes.things import Things, action, control, is_async, sensor


def test_a_sensor_takes_its_name_and_description_from_its_function():
    def air_temperature() -> float:
        """Air at the north wall.

        More that nobody needs to see.
        """
        return 20.0

    found = sensor(air_temperature, unit="°C", every=5, normal={"low": 10, "high": 30}, tags=["garden"])
    assert found.card.name == "air-temperature"
    assert found.card.description == "Air at the north wall."
    assert found.card.type == "number"
    assert found.card.normal == Range(low=10, high=30)
    assert found.card.tags == ["garden"]
    assert found.kind is Kind.SENSOR


def test_types_come_from_annotations_options_or_outright():
    def text() -> str:
        return ""

    def mode() -> Literal["eco", "full"]:
        return "eco"

    def bare():
        return 1

    assert sensor(text).card.type == "text"
    assert sensor(mode).card.options == ["eco", "full"]
    assert sensor(bare).card.type == "number"
    assert sensor(bare, options=["a", "b"]).card.type == "enum"
    assert sensor(bare, type="boolean").card.type == "boolean"


def test_a_lambda_or_an_object_can_be_a_sensor_when_it_is_named():
    class Probe:
        def __call__(self) -> float:
            return 1.0

    assert sensor(Probe(), name="probe").card.name == "probe"
    assert sensor(lambda: 1, name="one").card.description is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every": 0}, "sensor 'level': every: .*greater than 0"),
        ({"every": "often"}, "every"),
        ({"unti": "m"}, "sensor 'level': unknown setting 'unti'"),
        ({"name": "Water Level"}, "name 'Water Level' is not an id.*try 'water-level'"),
        ({"name": "water/level"}, "try 'water-level'"),
        ({"type": "colour"}, "type: 'colour' is not one of"),
        ({"type": "enum"}, "an enum needs at least one"),
    ],
)
def test_a_wrong_setting_of_a_sensor_is_named(settings, words):
    def level():
        return 1

    with pytest.raises(BadRequest, match=words):
        sensor(level, **settings)


def test_a_control_takes_its_type_from_its_parameter():
    def lamp(on: bool):
        pass

    def fan(value):
        pass

    assert control(lamp).card.type == "boolean"
    found = control(fan, minimum=0, maximum=100, unit="%", initial=20)
    assert (found.card.type, found.card.maximum, found.initial) == ("number", 100, 20)


def test_a_control_takes_one_value_and_a_fitting_initial_one():
    with pytest.raises(BadRequest, match="exactly one parameter"):
        control(lambda a, b: None, name="two")
    with pytest.raises(BadRequest, match="control 'fan': initial value: 200 is outside 0"):
        control(lambda value: None, name="fan", minimum=0, maximum=100, initial=200)


def test_an_action_is_interruptible_when_its_function_can_be():
    async def water(seconds: float):
        pass

    def beep():
        pass

    def sweep(request):
        pass

    assert action(water).card.interruptible
    assert not action(beep).card.interruptible
    assert action(sweep).card.interruptible
    assert not action(sweep, interruptible=False).card.interruptible
    assert action(water, confirm="Really?", timeout=5).card.confirm == "Really?"


def test_async_functions_and_objects_are_told_apart_from_sync_ones():
    class Later:
        async def __call__(self):
            return 1

    async def later():
        return 1

    assert is_async(later)
    assert is_async(Later())
    assert not is_async(lambda: 1)


def test_two_things_of_one_kind_and_name_are_refused():
    things = Things()
    things.add(sensor(lambda: 1, name="level"))
    things.add(control(lambda value: None, name="level"))
    with pytest.raises(BadRequest, match="two sensors called 'level'"):
        things.add(sensor(lambda: 2, name="level"))
    assert [thing.card.name for thing in things.sensors()] == ["level"]
    assert (Kind.CONTROL, "level") in things
