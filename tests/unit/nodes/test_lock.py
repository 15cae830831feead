"""callboard_nodes.lock."""

from __future__ import annotations

import os

import pytest

from callboard_core.errors import BadRequest, Conflict
from callboard_nodes.lock import StateLock


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    folder = tmp_path / "deep" / "state"
    first = StateLock(folder, "shed")
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Conflict, match=rf"'shed' already runs on this machine \(pid {os.getpid()}"):
        StateLock(folder, "shed")
    first.release()
    StateLock(folder, "shed").release()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match="file/state of node 'shed' cannot be used"):
        StateLock(tmp_path / "file" / "state", "shed")
