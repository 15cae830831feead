from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_broker.mqtt.reasons import ProtocolError
from callboard_broker.mqtt.wire import MAX_REMAINING, Cursor, frame, pack_text, pack_varint, read_varint


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, b"\0"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (MAX_REMAINING, b"\xff\xff\xff\x7f"),
    ],
)
def test_a_variable_length_integer_is_encoded_as_the_standard_shows(value: int, encoded: bytes) -> None:
    assert pack_varint(value) == encoded


@given(st.integers(0, MAX_REMAINING))
def test_a_variable_length_integer_comes_back(value: int) -> None:
    assert read_varint(b"x" + pack_varint(value), 1) == (value, 1 + len(pack_varint(value)))


def test_a_variable_length_integer_of_five_bytes_is_malformed() -> None:
    with pytest.raises(ProtocolError, match="four bytes"):
        read_varint(b"\x80\x80\x80\x80\x01", 0)


def test_an_unfinished_variable_length_integer_is_waited_for() -> None:
    assert read_varint(b"\x80\x80", 0) == (0, 0)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50))
def test_a_string_comes_back(value: str) -> None:
    assert Cursor(pack_text(value)).text() == value


@pytest.mark.parametrize(
    "raw", [b"\x00\x02\xff\xfe", b"\x00\x01\x00", b"\x00\x03\xed\xa0\x80", b"\x00\x05ab"]
)
def test_a_string_that_is_not_one_is_malformed(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        Cursor(raw).text()


def test_a_byte_order_mark_is_kept() -> None:
    assert Cursor(b"\x00\x03\xef\xbb\xbf").text() == "\ufeff"  # MQTT-1.5.3-3


def test_a_frame_has_its_length_in_front() -> None:
    assert frame(0x30, b"x" * 200) == b"\x30\xc8\x01" + b"x" * 200
