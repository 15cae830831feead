"""callboard_nodes.values."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal, Optional

import pytest

from callboard_core.errors import BadRequest
from callboard_nodes.values import annotation_of, check_type, shape_of, to_value


class Mode(Enum):
    ECO = "eco"
    FULL = "full"


@pytest.mark.parametrize(
    ("annotation", "shape"),
    [
        (float, ("number", None)),
        (int, ("number", None)),
        (bool, ("boolean", None)),
        (str, ("text", None)),
        (Mode, ("enum", ["eco", "full"])),
        (Literal["up", "down"], ("enum", ["up", "down"])),
        (float | None, ("number", None)),
        (Optional[str], ("text", None)),  # noqa: UP045
        (Annotated[int, "what"], ("number", None)),
        (int | str, None),
        (list[int], None),
        (None, None),
    ],
)
def test_an_annotation_tells_the_type(annotation, shape):
    assert shape_of(annotation) == shape


def test_an_annotation_that_only_the_type_checker_can_resolve_says_nothing():
    def read() -> Unknown:  # noqa: F821
        return None

    assert annotation_of(read, "return") is None


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("number", 3, 3),
        ("number", Decimal("2.5"), 2.5),
        ("boolean", False, False),
        ("text", "", ""),
        ("enum", Mode.ECO, "eco"),
    ],
)
def test_a_value_of_the_declared_type_is_taken(kind, given, value):
    found = to_value(kind, given, options=["eco", "full"])
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("number", "3"),
        ("number", True),
        ("number", float("nan")),
        ("number", float("inf")),
        ("number", [1]),
        ("boolean", 1),
        ("text", 1),
        ("enum", "off"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_shows_it(kind, given):
    with pytest.raises(ValueError, match=r"expected|is not one of"):
        to_value(kind, given, options=["eco"])


def test_an_unknown_type_is_answered_with_the_known_ones():
    assert check_type("text", ("number", "text")) == "text"
    with pytest.raises(BadRequest, match="type: 'colour' is not one of number, text"):
        check_type("colour", ("number", "text"))
