"""Forms from JSON Schemas."""

import enum
from typing import Any

import pytest
from pydantic import BaseModel

from callboard_console.web.views import schema
from callboard_console.web.views.schema import Field
from callboard_core.errors import BadRequest
from callboard_nodes.parameters import Parameters

WATER = {
    "type": "object",
    "properties": {
        "seconds": {"type": "integer", "minimum": 1, "maximum": 60, "default": 5, "description": "how long"},
        "zone": {"enum": ["north", "south"]},
        "dry_run": {"type": "boolean"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "A note"},
    },
    "required": ["seconds"],
}


def test_flat_properties_become_fields():
    found = schema.fields(WATER)
    assert found is not None
    assert [(field.name, field.title, field.shape, field.required) for field in found] == [
        ("seconds", "Seconds", "integer", True),
        ("zone", "Zone", "choice", False),
        ("dry_run", "Dry run", "boolean", False),
        ("note", "A note", "text", False),
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"type": "array"},
        {"properties": ["a"]},
    ],
)
def test_what_a_form_cannot_express_is_written_as_json(given):
    assert schema.fields(given) is None


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    x: int


def paint(
    place: Place, either: int | str, what: Any, sizes: list[int], colour: Colour | None = Colour.RED
) -> None: ...


def test_a_form_asks_for_every_parameter_by_name_whatever_its_type():
    form = schema.fields(Parameters.of(paint).schema)
    assert form is not None
    assert [(field.name, field.title, field.shape, field.written) for field in form] == [
        ("place", "Place", "free", ""),
        ("either", "Either", "free", ""),
        ("what", "What", "free", ""),
        ("sizes", "Sizes", "free", ""),
        ("colour", "Colour", "choice", "red"),
    ]
    assert form[-1].options == ("red", "blue")
    given = {"place": '{"x": 3}', "either": "many", "what": "[1]", "sizes": "1,2", "colour": "blue"}
    assert schema.collect(form, given) == {
        "place": {"x": 3},
        "either": "many",
        "what": [1],
        "sizes": [1, 2],
        "colour": "blue",
    }
    assert schema.collect(form, {**given, "either": "7"})["either"] == 7
    with pytest.raises(BadRequest, match="Place: this is needed"):
        schema.collect(form, {**given, "place": ""})


def test_a_default_that_is_no_text_is_shown_as_json():
    form = schema.fields(
        {
            "properties": {
                "a": {"type": "array", "default": [1, "é"]},
                "b": True,
                "c": {"enum": 5, "anyOf": [True]},
            }
        }
    )
    assert form is not None
    assert [(field.shape, field.written) for field in form] == [
        ("free", '[1, "é"]'),
        ("free", ""),
        ("free", ""),
    ]


def test_an_action_without_parameters_has_an_empty_form():
    assert schema.fields({"type": "object", "properties": {}}) == []


def test_optional_fields_left_empty_are_left_out():
    form = schema.fields(WATER)
    assert form is not None
    assert schema.collect(form, {"seconds": 7.0, "zone": None, "dry_run": False, "note": ""}) == {
        "seconds": 7,
        "dry_run": False,
    }


def test_a_required_field_left_empty_is_named():
    with pytest.raises(BadRequest, match="Seconds: this is needed"):
        schema.collect([Field("seconds", "Seconds", "integer", required=True)], {"seconds": None})


def test_limits_of_a_number_are_of_one_type():
    found = schema.fields(WATER)
    assert found is not None
    assert schema.limits(found[0]) == {"min_value": 1, "max_value": 60, "value": 5, "step": 1}
    assert schema.limits(Field("x", "X", "number", minimum=1))["min_value"] == 1.0


def test_arguments_are_a_json_object():
    assert schema.parse_args("  ") == {}
    assert schema.parse_args('{"value": 1}') == {"value": 1}
    with pytest.raises(BadRequest, match="not JSON"):
        schema.parse_args("{")
    with pytest.raises(BadRequest, match="JSON object"):
        schema.parse_args("[1]")
