"""What both formats share: the folder ``callboard`` on the boot partition, whose script installs the agent. Pure.

``setup.sh arm`` has systemd run it at every start until it has succeeded; ``setup.sh run`` does it now. It may be cut at
any moment and is then done again; the last thing it does is to remove itself and what is secret.
"""

from __future__ import annotations

import tomli_w
from pydantic import JsonValue

from callboard_core.boot.config import CardConfig

__all__ = ["FOLDER", "WHEELS", "agent_settings", "files"]

FOLDER = "callboard"
#: Where the wheels lie that the agent is installed from.
WHEELS = f"{FOLDER}/wheels"
#: The installed node's file of the join code.
_JOIN = "/etc/callboard/join"

#: The network is waited for (it may not come), as the agent's own unit does so when it is started.
_UNIT = """\
[Unit]
Description=Install the Callboard agent
ConditionPathExists=$here/setup.sh
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh $here/setup.sh run
Restart=on-failure
RestartSec=30
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""

_SCRIPT = """\
#!/bin/sh
# Installs the Callboard agent from this folder. Cut at any moment, it is done again at the next start.
set -eu
here=$(dirname "$(readlink -f "$0")")
unit=/etc/systemd/system/callboard-setup.service

arm() {
    cat >"$unit.new" <<END
@UNIT@END
    mv "$unit.new" "$unit"
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -sf "$unit" /etc/systemd/system/multi-user.target.wants/callboard-setup.service
}

buses() {
    for module in @MODULES@; do
        modprobe "$module" 2>/dev/null || true
        echo "$module"
    done >/etc/modules-load.d/callboard.conf
}

configure() {
    install -d -m 755 /etc/callboard
    install -m 644 "$here/callboard.toml" /etc/callboard/callboard.toml
    [ ! -f "$here/ca.pem" ] || install -m 644 "$here/ca.pem" /etc/callboard/ca.pem
}

# The agent installs itself, run from its unpacked wheels; it makes its user, an environment and what systemd needs.
agent() {
    work=$(mktemp -d /var/tmp/callboard-setup.XXXXXX)
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/wheels"
    [ ! -d "$here/wheels" ] || cp "$here"/wheels/*.whl "$work/wheels/"
    @FETCH@
    python3 - "$work/source" "$work"/wheels/*.whl <<'END'
import sys, zipfile
for wheel in sys.argv[2:]:
    zipfile.ZipFile(wheel).extractall(sys.argv[1])
END
    set -- --install --wheels "$work/wheels"@EXTRAS@
    if [ -f "$here/join" ]; then
        PYTHONPATH=$work/source python3 -m callboard_console.cli.main node "$@" --join - <"$here/join"
    else
        PYTHONPATH=$work/source python3 -m callboard_console.cli.main node "$@"
    fi
    chown root:callboard /etc/callboard/callboard.toml
    chmod 640 /etc/callboard/callboard.toml
}

# The join code leaves the boot partition, which anybody who holds the card can read; overwritten, as FAT only forgets.
scrub() {
    if [ -f "$here/join" ]; then
        head -c "$(wc -c <"$here/join")" /dev/zero | dd of="$here/join" conv=notrunc,fsync 2>/dev/null
        rm -f "$here/join"
    fi
    rm -rf "$here/wheels"
}

run() {
    exec 9>/run/callboard-setup.lock
    flock 9
    [ -f "$here/setup.sh" ] || exit 0
    arm
    buses
    # Once for each time that the card was prepared: what has installed the node already must not do it again.
    if [ "$(cat /opt/callboard/installed 2>/dev/null)" != @INSTANCE@ ]; then
        configure
        agent
        sync
        echo @INSTANCE@ >/opt/callboard/installed
    fi
    scrub
    rm -f "$here/setup.sh" "$unit" /etc/systemd/system/multi-user.target.wants/callboard-setup.service
    sync
}

"${1:-run}"
"""

#: With the pip in the wheel that the card brought, else the system's own.
_FETCH = """\
pip=$(find "$work/wheels" -name 'pip-*.whl')
    [ -n "$pip" ] || python3 -m pip --version >/dev/null || apt-get install -y python3-pip
    PYTHONPATH=$pip python3 -m pip wheel --quiet --no-cache-dir --find-links "$work/wheels" \\
        --wheel-dir "$work/wheels" 'callboard@BRACKETS@'"""

#: The kernel's modules that give programs the buses, which config.txt only switches on.
_MODULES = {"i2c": "i2c-dev", "spi": "spidev", "1-wire": "w1-therm"}


def files(config: CardConfig) -> dict[str, bytes]:
    """Return the folder's files, without the wheels."""
    found = {"setup.sh": _script(config), "callboard.toml": tomli_w.dumps(agent_settings(config))}
    if config.join:
        found["join"] = config.join + "\n"
    if config.ca:
        found["ca.pem"] = config.ca
    return {f"{FOLDER}/{name}": text.encode() for name, text in found.items()}


def agent_settings(config: CardConfig) -> dict[str, JsonValue]:
    """Return the agent's settings: those given, and what the card's own fields say, which win."""
    given = config.settings.get("node", {})
    node: dict[str, JsonValue] = {**(given if isinstance(given, dict) else {}), "id": config.id}
    if config.label:
        node["label"] = config.label
    if config.tags:
        node["tags"] = list[JsonValue](config.tags)
    if config.join:
        node["join_file"] = _JOIN
    return {**config.settings, "site": config.site, "node": node}


def _script(config: CardConfig) -> str:
    extras = ",".join(config.extras)
    parts = {
        "@UNIT@": _UNIT,
        "@INSTANCE@": config.instance,
        "@MODULES@": " ".join(_MODULES[bus] for bus in config.buses),
        "@FETCH@": _FETCH if config.fetch else ":",
        "@BRACKETS@": f"[{extras}]" if extras else "",
        "@EXTRAS@": "".join(f" --extra {extra}" for extra in config.extras),
    }
    text = _SCRIPT
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text
