"""Logs by frame."""

from __future__ import annotations

from callboard_core.farm.logs import heading, of_frame

LOG = ["reading the file", heading(3), "three", heading(-4), "four", heading(3), "three again", "the end"]


def test_of_a_log_a_frame_has_the_start_and_its_own_parts():
    assert list(of_frame(LOG, 3)) == [
        "reading the file",
        heading(3),
        "three",
        heading(3),
        "three again",
        "the end",
    ]
    assert list(of_frame(LOG, -4)) == ["reading the file", heading(-4), "four"]


def test_a_frame_that_was_not_begun_has_the_start_only():
    assert list(of_frame(LOG, 5)) == ["reading the file"]


def test_what_only_looks_like_a_heading_is_none():
    assert list(of_frame([heading(1), "a", f"see {heading(2)}", "--- frame two ---"], 1))[1:] == [
        "a",
        f"see {heading(2)}",
        "--- frame two ---",
    ]
