"""``callboard node --install`` and ``--uninstall`` on a whole system, in folders that only this test sees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from callboard_core.errors import BadRequest
from callboard_core.trust import JoinCode
from callboard_core.trust.signing import new_signing_key, public_key_of
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
#: What somebody does who has taken over the node's process: a release of their own, signed with a key of their own.
_ATTACK = """
import hashlib, json, pathlib
from callboard_core.trust.signing import new_signing_key, public_key_of, sign
from callboard_core.updates import Content, Manifest, Signed
key, evil = new_signing_key(), b"code of their choosing"
name, sha256 = "callboard-99.0-py3-none-any.whl", hashlib.sha256(evil).hexdigest()
manifest = Manifest(
    site="callboard", number=9, kind="release", version="99.0", created=1.0,
    files=[Content(name=name, sha256=sha256, size=len(evil))],
).model_dump_json()
signed = Signed(id="attack", manifest=manifest, signature=sign(key, manifest.encode()))
inbox = pathlib.Path("/var/lib/callboard/update")
inbox.mkdir(exist_ok=True)
(inbox / sha256).write_bytes(evil)
pins = {"key": public_key_of(key), "numbers": {}}
own = pathlib.Path("/opt/callboard/update/pins.json")
try:
    own.parent.mkdir(exist_ok=True)
    own.write_text(json.dumps(pins))
except OSError as error:
    print(error)
(inbox / "request.json").write_text(json.dumps({"signed": signed.model_dump(), **pins}))
"""
_INSTALL = """
python="$2"
attack() {
    as_node /opt/callboard/current/bin/python -I -c "$4"
    sh -c "$(sed -n 's/^ExecStart=//p' /etc/systemd/system/callboard-update.service)" 2>&1 || true
    readlink /opt/callboard/current
}
"$python" -P -m callboard_console.cli.main node --install --id greenhouse --tag heated
echo "== user"; id -un callboard
echo "== settings"; as_node cat /etc/callboard/callboard.toml
echo "== program"; as_node /opt/callboard/current/bin/callboard --version
echo "== state"; stat -c '%U %a' /var/lib/callboard
echo "== write"; as_node touch /opt/callboard/x /etc/callboard/callboard.toml /opt/callboard/a/x 2>&1 || true
echo "== units"; ls /etc/systemd/system/*.wants | grep callboard
echo "== stranger"; attack "$@"
units() {
    as_node env CALLBOARD_INSTALLED=/ CALLBOARD_CONFIG=/etc/callboard/callboard.toml CALLBOARD_NODE_BOARD=mqtt://127.0.0.1:1 \
        /opt/callboard/current/bin/callboard doctor --state /var/lib/callboard --json || true
}
echo "== units of this version"; units
sed -i /NoNewPrivileges/d /etc/systemd/system/callboard-node.service
echo "== older units"; units
# As the doctor says; what runs is what is installed again.
/opt/callboard/current/bin/callboard node --install --join "$3" >&2
echo "== units again"; units
echo "== pins"; cat /opt/callboard/update/pins.json
echo "== joined"; attack "$@"
echo "== still"; cat /opt/callboard/update/pins.json
echo "== removal"
"$python" -P -m callboard_console.cli.main node --uninstall --yes
echo "== gone"; ls -d /opt/callboard /etc/callboard /var/lib/callboard 2>&1 || true
ls /etc/systemd/system | grep callboard || true
id callboard 2>&1 || true
"""


CODE = JoinCode(
    "callboard", ("127.0.0.1:8443",), "ab" * 32, public_key_of(new_signing_key()), "cd" * 16, 4_000_000_000
)


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
    command = [
        "unshare",
        "--mount",
        "bash",
        "-c",
        _PREPARE + _INSTALL,
        "bash",
        str(folder),
        sys.executable,
        CODE.text,
    ]
    command.append(_ATTACK)
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


def test_root_trusts_no_board_until_a_join_code_says_whose_updates_it_is_to_take(told):
    assert "not done: trusting a board's updates" in told["errors"]
    assert json.loads(told["pins"]) == {"key": CODE.update_key, "numbers": {}}


@pytest.mark.parametrize(
    ("when", "says", "slot"),
    [
        ("stranger", "knows no board whose updates it could take", "a"),
        ("joined", "the signature is not the board's", "b"),
    ],
)
def test_who_takes_over_the_nodes_process_gets_no_code_run_as_root(told, when, says, slot):
    assert "Permission denied" in told[when]
    assert f"update attack failed: {says}" in told[when].replace("root of this machine ", "")
    assert told[when].splitlines()[-1] == slot
    assert told["still"] == told["pins"]


def test_the_doctor_tells_units_that_are_older_than_the_agent_and_what_it_says_mends_them(told):
    def units(when):
        return next(one for one in json.loads(told[when])["checks"] if one["what"] == "units")

    assert units("units of this version")["ok"]
    older = units("older units")
    assert not older["ok"]
    assert older["found"].startswith("callboard-node.service: not as this version writes them")
    assert "`sudo /opt/callboard/current/bin/callboard node --install`" in older["found"]
    assert units("units again")["ok"]


def test_nothing_is_left_when_it_is_removed(told):
    assert told["gone"].count("No such file or directory") == 3
    assert "no such user" in told["gone"]
    assert ".service" not in told["gone"]
