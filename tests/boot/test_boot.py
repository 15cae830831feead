"""The same card boots, emulated: it enrols, shows its sensors, survives a power cut, is updated, and rolls back what is broken.

Minutes, so not part of ``make test``; ``make test-boot`` runs it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from support import trixie
from support.image import Emulated, card, read_boot
from support.up import Up, eventually, running_board
from support.wheels import release

pytestmark = [
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not os.environ.get("CALLBOARD_BOOT"), reason="takes minutes: make test-boot"),
]
#: Where an emulated machine sees this one.
HOST = "10.0.2.2"
#: Seconds; a processor is emulated.
PATIENCE = float(os.environ.get("CALLBOARD_BOOT_SECONDS", "1800"))
NODE = "greenhouse"
ENDED = {"healthy", "rolled-back", "failed", "cancelled"}


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Up]:
    config = tmp_path / "lan.toml"
    config.write_text(
        f'[lan]\nnames = ["{HOST}"]\nbind = "127.0.0.1"\nmqtt_port = 0\nhttp_port = 0\nws_port = 0\n'
    )
    with running_board(tmp_path, "--lan", "--config", str(config), node=False) as up:
        yield up


def nodes(up: Up) -> dict[str, dict]:
    return {one["id"]: one for one in up.get("/api/v1/nodes")["items"]}


def is_ready(up: Up) -> bool:
    found = nodes(up).get(NODE)
    return found is not None and found["status"] == "ready"


def agent_version(up: Up) -> str:
    return str(up.get(f"/api/v1/nodes/{NODE}")["card"]["version"])


def epoch(up: Up) -> int:
    return int(up.get(f"/api/v1/nodes/{NODE}")["epoch"])


def said(what: str, began: float) -> None:
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


def test_a_flashed_card_boots_joins_survives_and_is_updated(board: Up, tmp_path: Path):
    made, image = card(), tmp_path / "greenhouse.img"
    wheels = trixie.wheels(tmp_path / "wheels")
    began = time.monotonic()
    options = (
        "--machine",
        "x86_64",
        "--python",
        trixie.PYTHON,
        "--wheels",
        str(wheels),
        "--timezone",
        "Europe/Berlin",
    )
    board.cli(
        "flash", str(made.image), str(image), "--id", NODE, "--label", "Greenhouse", *options, timeout=600
    )
    said("flashed", began)
    assert "ds=nocloud" in read_boot(image, "cmdline.txt")
    machine = Emulated(made, image, tmp_path)
    began = time.monotonic()
    with machine.running():
        wait(lambda: is_ready(board), machine, "it boots and joins")
        said("from power on to the board", began)
        check_sensors(board, machine)
        power_cut(board, machine)
        update(board, machine, wheels)
        roll_back(board, machine, wheels)


def wait(check, machine: Emulated, what: str) -> object:
    def alive():
        assert machine.alive, f"the machine has ended\n{machine.log()}"
        return check()

    return eventually(alive, lambda: f"{what}\n{machine.log()}", timeout=PATIENCE, every=1.0)


def check_sensors(board: Up, machine: Emulated) -> None:
    def values() -> dict[str, object]:
        return {
            row["name"]: row["value"]
            for row in board.json("ls", "all", "--node", NODE)
            if row.get("value") is not None
        }

    found = wait(lambda: known if len(known := values()) >= 3 else None, machine, "values of its sensors")
    print(f"its sensors: {found}", flush=True)


def power_cut(board: Up, machine: Emulated) -> None:
    before, began = epoch(board), time.monotonic()
    machine.cut_power()
    wait(lambda: is_ready(board) and epoch(board) > before, machine, "it is back after a power cut")
    said("after a power cut", began)


def update(board: Up, machine: Emulated, wheels: Path) -> None:
    """A new version comes over the network, signed, into the spare environment."""
    sound, began = release(wheels, "0.1.1"), time.monotonic()
    board.cli("update", NODE, "--wheels", str(sound), timeout=300)
    wait(lambda: last_update(board)["stage"] in ENDED, machine, "the update has ended")
    said("updated and found healthy", began)
    assert last_update(board)["stage"] == "healthy", last_update(board)
    wait(lambda: is_ready(board) and agent_version(board) == "0.1.1", machine, "it runs the new version")


def roll_back(board: Up, machine: Emulated, wheels: Path) -> None:
    """A version that starts and never gets to the board."""
    change = {
        "callboard_console/cli/node.py": ("    flags = {\n", "    raise SystemExit(3)\n    flags = {\n")
    }
    broken, before, began = release(wheels, "0.1.2", change), epoch(board), time.monotonic()
    board.cli("update", NODE, "--wheels", str(broken), timeout=300)
    wait(lambda: epoch(board) > before and is_ready(board), machine, "it is back")
    said("rolled back", began)
    assert agent_version(board) == "0.1.1"
    wait(lambda: last_update(board)["stage"] in ENDED, machine, "the failure is known")
    assert last_update(board)["stage"] == "rolled-back", last_update(board)


def last_update(board: Up) -> dict[str, Any]:
    return dict(board.json("update", "history", NODE)[0])


def test_the_version_under_test_is_older_than_its_updates():
    assert version("callboard") < "0.1.1"
