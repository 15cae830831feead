"""The format ``firstrun`` (Raspberry Pi OS Bookworm): a script that systemd runs once, before the real first boot. Pure."""

from __future__ import annotations

import shlex
import uuid

from callboard_core.boot.config import CardConfig, Wifi
from callboard_core.boot.setup import FOLDER

__all__ = ["cmdline_words", "files"]

_WORDS = (
    # Bookworm mounts the boot partition there; under /boot its initramfs would edit and start this a second time.
    "systemd.run=/boot/firmware/firstrun.sh",
    "systemd.run_success_action=reboot",
    "systemd.unit=kernel-command-line.target",
)

_HEAD = """\
#!/bin/bash
# Runs once: makes this machine's name, user and network, and has the agent installed at the next start.
set +e
boot=$(dirname "$(readlink -f "$0")")
custom() {
    [ -x /usr/lib/raspberrypi-sys-mods/imager_custom ] && /usr/lib/raspberrypi-sys-mods/imager_custom "$@"
}
"""

_TAIL = f"""
sh "$boot/{FOLDER}/setup.sh" arm
sed -i 's| systemd\\.run[^ ]*||g; s| systemd\\.unit=kernel-command-line\\.target||' "$boot/cmdline.txt"
rm -f "$boot/firstrun.sh"
exit 0
"""


def files(config: CardConfig) -> dict[str, bytes]:
    """Return the script."""
    parts = [_hostname(config), _user(config), _place(config)]
    if config.wifi is not None:
        parts.append(_wifi(config.wifi, config))
    return {"firstrun.sh": "".join([_HEAD, *parts, _TAIL]).encode()}


def cmdline_words(config: CardConfig) -> list[str]:
    """Return what the kernel's command line must say."""
    words = list(_WORDS)
    return [*words, f"cfg80211.ieee80211_regdom={config.country}"] if config.country else words


def _hostname(config: CardConfig) -> str:
    return f"""
before=$(tr -d ' \\t\\n\\r' </etc/hostname)
custom set_hostname {config.id} || echo {config.id} >/etc/hostname
sed -i "s/127\\.0\\.1\\.1.*$before/127.0.1.1\\t{config.id}/" /etc/hosts
"""


def _user(config: CardConfig) -> str:
    """The image's first user gets the name; ``!`` is a password that nothing matches."""
    name, password = shlex.quote(config.user), shlex.quote(config.password_hash or "!")
    keys = " ".join(map(shlex.quote, config.ssh_keys))
    lines = [
        "[ -x /usr/lib/userconf-pi/userconf ] && /usr/lib/userconf-pi/userconf " + f"{name} {password}",
        f"custom enable_ssh -k {keys}" if keys else "custom enable_ssh -k -d",
    ]
    if config.password_hash or not config.ssh_keys:
        lines.append("rm -f /etc/sudoers.d/010_pi-nopasswd")
    return "\n" + "\n".join(lines) + "\n"


def _place(config: CardConfig) -> str:
    lines = []
    if config.timezone:
        zone = shlex.quote(config.timezone)
        lines.append(f"custom set_timezone {zone} || ln -sf /usr/share/zoneinfo/{zone} /etc/localtime")
    if config.keyboard:
        lines.append(f"custom set_keymap {config.keyboard}")
    if config.country:
        lines.append(f"custom set_wlan_country {config.country}")
    return "\n" + "\n".join(lines) + "\n"


def _wifi(wifi: Wifi, config: CardConfig) -> str:
    """A connection of NetworkManager's. The name goes as bytes, so that none in it is taken for syntax."""
    ssid = ";".join(str(byte) for byte in wifi.ssid.encode()) + ";"
    name = uuid.uuid5(uuid.NAMESPACE_OID, config.instance)
    security = f"[wifi-security]\nkey-mgmt=wpa-psk\npsk={wifi.psk}\n" if wifi.psk else ""
    return f"""
umask 077
mkdir -p /etc/NetworkManager/system-connections
cat >/etc/NetworkManager/system-connections/callboard.nmconnection <<'END'
[connection]
id=callboard
uuid={name}
type=wifi
[wifi]
mode=infrastructure
ssid={ssid}
hidden={str(wifi.hidden).lower()}
{security}[ipv4]
method=auto
[ipv6]
method=auto
END
umask 022
command -v rfkill >/dev/null && rfkill unblock wifi
"""
