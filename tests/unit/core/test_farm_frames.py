"""Frame ranges are read as people mean them, and written so that they can be read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_core.errors import BadRequest
from callboard_core.farm.frames import HIGHEST, LIMIT, LOWEST, chunks, format_frames, parse_frames

numbers = st.integers(LOWEST, HIGHEST)
frames = st.sets(st.integers(-50, 200) | numbers, min_size=1, max_size=80)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", (7,)),
        ("1-4", (1, 2, 3, 4)),
        ("3,5-7", (3, 5, 6, 7)),
        ("1-10x3", (1, 4, 7, 10)),
        ("1-9x3", (1, 4, 7)),
        (" 5 , 1 - 3 ", (1, 2, 3, 5)),
        ("5,1-3,2-6", (1, 2, 3, 4, 5, 6)),
        ("-3--1", (-3, -2, -1)),
        ("-1-1", (-1, 0, 1)),
        ("0", (0,)),
        ("4-4", (4,)),
    ],
)
def test_ranges_are_read(text, expected):
    assert parse_frames(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected frames like"),
        ("1,,3", "expected frames like"),
        ("one", "'one' is no range"),
        ("1-", "'1-' is no range"),
        ("1..5", "'1..5' is no range"),
        ("1.5", "'1.5' is no range"),
        ("٣", "is no range"),
        ("9-3", "runs backwards; write 3-9"),
        ("1-9x0", "step of 0"),
        ("1x2", "no last frame"),
        ("1-2000000", "is outside"),
        ("-1048574-0,1-1048574", "more than 1,000,000"),
        ("9" * 400, "…"),
    ],
)
def test_what_is_no_range_is_told(text, says):
    with pytest.raises(BadRequest, match="frames: ") as caught:
        parse_frames(text)
    assert says in caught.value.message
    assert len(caught.value.message) < 200


def test_as_many_frames_as_allowed_are_read():
    assert len(parse_frames(f"1-{LIMIT}")) == LIMIT


@given(frames)
def test_what_is_written_is_read_back(given_frames):
    text = format_frames(given_frames)
    assert parse_frames(text) == tuple(sorted(given_frames))


@pytest.mark.parametrize(
    ("given_frames", "text"),
    [
        ((), ""),
        ((5,), "5"),
        ((1, 2), "1-2"),
        ((1, 3), "1,3"),
        ((1, 3, 5), "1-5x2"),
        ((1, 2, 3, 5, 10, 15, 20), "1-3,5-20x5"),
        (range(240, 0, -1), "1-240"),
        ((-3, -2, -1), "-3--1"),
    ],
)
def test_frames_are_written_short(given_frames, text):
    assert format_frames(given_frames) == text


@given(first=numbers, length=st.integers(0, 100), step=st.integers(1, 9))
def test_a_range_holds_both_ends_when_the_step_meets_the_last(first, length, step):
    last = first + length * step
    if last <= HIGHEST:
        found = parse_frames(f"{first}-{last}x{step}")
        assert (found[0], found[-1], len(found)) == (first, last, length + 1)


@given(frames, st.integers(1, 100))
def test_chunks_hold_every_frame_once_and_none_is_empty_or_too_large(given_frames, size):
    ordered = sorted(given_frames)
    made = chunks(ordered, size)
    assert [frame for chunk in made for frame in chunk] == ordered
    assert all(len(chunk) == size for chunk in made[:-1])
    assert 1 <= len(made[-1]) <= size


def test_no_frames_make_no_chunks():
    assert chunks([], 5) == []


def test_a_chunk_holds_a_frame_at_least():
    with pytest.raises(BadRequest, match="use 1 or more"):
        chunks([1], 0)
