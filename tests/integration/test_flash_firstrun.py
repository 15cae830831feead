"""Bookworm's script, run for real on this system's own files, of which it sees a layer that is thrown away."""

import stat

import pytest

from callboard_core.boot import CardConfig, Wifi, boot_files
from support import layers
from support.root import needs_root

pytestmark = needs_root
KEY = "ssh-ed25519 " + "A" * 68 + " ann's desk; $(reboot)"
CONFIG = CardConfig(
    id="greenhouse",
    user="ann",
    ssh_keys=[KEY],
    wifi=Wifi.of('Ann\'s "café"; $(reboot)', "correct horse"),
    country="GB",
    timezone="Europe/London",
    keyboard="gb",
    buses=["i2c"],
    join="CB2-SECRET",
    instance="callboard-1",
)
#: The programs of Raspberry Pi OS only note what they are told.
SCRIPT = """\
mkdir -p usr/lib/raspberrypi-sys-mods usr/lib/userconf-pi etc/sudoers.d
for program in raspberrypi-sys-mods/imager_custom userconf-pi/userconf; do
    printf '#!/bin/sh\\nfor word in "$0" "$@"; do printf "%%s|" "$word"; done >>/told; echo >>/told\\n' >"usr/lib/$program"
    chmod 755 "usr/lib/$program"
done
echo raspberrypi >etc/hostname
printf '127.0.0.1 localhost\\n127.0.1.1\\traspberrypi\\n' >etc/hosts
chroot . /bin/bash /boot/firmware/firstrun.sh
mkdir "$1/found"
cp told etc/hosts etc/systemd/system/callboard-setup.service "$1/found"
cp -p etc/NetworkManager/system-connections/callboard.nmconnection "$1/found"
readlink etc/systemd/system/multi-user.target.wants/callboard-setup.service >"$1/found/link"
"""


@pytest.fixture
def found(tmp_path):
    """What the script leaves: the boot partition, and files of the system."""
    cmdline = b"console=tty1 root=PARTUUID=1-02 rootwait quiet\n"
    for name, data in boot_files(CONFIG, "firstrun", {"cmdline.txt": cmdline}).items():
        file = tmp_path / "boot" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    layers.within(tmp_path, SCRIPT)
    return tmp_path


def test_the_system_is_told_what_the_config_says(found):
    told = [line.split("|")[:-1] for line in (found / "found/told").read_text().splitlines()]
    custom = "/usr/lib/raspberrypi-sys-mods/imager_custom"
    assert told == [
        [custom, "set_hostname", "greenhouse"],
        ["/usr/lib/userconf-pi/userconf", "ann", "!"],
        [custom, "enable_ssh", "-k", KEY],
        [custom, "set_timezone", "Europe/London"],
        [custom, "set_keymap", "gb"],
        [custom, "set_wlan_country", "GB"],
    ]
    assert "127.0.1.1\tgreenhouse\n" in (found / "found/hosts").read_text()
    connection = found / "found/callboard.nmconnection"
    assert stat.S_IMODE(connection.stat().st_mode) == 0o600
    assert CONFIG.wifi.psk in connection.read_text()


def test_the_agent_is_installed_at_the_next_start_and_the_script_is_gone(found):
    assert (found / "found/link").read_text().strip() == "/etc/systemd/system/callboard-setup.service"
    assert (
        "ExecStart=/bin/sh /boot/firmware/callboard/setup.sh run"
        in (found / "found/callboard-setup.service").read_text()
    )
    assert not (found / "boot/firstrun.sh").exists()
    assert (found / "boot/callboard/join").exists()
    words = (found / "boot/cmdline.txt").read_text()
    assert words == "console=tty1 root=PARTUUID=1-02 rootwait quiet cfg80211.ieee80211_regdom=GB\n"
