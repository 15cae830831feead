"""What systemd is told about an installed node, as text. Pure; ``systemd-analyze verify`` and ``security`` test it.

The node runs as its own user with as little as it needs. Root's part is two small programs without a network: one applies
an update that the node has fetched, the other one undoes an update that does not get healthy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from callboard_nodes.install.layout import INSTALLED, NODE, ROLLBACK, UPDATE, USER, Layout

__all__ = ["ENABLED", "PYTHON", "outdated", "texts"]

#: Debian's and Raspberry Pi OS's own interpreter.
PYTHON = "/usr/bin/python3"
#: The units to enable and start; the others are started by these.
ENABLED = (f"{NODE}.service", f"{UPDATE}.path", f"{ROLLBACK}.timer")

#: Devices that sensors, controls and renderers use, by their names in /proc/devices.
_DEVICES = (
    *("i2c", "spi", "gpiochip", "gpiomem", "video4linux", "media", "drm", "kfd", "nvidia", "nvidia-uvm"),
    *("nvidia-frontend", "ttyAMA", "ttyS", "ttyUSB", "ttyACM", "vchiq", "vcio"),
)
#: For every process of ours.
_LOCKED = """\
NoNewPrivileges=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
#: For root's programs: no network, and of root's powers those that installing files for others needs.
_ROOT = """\
ProtectSystem=full
ProtectHome=yes
PrivateDevices=yes
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SETUID CAP_SETGID
UMask=0022
"""


def texts(layout: Layout | None = None, *, user: str = USER, python: str = PYTHON) -> dict[str, str]:
    """Return the text of every unit by its file name.

    Args:
        layout: where the node is installed, as the units see it: under the running system's own root.
        user: as whom the node runs; a user and a group.
        python: the system's interpreter; it runs the rollback, which must not depend on an environment.
    """
    where = layout or Layout()
    return {
        f"{NODE}.service": _node(where, user),
        f"{UPDATE}.path": _path(where),
        f"{UPDATE}.service": _update(where),
        f"{ROLLBACK}.timer": _timer(),
        f"{ROLLBACK}.service": _rollback(where, python),
    }


def outdated(found: Mapping[str, str], layout: Layout | None = None) -> list[str]:
    """Return which units are missing, or are not as this version writes them; what was added in drop-ins does not count.

    Args:
        found: the text of each unit that is there, by its file name; user and interpreter are taken from it.
        layout: where the node is installed.
    """
    user = re.search(r"^User=(\S+)$", found.get(f"{NODE}.service", ""), re.MULTILINE)
    python = re.search(r"^ExecStart=(\S+) ", found.get(f"{ROLLBACK}.service", ""), re.MULTILINE)
    wanted = texts(layout, user=user[1] if user else USER, python=python[1] if python else PYTHON)
    return [name for name, text in wanted.items() if found.get(name) != text]


def _node(where: Layout, user: str) -> str:
    devices = "".join(f"DeviceAllow=char-{name} rw\n" for name in _DEVICES)
    return f"""\
[Unit]
Description=Callboard node
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=0

[Service]
User={user}
Group={user}
Environment=CALLBOARD_CONFIG={where.config} CALLBOARD_STATE={where.state} {INSTALLED}={where.root}
ExecStart={where.program} node
Restart=always
RestartSec=2
TimeoutStopSec=15
StateDirectory=callboard
StateDirectoryMode=0700
ReadWritePaths=-{where.state} -{where.join}
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
DevicePolicy=closed
{devices}\
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
UMask=0077
{_LOCKED}
[Install]
WantedBy=multi-user.target
"""


def _path(where: Layout) -> str:
    return f"""\
[Unit]
Description=Callboard: wait for what the node asks of root

[Path]
PathExists={where.request}
PathExists={where.power}

[Install]
WantedBy=multi-user.target
"""


def _update(where: Layout) -> str:
    return f"""\
[Unit]
Description=Callboard: apply an update
StartLimitIntervalSec=60
StartLimitBurst=20

[Service]
Type=oneshot
ExecStart={where.current}/bin/python -I -m callboard_nodes.update.apply --root {where.root}
TimeoutStartSec=30min
{_ROOT}\
ReadWritePaths={where.home} {where.etc} {where.state}
{_LOCKED}"""


def _timer() -> str:
    return f"""\
[Unit]
Description=Callboard: look after an update

[Timer]
OnBootSec=5s
OnUnitInactiveSec=2min
AccuracySec=1s
Unit={ROLLBACK}.service

[Install]
WantedBy=timers.target
"""


def _rollback(where: Layout, python: str) -> str:
    return f"""\
[Unit]
Description=Callboard: undo an update that does not get healthy
ConditionPathExists={where.journal}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={python} -I {where.rollback} --root {where.root}
TimeoutStartSec=infinity
{_ROOT}\
ReadWritePaths={where.home} {where.etc} {where.state}
{_LOCKED}"""
