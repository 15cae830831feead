"""Packages for a Pi, fetched from a real index: all that a node needs, for its processor and its Python, and nothing missing."""

import subprocess
import sys

import pytest

from callboard_nodes.flash.seed import Target
from callboard_nodes.flash.wheels import _command, bundle

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    "target", [Target("cloudinit", "aarch64", "3.13"), Target("firstrun", "aarch64", "3.11")]
)
def test_a_pi_has_all_that_it_needs(tmp_path, target):
    found = bundle(target, cache=tmp_path / "cache")
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, data in found.items():
        (folder / name).write_bytes(data)
    platform = [word for word in _command(target) if word.startswith(("--platform", "manylinux"))]
    # pip itself finds the set complete, without an index.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--find-links", str(folder)),
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", target.python, *platform),
            *("--target", str(tmp_path / "target"), "callboard"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Would install" in done.stdout
    assert sum(map(len, found.values())) < 40 * 2**20
    assert {name for name in found if "x86_64" in name} == set()
