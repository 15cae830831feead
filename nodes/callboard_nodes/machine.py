"""The machine a node runs on, as its card describes it."""

from __future__ import annotations

import platform
import socket
from pathlib import Path

from callboard_core.cards import Host
from callboard_core.discovery.networks import own_networks

__all__ = ["describe"]

#: Where a Raspberry Pi says what it is, and where a PC does (sysfs: class/dmi/id).
_MODELS = ("proc/device-tree/model", "sys/class/dmi/id/product_name")


def describe(root: Path = Path("/")) -> Host:
    """Return what is known of this machine.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """
    return Host(
        hostname=socket.gethostname(),
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        model=_model(root),
        python=platform.python_version(),
        addresses=[str(network.ip) for network in own_networks() if not network.ip.is_loopback],
    )


def _model(root: Path) -> str | None:
    for name in _MODELS:
        try:
            found = (root / name).read_text("utf-8", errors="replace").strip("\0\n ")
        except OSError:
            continue
        if found:
            return found
    return None
