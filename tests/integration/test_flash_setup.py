"""The script that installs the agent at a first start, run for real on a layer over this machine; only the installer is made up."""

import subprocess
import zipfile

import pytest

from callboard_core.boot import CardConfig, boot_files
from support import layers
from support.root import needs_root

pytestmark = needs_root
CONFIG = CardConfig(id="greenhouse", buses=["i2c"], join="CB2-SECRET", ca="-----BEGIN CERTIFICATE-----\n")
#: An installer that notes what it is told. It makes the node's user, as the real one does.
INSTALLER = """\
import pathlib, subprocess, sys
with pathlib.Path("/told").open("a") as told:
    print(*sys.argv[1:5], "JOIN", sys.stdin.read().strip(), file=told)
subprocess.run(["useradd", "--system", "--user-group", "callboard"], check=False)
pathlib.Path("/opt/callboard").mkdir(parents=True, exist_ok=True)
"""
SCRIPT = """\
export PATH=/shims:/usr/sbin:/usr/bin:/sbin:/bin
mkdir shims
%s
chroot . sh /boot/firmware/callboard/setup.sh arm
test -L etc/systemd/system/multi-user.target.wants/callboard-setup.service
for start in $(seq 9); do
    [ -f etc/systemd/system/callboard-setup.service ] || break
    chroot . sh /boot/firmware/callboard/setup.sh run || true
done
mkdir "$1/found"
cp told etc/modules-load.d/callboard.conf etc/callboard/ca.pem "$1/found"
cp -p etc/callboard/callboard.toml "$1/found"
chroot . stat -c '%%U:%%G %%a' /etc/callboard/callboard.toml >"$1/found/owner"
ls opt/callboard >"$1/found/opt"
find etc/systemd etc/callboard -name '*callboard-setup*' -o -name join >"$1/found/left"
find var/tmp -name 'callboard-setup*' >"$1/found/rest"
echo "$start" >"$1/found/starts"
"""
#: The program of that name is killed together with the script that runs it, when it is used for the n-th time.
CUT = """\
cat >shims/{program} <<'END'
#!/bin/sh
echo >>/used-{program}
[ "$(wc -l </used-{program})" -ne {time} ] || kill -9 "$PPID" $$
exec /usr/bin/{program} "$@"
END
chmod 755 shims/{program}
"""


def prepare(folder, config):
    """Make a boot partition, with a wheel of the made-up installer."""
    for name, data in boot_files(config).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    wheels = folder / "callboard" / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "callboard-1-py3-none-any.whl", "w") as archive:
        archive.writestr("callboard_console/__init__.py", "")
        archive.writestr("callboard_console/cli/__init__.py", "")
        archive.writestr("callboard_console/cli/main.py", INSTALLER)


@pytest.fixture
def card(tmp_path):
    """A card that is prepared for its first start."""
    prepare(tmp_path / "boot", CONFIG)
    return tmp_path


def assert_installed(card):
    found = {file.name: file.read_text() for file in (card / "found").iterdir()}
    told = found["told"].splitlines()
    assert told[-1].startswith("node --install --wheels /var/tmp/callboard-setup.")
    assert told[-1].endswith("JOIN CB2-SECRET")
    assert found["owner"] == "root:callboard 640\n"
    assert 'id = "greenhouse"' in found["callboard.toml"]
    assert (found["callboard.conf"], found["ca.pem"]) == ("i2c-dev\n", CONFIG.ca)
    assert found["opt"] == "installed\n"
    assert found["left"] == ""
    assert sorted(file.name for file in (card / "boot" / "callboard").iterdir()) == [
        "ca.pem",
        "callboard.toml",
    ]
    return found


def test_the_agent_is_installed_and_what_is_secret_leaves_the_card(card):
    layers.within(card, SCRIPT % "")
    found = assert_installed(card)
    assert found["told"].count("\n") == 1
    assert found["rest"] == ""
    assert found["starts"] == "2\n"


def test_a_card_that_was_used_and_is_prepared_anew_becomes_what_is_wanted_now(card):
    anew = CONFIG.model_copy(update={"id": "cellar", "join": "CB2-OTHER", "instance": "callboard-anew"})
    prepare(card / "anew", anew)
    again = """\
cp -a "$1"/anew/. boot/firmware/
chroot . sh /boot/firmware/callboard/setup.sh run
cp told etc/callboard/callboard.toml "$1/found"
"""
    layers.within(card, SCRIPT % "" + again)
    first, second = (card / "found/told").read_text().splitlines()
    assert (first.endswith("JOIN CB2-SECRET"), second.endswith("JOIN CB2-OTHER")) == (True, True)
    assert 'id = "cellar"' in (card / "found/callboard.toml").read_text()
    assert not (card / "boot/callboard/join").exists()


@pytest.mark.parametrize(
    ("program", "time"),
    [("ln", 2), ("modprobe", 1), ("install", 1), ("mktemp", 1), ("cp", 1), ("python3", 1), ("python3", 2),
     ("chown", 1), ("sync", 1), ("head", 1), ("dd", 1), ("rm", 1), ("rm", 2), ("rm", 3), ("sync", 2)],
)  # fmt: skip
def test_a_power_cut_at_any_step_is_made_good_at_the_next_start(card, program, time):
    where = subprocess.run(["which", program], capture_output=True, text=True, check=False).stdout.strip()
    cut = CUT.replace("/usr/bin/{program}", where or "/sbin/{program}").format(program=program, time=time)
    layers.within(card, SCRIPT % cut)
    found = assert_installed(card)
    # The start after the last one finds nothing to do; the very last step is only to have the disk written.
    assert found["starts"] == ("2\n" if (program, time) == ("sync", 2) else "3\n")
