"""Arguments are judged as a full JSON Schema validator judges them, and the wrong one is named."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from callboard_core.calls.arguments import check_arguments
from callboard_core.errors import BadPayload
from callboard_nodes.parameters import Parameters


class Point(BaseModel):
    x: float
    y: float = 0.0


def crowd(
    count: int,
    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    name: Annotated[str, Field(min_length=1, max_length=5, pattern="^[a-z]+$")] = "abc",
    mode: Literal["fast", "slow"] = "fast",
    flag: bool = False,
    points: list[Point] | None = None,
    pair: tuple[int, str] = (1, "a"),
    table: dict[str, list[int]] | None = None,
    anything: Any = None,
) -> None:
    """Takes a bit of everything."""


SCHEMA = Parameters.of(crowd).schema


@pytest.mark.parametrize(
    ("args", "key"),
    [
        ({}, "count"),
        ({"count": "1"}, "count"),
        ({"count": True}, "count"),
        ({"count": 1.5}, "count"),
        ({"count": 1, "ratio": 1}, "ratio"),
        ({"count": 1, "ratio": -0.1}, "ratio"),
        ({"count": 1, "ratio": float("nan")}, "ratio"),
        ({"count": 1, "name": ""}, "name"),
        ({"count": 1, "name": "toolong"}, "name"),
        ({"count": 1, "name": "A"}, "name"),
        ({"count": 1, "mode": "medium"}, "mode"),
        ({"count": 1, "flag": 1}, "flag"),
        ({"count": 1, "points": [{"x": 1}, {"y": 1}]}, "points.1.x"),
        ({"count": 1, "points": [{"x": "a"}]}, "points.0.x"),
        ({"count": 1, "pair": [1]}, "pair"),
        ({"count": 1, "pair": [1, 2]}, "pair.1"),
        ({"count": 1, "table": {"a": [1, "b"]}}, "table.a.1"),
        ({"count": 1, "unknown": 1}, "unknown"),
    ],
)
def test_the_wrong_argument_is_named(args: dict, key: str):
    with pytest.raises(BadPayload) as caught:
        check_arguments(SCHEMA, args)
    assert caught.value.key == key
    assert caught.value.message.startswith(f"{key}: ")


def test_good_arguments_pass():
    check_arguments(SCHEMA, {"count": 3})
    check_arguments(
        SCHEMA,
        {"count": 3.0, "points": [{"x": 1}], "pair": [2, "b"], "table": {}, "anything": [None, {"a": 1}]},
    )
    check_arguments({}, {"whatever": 1})


def test_bytes_and_arrays_are_left_to_the_worker():
    check_arguments({"properties": {"image": {"type": "string"}}}, {"image": b"\x00"})


def test_a_schema_that_contains_itself_is_followed():
    tree = {
        "$defs": {
            "n": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}
        }
    }
    schema = {**tree, "properties": {"root": {"$ref": "#/$defs/n"}}}
    check_arguments(schema, {"root": {"kids": [{"kids": []}]}})
    with pytest.raises(BadPayload, match=r"root\.kids\.0\.kids"):
        check_arguments(schema, {"root": {"kids": [{"kids": 1}]}})


def test_a_schema_without_end_is_left_to_the_worker():
    check_arguments({"$ref": "#"}, {"x": 1})


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.sampled_from(["", "a", "fast", "Zz", "toolong"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "a"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "other"]), values, max_size=4))
def test_the_verdict_is_that_of_a_full_validator(args: dict):
    valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(args)
    try:
        check_arguments(SCHEMA, args)
    except BadPayload:
        assert not valid
    else:
        assert valid
