"""Arguments given as texts become what the schema wants, or stay texts for the check to name."""

from __future__ import annotations

from typing import Any

import pytest

from callboard_core.calls.arguments import check_arguments
from callboard_core.calls.texts import read_arguments
from callboard_core.errors import BadPayload

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "x": {"type": "number"},
        "on": {"type": "boolean"},
        "s": {"type": "string"},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "names": {"type": "array", "items": {"type": "string"}},
        "point": {"$ref": "#/$defs/Point"},
        "mode": {"enum": ["fast", 2, None]},
        "either": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        "free": {},
        "circle": {"$ref": "#/properties/circle"},
    },
    "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}}},
}


@pytest.mark.parametrize(
    ("name", "texts", "value"),
    [
        ("n", ["40"], 40),
        ("n", ["-7"], -7),
        ("x", ["2"], 2),
        ("x", ["1e3"], 1000.0),
        ("on", ["true"], True),
        ("on", ["off"], False),
        ("s", ["40"], "40"),
        ("s", ["true"], "true"),
        ("maybe", ["null"], None),
        ("maybe", ["4"], 4),
        ("sizes", ["1,2"], [1, 2]),
        ("sizes", ["[1, 2]"], [1, 2]),
        ("sizes", ["1", "2"], [1, 2]),
        ("sizes", ["1"], [1]),
        ("sizes", [""], []),
        ("names", ["1", "b"], ["1", "b"]),
        ("point", ['{"x": 2}'], {"x": 2}),
        ("mode", ["fast"], "fast"),
        ("mode", ["2"], 2),
        ("either", ["40"], 40),
        ("either", ["forty"], "forty"),
        ("free", ["[1]"], [1]),
        ("free", ["text"], "text"),
        ("unknown", ["5"], 5),
        ("circle", ["5"], 5),
    ],
)
def test_a_text_becomes_what_is_wanted(name: str, texts: list[str], value: object) -> None:
    found = read_arguments(SCHEMA, {name: texts})[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n", "2.5"),
        ("n", "much"),
        ("x", "nan"),
        ("on", "maybe"),
        ("sizes", "1,b"),
        ("point", "[]"),
        ("mode", "slow"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(name: str, text: str) -> None:
    with pytest.raises(BadPayload, match=f"^{name}") as caught:
        check_arguments(SCHEMA, read_arguments(SCHEMA, {name: [text]}))
    assert caught.value.key.split(".")[0] == name


def test_odd_schemas_leave_texts_as_they_are() -> None:
    assert read_arguments({}, {"a": ["1"]}) == {"a": 1}
    assert read_arguments({"properties": 3}, {"a": ["x"]}) == {"a": "x"}
    assert read_arguments({"properties": {"a": True}}, {"a": ["x"]}) == {"a": "x"}
    doubling = {"properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}, {"$ref": "#/properties/a"}]}}}
    assert read_arguments(doubling, {"a": ["x"]}) == {"a": "x"}
    assert read_arguments({"properties": {"a": {"anyOf": 3, "type": 4, "enum": 5}}}, {"a": ["x"]}) == {
        "a": "x"
    }
