"""A card's boot files on a real Debian: real cloud-init installs the agent offline, which joins a board over TLS.

No kernel is booted: cloud-init and the agent run in namespaces of their own. ``make test-boot`` boots it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from callboard_core.boot import psk
from support import trixie
from support.apart import ask, network_of_two, node, remote_board
from support.image import BLANK, SOURCE
from support.netns import Lan
from support.root import needs_root
from support.up import Up, eventually

pytestmark = [needs_root, pytest.mark.timeout(1800)]

STAGES = "cloud-init init --local && cloud-init init && cloud-init modules --mode=config && cloud-init modules --mode=final"
KEY = "ssh-ed25519 " + "A" * 68 + " ann@desk"
#: What a machine without Wi-Fi takes without harm.
SSID, PASSPHRASE = "Ann's 'café'", "correct horse"
NETWORK = "cloud-init schema --schema-type network-config --config-file /boot/firmware/network-config; netplan get wifis.wlan0"
#: How the documentation has a machine installed without a card; here from wheels, for there is no network.
UV = """\
python3 -m venv /srv/tools
/srv/tools/bin/pip install --quiet --no-index --find-links /srv/wheels uv
uv tool install --python /usr/bin/python3 --no-index --find-links /srv/wheels $(echo /srv/wheels/callboard-*.whl)
"""
INSTALL = """\
$(command -v callboard) node --install --id greenhouse
systemd-analyze verify /etc/systemd/system/callboard-*
setpriv --reuid callboard --regid callboard --init-groups /opt/callboard/current/bin/callboard --version
"""
MOUNTS = """\
mount -t proc proc "$0/proc"
mount -t tmpfs run "$0/run"
mount -t tmpfs tmp "$0/tmp"
mount --rbind /dev "$0/dev"
mount -t sysfs -o ro sys "$0/sys"
exec chroot "$0" /bin/sh -c "$1"
"""


@dataclass
class Machine:
    """A root file system and a place in a network."""

    root: Path
    namespace: str

    def command(self, script: str) -> list[str]:
        """What runs a script there, with nothing of this machine but the kernel; all of it ends with the command."""
        apart = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
        return [
            "ip",
            "netns",
            "exec",
            self.namespace,
            *apart,
            "/bin/sh",
            "-ec",
            MOUNTS,
            str(self.root),
            script,
        ]

    def run(self, script: str, timeout: float = 1500) -> str:
        done = subprocess.run(
            self.command(script),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment(),
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{self.log()}"
        return done.stdout

    def log(self) -> str:
        log = self.root / "var/log/cloud-init-output.log"
        return log.read_text(errors="replace")[-6000:] if log.exists() else ""

    @contextmanager
    def service(self, name: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run a unit as systemd would: with its user, its environment and its program."""
        unit = read_unit(self.root / "etc/systemd/system" / f"{name}.service")
        variables = shlex.join(["env", *shlex.split(unit["Environment"])])
        user = f"setpriv --reuid {unit['User']} --regid {unit['Group']} --init-groups --no-new-privs"
        script = f"hostname -F /etc/hostname; cd /; exec {user} {variables} {unit['ExecStart']}"
        with log.open("ab") as into:
            process = subprocess.Popen(
                self.command(script), stdout=into, stderr=into, stdin=subprocess.DEVNULL, env=environment()
            )
        try:
            yield process
        finally:
            # The first process of its namespace: all others go with it. (Who changes his user loses the tie to his parent.)
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            process.wait(20)


def environment() -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_OFFLINE": "1"}


def read_unit(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in file.read_text().splitlines() if "=" in line)
    return {key: value for key, _, value in pairs}


@pytest.fixture
def network() -> Iterator[Lan]:
    with network_of_two() as made:
        yield made


@pytest.fixture
def board(network: Lan, tmp_path: Path) -> Iterator[Up]:
    with remote_board(network, tmp_path) as up:
        yield up


@pytest.fixture
def machine(network: Lan, tmp_path: Path) -> Iterator[Machine]:
    root = trixie.unpack(trixie.system(), tmp_path / "pi")
    (root / "etc/cloud/cloud.cfg.d/99_card.cfg").write_text(SOURCE)
    yield Machine(root, network.namespace("pi"))
    shutil.rmtree(root)


def status(up: Up) -> str | None:
    """How the board says the node is."""
    return node(up, "greenhouse").get("status")


def flash(board: Up, folder: Path, wheels: Path) -> None:
    """Make a node's boot partition of one as it is when it comes; the join code is made by the board."""
    folder.mkdir(parents=True)
    for name, text in BLANK.items():
        (folder / name).write_text(text)
    system = ("--machine", "x86_64", "--python", trixie.PYTHON, "--wheels", str(wheels))
    wanted = ("--id", "greenhouse", "--label", "Greenhouse", "--tag", "garden", "--timezone", "Europe/Berlin")
    secret = wheels.with_name("wifi")
    secret.write_text(PASSPHRASE + "\n")
    wifi = ("--wifi", SSID, "--wifi-password-file", str(secret), "--country", "DE")
    board.cli("flash", str(folder), *wanted, *wifi, "--user", "ann", "--ssh-key", KEY, *system, timeout=300)
    assert (folder / "callboard/join").read_text().startswith("CB2-")


