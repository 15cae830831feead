"""``callboard node --install`` on a bare Debian that its own systemd has booted: from the join code to nothing being left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import booted, trixie
from support.apart import ask, network_of_two, node, remote_board
from support.booted import Booted
from support.netns import Lan
from support.root import needs_root
from support.up import Up, eventually
from support.wheels import release

pytestmark = [needs_root, pytest.mark.timeout(1800)]

NODE = "greenhouse"
#: As the documentation has it; from wheels, for there is no network but the board's.
PIPX = """\
python3 -m venv /srv/tools
/srv/tools/bin/pip install --quiet --no-index --find-links /srv/wheels pipx
/srv/tools/bin/pipx install --quiet --python /usr/bin/python3 --pip-args '--no-index --find-links /srv/wheels' \
    $(echo /srv/wheels/callboard-*.whl)
"""
CALLBOARD = "/root/.local/bin/callboard"
LONG = 300.0
ENDED = {"healthy", "rolled-back", "failed", "cancelled"}


@pytest.fixture(scope="module")
def network() -> Iterator[Lan]:
    with network_of_two() as made:
        yield made


@pytest.fixture(scope="module")
def board(network: Lan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with remote_board(network, tmp_path_factory.mktemp("board")) as up:
        yield up


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trixie.wheels(tmp_path_factory.mktemp("packages") / "wheels", *trixie.TOOLS)


@pytest.fixture(scope="module")
def machine(network: Lan, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    booted.check_here()
    folder = tmp_path_factory.mktemp("pi")
    root = trixie.unpack(trixie.system(), folder / "root")
    shutil.copytree(wheels, root / "srv/wheels")
    with Booted(root, network.namespace("pi"), folder / "run").running() as made:
        made.run(PIPX)
        yield made
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def installed(board: Up, machine: Booted) -> Booted:
    """The machine, on which a node has joined the board."""
    code = board.json("join")["code"]
    said = machine.run(f"{CALLBOARD} node --install --id {NODE} --join {code}")
    assert "callboard-node runs" in said
    wait_ready(board, machine, 0)
    return machine


def wait_ready(board: Up, machine: Booted, before: int) -> int:
    """Wait until the node is on the board in a life after that one; returns which."""

    def life() -> int:
        found = node(board, NODE)
        epoch = int(found.get("epoch") or 0)
        return epoch if found.get("status") == "ready" and epoch > before else 0

    return int(eventually(life, lambda: f"{NODE} is on the board\n{machine.log()}", LONG))


def state_of(machine: Booted, *units: str) -> list[str]:
    return machine.run(f"systemctl is-active {' '.join(units)} || true").split()


def journal(machine: Booted) -> dict[str, Any]:
    """How far root is with an update."""
    file = machine.root / "opt/callboard/update/journal.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def last_update(board: Up) -> dict[str, Any]:
    return dict(board.json("update", "history", NODE)[0])


def test_what_is_installed_joins_and_runs_as_its_own_user(board: Up, installed: Booted):
    assert (
        state_of(installed, "callboard-node.service", "callboard-update.path", "callboard-rollback.timer")
        == ["active"] * 3
    )
    assert (
        installed.run("ps -o user= -p $(systemctl show --property=MainPID --value callboard-node)")
        == "callboard\n"
    )
    # The code is worthless now, and nowhere on the machine.
    assert (
        not (installed.root / "etc/callboard/join").exists()
        or not (installed.root / "etc/callboard/join").read_text()
    )
    pins = json.loads((installed.root / "opt/callboard/update/pins.json").read_text())
    assert pins["key"] == ask(board, "GET", "/api/v1/trust")["update_key"]


def test_it_is_there_again_after_a_reboot_and_after_a_power_cut(board: Up, installed: Booted):
    life = int(node(board, NODE)["epoch"])
    installed.run("systemctl --no-block reboot")
    assert installed.ended() == "reboot"
    installed.boot()
    life = wait_ready(board, installed, life)
    installed.cut_power()
    installed.boot()
    wait_ready(board, installed, life)


def test_an_update_is_applied_by_root_in_spite_of_a_power_cut_and_a_broken_one_undone(
    board: Up, installed: Booted, wheels: Path
):
    board.cli("update", NODE, "--wheels", str(release(wheels, "0.1.1")), timeout=LONG)
    eventually(
        lambda: journal(installed).get("state") == "copied", lambda: f"root is at it\n{installed.log()}", LONG
    )
    installed.cut_power()
    installed.boot()
    eventually(lambda: last_update(board)["stage"] in ENDED, lambda: f"it has ended\n{installed.log()}", LONG)
    assert (last_update(board)["stage"], last_update(board)["running"]) == ("healthy", "0.1.1")
    broken = release(
        wheels,
        "0.1.2",
        {"callboard_console/cli/node.py": ("    flags = {\n", "    raise SystemExit(3)\n    flags = {\n")},
    )
    done = board.cli(
        "update", NODE, "--wheels", str(broken), "--within", "5", "--watch", timeout=LONG, check=False
    )
    assert done.returncode == 1
    assert "not well within 5 s" in done.stderr
    assert (last_update(board)["stage"], last_update(board)["running"]) == ("rolled-back", "0.1.1")


def test_an_operator_reads_its_log_has_it_diagnosed_and_restarts_it(board: Up, installed: Booted):
    assert f"node {NODE} is on the board" in board.cli("logs", NODE).stdout
    done = board.cli("diagnose", NODE, "--json", check=False)
    wrong = [one for one in json.loads(done.stdout)["checks"] if not one["ok"]]
    assert (done.returncode, wrong) == (0, [])
    life = int(node(board, NODE)["epoch"])
    board.cli("call", f"{NODE}/restart", "--yes")
    wait_ready(board, installed, life)


def test_an_operator_reboots_and_shuts_down_only_where_the_machine_allows_it(board: Up, installed: Booted):
    life = int(node(board, NODE)["epoch"])
    done = board.cli("call", f"{NODE}/reboot", "--yes", check=False)
    assert (done.returncode, "reboot" in done.stderr) == (1, True)
    allow = r"sed -i '/^\[node\]/a allow = [\"reboot\", \"shutdown\"]' /etc/callboard/callboard.toml"
    installed.run(f"{allow}; systemctl restart callboard-node")
    life = wait_ready(board, installed, life)
    board.cli("call", f"{NODE}/reboot", "--yes")
    assert installed.ended() == "reboot"
    installed.boot()
    wait_ready(board, installed, life)
    board.cli("call", f"{NODE}/shutdown", "--yes")
    assert installed.ended() == "shutdown"
    installed.boot()


def test_nothing_of_it_is_left_when_it_is_removed(installed: Booted):
    installed.run(f"{CALLBOARD} node --uninstall --yes")
    check_gone(installed)
    installed.cut_power()
    installed.boot()
    check_gone(installed)


def check_gone(machine: Booted) -> None:
    assert machine.run("systemctl list-units --all --no-legend 'callboard*'") == ""
    assert machine.run("systemctl list-unit-files --no-legend 'callboard*' || true") == ""
    assert machine.run("id callboard 2>&1 || true").endswith("no such user\n")
    assert machine.run("getent group callboard || true") == ""
    # What systemd made for a service that a power cut ended, it removes at the next boot of the kernel.
    others = " ".join(f"-not -path '{path}'" for path in ("/root/*", "/srv/*", "/var/tmp/systemd-private-*"))
    assert machine.run(f"find / -xdev -iname '*callboard*' {others}") == ""
