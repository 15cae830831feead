"""When the database may no longer grow."""

from __future__ import annotations

import shutil

import pytest

from callboard_broker.services.disk import is_low, minimum, room


@pytest.mark.parametrize(
    ("free", "was_low", "low"),
    [(99, False, True), (100, False, False), (110, True, True), (120, True, False)],
)
def test_a_disk_that_was_low_needs_some_more_to_be_well_again(free, was_low, low):
    assert is_low(free, 100, was_low=was_low) is low


def test_the_room_is_that_of_the_file_system(tmp_path):
    assert room(tmp_path / "board.db") > 0


def test_a_small_file_system_is_not_full_for_being_small(tmp_path):
    assert minimum(tmp_path / "board.db", 1) == 1
    assert minimum(tmp_path / "board.db", 1 << 60) == shutil.disk_usage(tmp_path).total // 10
