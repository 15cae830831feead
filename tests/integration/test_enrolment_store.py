"""What a node keeps of its enrolment, when the power goes at the worst moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from callboard_core.errors import Failed
from callboard_nodes.enrolment import Applicant, Joining, Store, read_invitation, scrub
from support import killed_store
from support.standin import StandIn


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "pi")
    with StandIn().serving() as board:
        Joining(board.code(), Applicant("pi"), store).run()
        Joining(board.code(), Applicant("pi"), Store(tmp_path / "other")).run()
    return store


def test_a_node_that_is_killed_at_any_step_of_a_change_has_an_enrolment_that_works(store, tmp_path):
    done = subprocess.run(
        [sys.executable, killed_store.__file__, str(store.state), str(tmp_path / "other")],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *kills, (end, last) = [line.split("\t") for line in done.stdout.splitlines()]
    assert (end, last) == ("done", "new")
    states = [state for _, state in kills]
    assert states == sorted(states, reverse=True), "first the old one, then the new one"
    assert set(states) == {"old", "new"}
    assert len(kills) > 10
    assert len(list(store.state.glob("enrolment-*"))) <= 2, "what was left behind is cleared away"


def test_there_is_none_before_the_first(tmp_path):
    assert Store(tmp_path / "nobody").read() is None


@pytest.mark.parametrize("missing", ["node.key", "enrolment.json", "ca.pem"])
def test_a_damaged_one_is_told_with_the_remedy(store, missing):
    (store.path / missing).unlink()
    with pytest.raises(Failed, match=f"{missing} is missing; remove .* and join the board again"):
        store.read()


def test_nonsense_in_it_is_told(store):
    (store.path / "enrolment.json").write_text("{}")
    with pytest.raises(Failed, match="site: "):
        store.read()


def test_one_that_was_copied_without_links_can_be_changed(store):
    found = store.read()
    folder = store.path.resolve()
    store.path.unlink()
    shutil.copytree(folder, store.path)
    assert store.read().password == found.password
    store.write(found)
    assert store.path.is_symlink()
    assert store.read().key == found.key


def test_who_is_reading_while_it_is_changed_finds_a_whole_one(store):
    found = store.read()
    store.write(found)
    assert found.folder.exists(), "what was in force before stays until the next change"
    store.write(found)
    assert not found.folder.exists()


def test_a_used_code_is_overwritten_before_it_is_removed(tmp_path):
    file = tmp_path / "join"
    file.write_text("CB2-SECRET\n")
    with file.open("rb") as before:
        scrub(file)
        assert before.read().strip(b"\0") == b""
    assert not file.exists()
    scrub(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_used_code_that_may_not_be_removed_is_emptied(tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "join"
    file.write_text("CB2-SECRET\n")
    folder.chmod(0o500)
    try:
        scrub(file)
        assert file.read_bytes() == b""
        assert read_invitation(file) is None
    finally:
        folder.chmod(0o700)


def test_an_empty_file_or_none_is_no_invitation(tmp_path):
    assert read_invitation(tmp_path / "none") is None
    Path(tmp_path / "empty").write_bytes(b"\0\0\n")
    assert read_invitation(tmp_path / "empty") is None
