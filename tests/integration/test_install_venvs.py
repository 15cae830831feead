"""Real environments, filled offline from real wheels."""

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from callboard_core.wheels import gather
from callboard_nodes.install import venvs
from callboard_nodes.install.venvs import SlotError, current, fill, make, self_test


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    gather(folder)
    return folder


@pytest.fixture(scope="module")
def slot(packed, tmp_path_factory):
    """An environment that the module makes by itself, as on a machine where nothing is installed yet."""
    home = tmp_path_factory.mktemp("opt")
    command = [sys.executable, "-I", venvs.__file__, "--slot", home / "a", "--wheels", packed]
    env = {"PATH": os.environ["PATH"]}
    subprocess.run([*command, "--current", home / "current"], check=True, env=env, timeout=100)
    return home / "a"


def test_a_slot_is_filled_without_a_network_and_linked(slot):
    assert current(slot.parent / "current") == "a"
    done = subprocess.run(
        [slot.parent / "current" / "bin" / "callboard", "node", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "this machine" in done.stdout


def test_a_slot_tells_its_version_and_another_one_is_refused(slot):
    version = self_test(slot)
    with pytest.raises(SlotError, match=f"holds callboard {version}, not 9.9"):
        self_test(slot, version="9.9")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_slot_is_tested_as_the_user_who_will_run_it():
    with tempfile.TemporaryDirectory() as folder:  # not pytest's own, which others cannot enter
        slot = Path(folder) / "a"
        for name in ("python", "callboard"):
            (slot / "bin").mkdir(exist_ok=True, parents=True)
            (slot / "bin" / name).write_text("#!/bin/sh\nid -u\n")
            (slot / "bin" / name).chmod(0o755)
        Path(folder).chmod(0o755)
        assert self_test(slot, user="nobody") == str(pwd.getpwnam("nobody").pw_uid)


def test_a_slot_that_lacks_something_fails_its_test(slot, tmp_path, packed):
    (only,) = packed.glob("callboard-*.whl")
    make(tmp_path / "b")
    with pytest.raises(SlotError, match="No matching distribution"):
        fill(tmp_path / "b", tmp_path, [str(only)])
    with pytest.raises(SlotError, match="callboard"):
        self_test(tmp_path / "b")