def test_a_card_makes_a_debian_a_node_that_joins_over_tls_and_shows_its_sensors(
    board: Up, machine: Machine, tmp_path: Path
):
    flash(board, machine.root / "boot/firmware", trixie.wheels(tmp_path / "wheels"))
    began = time.monotonic()
    machine.run(STAGES)
    print(f"cloud-init took {time.monotonic() - began:.1f} s")
    network = machine.run(NETWORK)
    assert "Valid schema" in network
    assert psk(SSID, PASSPHRASE) in network
    check_installed(machine, ask(board, "GET", "/api/v1/trust")["update_key"])
    log = tmp_path / "agent.log"
    with machine.service("callboard-node", log):
        began = time.monotonic()
        eventually(
            lambda: status(board) == "ready",
            lambda: f"the node\n{log.read_text()}",
            timeout=300,
        )
        print(f"on the board after {time.monotonic() - began:.1f} s")
        check_node(board)
    state = machine.root / "var/lib/callboard/nodes/greenhouse/enrolment"
    assert (state / "node.key").stat().st_mode & 0o777 == 0o600
    assert (
        not (machine.root / "etc/callboard/join").exists()
        or not (machine.root / "etc/callboard/join").read_text()
    )
    # Without its code, and after a restart, it is a node all the same.
    eventually(lambda: status(board) == "lost", "its connection has ended", timeout=240)
    with machine.service("callboard-node", log):
        eventually(
            lambda: status(board) == "ready",
            lambda: f"again\n{log.read_text()}",
            timeout=300,
        )


def check_installed(machine: Machine, update_key: str) -> None:
    root = machine.root
    assert (root / "etc/hostname").read_text().strip() == "greenhouse"
    assert str((root / "etc/localtime").readlink()).endswith("Europe/Berlin")
    assert (root / "home/ann/.ssh/authorized_keys").read_text().strip() == KEY
    assert re.search(r"^ann:!", (root / "etc/shadow").read_text(), re.MULTILINE), "nobody knows a password"
    status = json.loads((root / "var/lib/cloud/data/result.json").read_text())["v1"]
    assert status["errors"] == [], machine.log()
    assert "NoCloud" in status["datasource"]
    assert str((root / "opt/callboard/current").readlink()) in {"a", "b"}
    assert (root / "etc/systemd/system/multi-user.target.wants/callboard-node.service").is_symlink()
    # Root knows whose updates to take from the card, before the node has said a word.
    trusted = json.loads((root / "opt/callboard/update/pins.json").read_text())
    assert trusted == {"key": update_key, "numbers": {}}
    # What is secret has left the partition that anybody can read who holds the card.
    left = {path.name for path in (root / "boot/firmware/callboard").iterdir()}
    assert not {"join", "wheels", "setup.sh"} & left


def check_node(board: Up) -> None:
    def sensors() -> list[dict]:
        return list(ask(board, "GET", "/api/v1/values?node=greenhouse&kind=sensor")["items"])

    rows = eventually(
        lambda: found if len(found := sensors()) >= 3 else None, "real values of its sensors", timeout=240
    )
    values = {row["name"]: row["v"] for row in rows}
    assert any(isinstance(value, int | float) and value > 0 for value in values.values()), values
    assert status(board) == "ready"
    enrolled = ask(board, "GET", "/api/v1/enrolments")["items"]
    assert [one["state"] for one in enrolled if one["id"] == "greenhouse"] == ["accepted"], enrolled


def test_a_bare_debian_gets_the_service_from_uv_and_loses_it_again(machine: Machine, tmp_path: Path):
    shutil.copytree(trixie.wheels(tmp_path / "wheels", *trixie.TOOLS), machine.root / "srv/wheels")
    begin = "set -e; export HOME=/root PATH=/root/.local/bin:/srv/tools/bin:$PATH\n"
    said = machine.run(begin + UV + INSTALL)
    assert f"callboard {version('callboard')}\n" in said
    assert (machine.root / "etc/systemd/system/multi-user.target.wants/callboard-node.service").is_symlink()
    assert 'id = "greenhouse"' in (machine.root / "etc/callboard/callboard.toml").read_text()
    machine.run(begin + "callboard node --uninstall --yes")
    left = (
        "opt/callboard",
        "etc/callboard",
        "var/lib/callboard",
        "etc/systemd/system/callboard-node.service",
    )
    assert not [path for path in left if (machine.root / path).exists()]
    assert "callboard" not in (machine.root / "etc/passwd").read_text()
