"""callboard_nodes.parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date
from enum import Enum
from typing import Annotated, Literal

import jsonschema
import pytest
from pydantic import Field

from callboard_core.errors import BadPayload, BadRequest
from callboard_nodes.parameters import Parameters


class Mode(Enum):
    ECO = "eco"
    FULL = "full"


class Request:
    """Stands for the class of that name that calls are given."""


def water(
    bed: int,
    seconds: Annotated[float, Field(gt=0, le=600)] = 5.0,
    mode: Mode = Mode.ECO,
    side: Literal["left", "right"] = "left",
    note: str | None = None,
):
    return bed, seconds, mode, side, note


def test_the_schema_describes_the_parameters():
    schema = Parameters.of(water).schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["bed"]
    assert schema["properties"]["seconds"]["exclusiveMinimum"] == 0
    assert schema["properties"]["seconds"]["default"] == 5.0
    assert schema["properties"]["mode"]["default"] == "eco"
    assert schema["additionalProperties"] is False


def test_arguments_become_python_values():
    found = Parameters.of(water).check({"bed": 2, "mode": "full", "seconds": 10})
    assert water(**found) == (2, 10, Mode.FULL, "left", None)

    def harvest(on: date):
        return on

    assert Parameters.of(harvest).check({"on": "2026-11-22"}) == {"on": date(2026, 11, 22)}


@pytest.mark.parametrize(
    ("args", "key"),
    [
        ({}, "bed"),
        ({"bed": "two"}, "bed"),
        ({"bed": 2.5}, "bed"),
        ({"bed": 1, "seconds": 0}, "seconds"),
        ({"bed": 1, "mode": "off"}, "mode"),
        ({"bed": 1, "colour": "red"}, "colour"),
    ],
)
def test_a_bad_argument_is_named(args, key):
    parameters = Parameters.of(water)
    with pytest.raises(BadPayload, match=f"^{key}: ") as caught:
        parameters.check(args)
    assert caught.value.key == key
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(args, parameters.schema)


def test_the_parameter_for_the_call_is_not_an_argument():
    def by_annotation(bed: int, call: Request):
        pass

    def by_name(request, bed: int):
        pass

    assert Parameters.of(by_annotation).request == "call"
    assert Parameters.of(by_name).request == "request"
    assert list(Parameters.of(by_name).schema["properties"]) == ["bed"]


def test_no_parameters_and_untyped_ones_are_fine():
    assert Parameters.of(lambda: None).check({}) == {}
    assert Parameters.of(lambda what: None).check({"what": [1, None]}) == {"what": [1, None]}
    assert Parameters.of(lambda copy, json: None).check({"copy": 1, "json": 2}) == {"copy": 1, "json": 2}


def test_what_cannot_be_given_by_name_or_written_as_json_is_refused():
    with pytest.raises(BadRequest, match="cannot be given by name; name each argument"):
        Parameters.of(lambda *beds: None)

    def thing(what: Request):
        pass

    assert Parameters.of(thing).request == "what"

    class Odd:
        pass

    def odd(what):
        pass

    for kind in (Odd, Callable[[int], int]):
        odd.__annotations__["what"] = kind
        with pytest.raises(BadRequest, match=r"odd\(\): a parameter's type has no JSON form"):
            Parameters.of(odd)


def test_a_default_that_is_no_json_is_left_out_of_the_schema():
    def paint(colour: str = object()):
        pass

    def heat(limit: float = math.nan):
        pass

    assert "default" not in Parameters.of(paint).schema["properties"]["colour"]
    assert "default" not in Parameters.of(heat).schema["properties"]["limit"]
    assert Parameters.of(heat).check({}) == {}
