"""Forms from JSON Schemas."""

import pytest

from callboard_console.web.views import schema
from callboard_console.web.views.schema import Field
from callboard_core.errors import BadRequest

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
        {"properties": {"a": {"type": "object"}}},
        {"properties": {"a": True}},
        {"properties": ["a"]},
    ],
)
def test_what_a_form_cannot_express_is_written_as_json(given):
    assert schema.fields(given) is None


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
