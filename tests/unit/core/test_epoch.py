"""The epoch rises at every start, whatever became of its file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from callboard_core import epoch
from callboard_core.epoch import next_epoch


def test_it_rises_by_one_at_every_start(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "epoch"
    assert [next_epoch(file) for _ in range(3)] == [1, 2, 3]
    assert [one.name for one in file.parent.iterdir()] == ["epoch"]


@pytest.mark.parametrize("junk", [b"", b"many", b"\xff\xfe", b"-4", b"1.5", b"9" * 30, b"\0" * 100])
def test_a_file_that_makes_no_sense_is_set_aside_and_the_epoch_still_rises(
    tmp_path: Path, junk: bytes
) -> None:
    file = tmp_path / "epoch"
    file.write_bytes(junk)
    first = next_epoch(file)
    assert first > time.time() - 10
    assert next_epoch(file) == first + 1
    assert (tmp_path / "epoch.corrupt-1").read_bytes() == junk
    file.write_bytes(junk)
    next_epoch(file)
    assert (tmp_path / "epoch.corrupt-2").exists()


def test_a_full_disk_leaves_the_old_counter_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "epoch"
    next_epoch(file)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(epoch.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        next_epoch(file)
    assert file.read_text() == "1\n"
    assert [one.name for one in tmp_path.iterdir()] == ["epoch"]
