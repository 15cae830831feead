"""``callboard node --install`` and ``--uninstall`` on a whole system, in folders that only this test sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from callboard_core.errors import BadRequest
from callboard_nodes.install.setup import interpreter
from support.root import needs_root

pytestmark = [needs_root, pytest.mark.timeout(900)]

#: Its own /etc, with the system's users, and empty places for everything else that is written.
_PREPARE = """\
set -e
cp -a /etc/. "$1/etc/"
mount --make-rprivate /
for place in etc opt var/lib; do mount --bind "$1/$place" "/$place"; done
as_node() { setpriv --reuid callboard --regid callboard --clear-groups "$@"; }
cd /
"""
_INSTALL = """
python="$2"
"$python" -P -m callboard_console.cli.main node --install --id greenhouse --tag heated
echo "== user"; id -un callboard
echo "== settings"; as_node cat /etc/callboard/callboard.toml
echo "== program"; as_node /opt/callboard/current/bin/callboard --version
echo "== state"; stat -c '%U %a' /var/lib/callboard
echo "== write"; as_node touch /opt/callboard/x /etc/callboard/callboard.toml /opt/callboard/a/x 2>&1 || true
echo "== units"; ls /etc/systemd/system/*.wants | grep callboard
echo "== removal"
"$python" -P -m callboard_console.cli.main node --uninstall --yes
echo "== gone"; ls -d /opt/callboard /etc/callboard /var/lib/callboard 2>&1 || true
ls /etc/systemd/system | grep callboard || true
id callboard 2>&1 || true
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, str]:
    """What the script said, by its parts."""
    try:
        interpreter()
    except BadRequest as error:
        pytest.skip(error.message)
    folder = tmp_path_factory.mktemp("system")
    for place in ("etc", "opt", "var/lib"):
        (folder / place).mkdir(parents=True)
    command = ["unshare", "--mount", "bash", "-c", _PREPARE + _INSTALL, "bash", str(folder), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = ("start\n" + done.stdout).split("== ")
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts} | {"errors": done.stderr}


def test_a_user_is_made_who_can_run_it_and_change_nothing_of_it(told):
    assert told["user"] == "callboard\n"
    assert told["program"].startswith("callboard ")
    assert told["state"] == "callboard 700\n"
    assert told["write"].count("Permission denied") == 3


def test_the_settings_are_those_of_the_options(told):
    assert 'id = "greenhouse"' in told["settings"]
    assert 'tags = ["heated"]' in told["settings"]


def test_the_units_are_enabled_and_it_says_what_could_not_be_started(told):
    assert told["units"].split() == [
        "callboard-node.service",
        "callboard-update.path",
        "callboard-rollback.timer",
    ]
    if not Path("/run/systemd/system").is_dir():
        assert "systemd does not run here" in told["errors"]


def test_nothing_is_left_when_it_is_removed(told):
    assert told["gone"].count("No such file or directory") == 3
    assert "no such user" in told["gone"]
    assert ".service" not in told["gone"]
