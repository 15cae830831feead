"""The format ``cloudinit`` (Raspberry Pi OS from Trixie, and any image with cloud-init): NoCloud's three files. Pure.

YAML is written as JSON, which it contains, so that no text in it needs YAML's own quoting.
"""

from __future__ import annotations

import json
from typing import Any

from callboard_core.boot.config import CardConfig
from callboard_core.boot.setup import FOLDER

__all__ = ["cmdline_words", "files"]

#: Where boot partitions are mounted: Raspberry Pi OS, and others.
_FIND = f"for d in /boot/firmware /boot; do if [ -f $d/{FOLDER}/setup.sh ]; then sh $d/{FOLDER}/setup.sh %s; break; fi; done"


def files(config: CardConfig) -> dict[str, bytes]:
    """Return NoCloud's files."""
    return {
        "meta-data": _yaml({"instance-id": config.instance, "local-hostname": config.id}),
        "user-data": b"#cloud-config\n" + _yaml(_user_data(config)),
        "network-config": _yaml({"network": _network(config)}),
    }


def cmdline_words(config: CardConfig) -> list[str]:
    """Return what the kernel's command line must say."""
    words = [f"ds=nocloud;i={config.instance}"]
    return [*words, f"cfg80211.ieee80211_regdom={config.country}"] if config.country else words


def _yaml(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def _user_data(config: CardConfig) -> dict[str, Any]:
    data: dict[str, Any] = {
        "hostname": config.id,
        "manage_etc_hosts": True,
        "user": _user(config),
        "ssh_pwauth": False,
        # At every boot until the agent is installed: a power cut may have ended the first try.
        "bootcmd": [["sh", "-c", _FIND % "arm"]],
        "runcmd": [
            *([["systemctl", "enable", "--now", "ssh"]] if config.ssh_keys else []),
            ["sh", "-c", _FIND % "run"],
        ],
    }
    if config.timezone:
        data["timezone"] = config.timezone
    if config.keyboard:
        data["keyboard"] = {"layout": config.keyboard}
    return data


def _user(config: CardConfig) -> dict[str, Any]:
    """The image's first user (``user``, not ``users``, keeps the groups that may use buses)."""
    user: dict[str, Any] = {"name": config.user, "lock_passwd": not config.password_hash}
    if config.ssh_keys:
        user["ssh_authorized_keys"] = list(config.ssh_keys)
    if config.password_hash:
        user["passwd"] = config.password_hash
    # Who has no password cannot be asked for it.
    user["sudo"] = None if config.password_hash or not config.ssh_keys else "ALL=(ALL) NOPASSWD:ALL"
    return user


def _network(config: CardConfig) -> dict[str, Any]:
    network: dict[str, Any] = {
        "version": 2,
        "ethernets": {"wired": {"match": {"name": "e*"}, "dhcp4": True, "optional": True}},
    }
    if config.wifi is not None:
        point: dict[str, Any] = {"password": config.wifi.psk} if config.wifi.psk else {}
        if config.wifi.hidden:
            point["hidden"] = True
        network["wifis"] = {
            "wlan0": {
                "dhcp4": True,
                "optional": True,
                "regulatory-domain": config.country,
                "access-points": {config.wifi.ssid: point},
            }
        }
    return network
