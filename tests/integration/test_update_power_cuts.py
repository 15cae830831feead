"""The power fails before every single change of the disk: the node always boots into a version that works."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent.parent / "support" / "power_cuts.py"


MEMORY = Path("/dev/shm")


@pytest.fixture
def outcomes(tmp_path):
    """What became of an update, for a power cut at each of its steps; the last has none."""

    def of(kind):
        # Thousands of waits for the disk: in memory they take no time.
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else tmp_path) as folder:
            done = subprocess.run(
                [sys.executable, SUPPORT, folder, kind],
                capture_output=True,
                text=True,
                check=False,
                timeout=110,
            )
        assert done.returncode == 0, done.stderr[-3000:]
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(found) > 25  # so many steps, at least
        assert all(one["cut"] for one in found[:-1])
        assert not any(one["crashed"] for one in found)
        return found

    return of


def states(found):
    return {(one["state"], one["running"]) for one in found}


def test_a_good_release_is_in_force_whenever_the_power_fails(outcomes):
    found = outcomes("good")
    assert states(found) == {("healthy", "0.2.0")}
    assert all(one["history"] == ["healthy"] and one["pinned"] == {"release": 1} for one in found)


def test_a_release_that_does_not_get_well_is_undone_whenever_the_power_fails(outcomes):
    found = outcomes("sick")
    assert states(found) == {("rolled-back", "0.1.0")}
    assert all(one["history"] == ["rolled-back"] and one["pinned"] == {} for one in found)


def test_a_release_that_does_not_start_changes_nothing_whenever_the_power_fails(outcomes):
    found = outcomes("broken")
    assert states(found) == {("failed", "0.1.0")}
    assert all(one["history"] == ["failed"] for one in found)


def test_a_configuration_is_the_old_or_the_new_one_whenever_the_power_fails(outcomes):
    found = outcomes("config")
    assert states(found) == {("healthy", "0.1.0")}
    assert all(one["new_config"] for one in found)
