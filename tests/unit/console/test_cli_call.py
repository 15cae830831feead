import pytest

from callboard_console.cli.call import parse_value, read_checked, split_arguments, split_target
from callboard_core.cards import ControlCard
from callboard_core.errors import BadRequest


def control(**more: object) -> ControlCard:
    return ControlCard(name="fan", epoch=1, **more)


def test_a_target_is_node_and_name():
    assert split_target("greenhouse/fan") == ("greenhouse", "fan")


@pytest.mark.parametrize(
    "target", ["greenhouse", "greenhouse/", "/fan", "green house/fan", "a/b/c", "a#/b", "+/b"]
)
def test_a_target_of_another_form_is_refused(target: str):
    with pytest.raises(BadRequest):
        split_target(target)


@pytest.mark.parametrize(
    ("card", "text", "value"),
    [
        (control(type="number"), "40", 40),
        (control(type="number"), "-4.5", -4.5),
        (control(type="number"), "1e3", 1000.0),
        (control(type="boolean"), "on", True),
        (control(type="boolean"), "OFF", False),
        (control(type="text"), "40", "40"),
        (control(type="enum", options=["low", "high"]), "low", "low"),
        (control(type="colour"), "#ff8800", "#ff8800"),
    ],
)
def test_a_value_is_read_as_the_control_takes_it(card: ControlCard, text: str, value: object):
    assert parse_value(card, text) == value
    assert type(parse_value(card, text)) is type(value)


@pytest.mark.parametrize(
    ("card", "text"),
    [
        (control(type="number", maximum=10), "11"),
        (control(type="number"), "much"),
        (control(type="boolean"), "maybe"),
        (control(type="enum", options=["low", "high"]), "middle"),
        (control(type="colour"), "red"),
    ],
)
def test_a_value_the_control_does_not_take_is_refused_with_what_it_takes(card: ControlCard, text: str):
    with pytest.raises(BadRequest, match="value"):
        parse_value(card, text)


def test_arguments_are_json_or_text():
    given = split_arguments(["a=1", "b=[1, 2]", "c=text", "d=", "e=x=y", "f=true"])
    assert read_checked({}, given) == {
        "a": 1,
        "b": [1, 2],
        "c": "text",
        "d": "",
        "e": "x=y",
        "f": True,
    }


@pytest.mark.parametrize("pair", ["a", "=1", ""])
def test_an_argument_without_key_or_value_is_refused(pair: str):
    with pytest.raises(BadRequest, match="KEY=VALUE"):
        split_arguments([pair])


def test_arguments_are_read_as_the_schema_says_and_refused_by_name():
    schema = {
        "properties": {"x": {"type": "integer"}, "name": {"type": "string"}, "sizes": {"type": "array"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    given = split_arguments(["x=2", "name=2", "sizes=1", "sizes=b"])
    assert read_checked(schema, given) == {"x": 2, "name": "2", "sizes": [1, "b"]}
    for pairs, message in (
        (["x=two"], "x: expected a whole number"),
        (["name=a"], "x: missing"),
        (["x=1", "y=1"], "y"),
    ):
        with pytest.raises(BadRequest, match=message):
            read_checked(schema, split_arguments(pairs))
