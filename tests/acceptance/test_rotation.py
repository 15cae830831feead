"""The board's authority is replaced while one node works and another one is switched off; neither is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.lanboard import LanBoard, lan_board
from support.up import CALLBOARD, eventually

pytestmark = pytest.mark.timeout(300)

#: Seconds for what takes a few on an idle machine.
PATIENCE = 90.0


class Node:
    """A real ``callboard node`` with a state of its own."""

    def __init__(self, board: LanBoard, folder: Path, name: str) -> None:
        self.board, self.name, self.state = board, name, folder / name
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> Node:
        command = [*CALLBOARD, "node", "--state", str(self.state), "--id", self.name, *flags]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.board.up.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        eventually(
            lambda: self.status() == "ready", lambda: f"{self.name}:\n{self.log.read_text()}", PATIENCE
        )
        return self

    def status(self) -> str | None:
        return self.board.up.nodes().get(self.name)

    def authority(self) -> str:
        """The first authority that it trusts."""
        return (self.state / "nodes" / self.name / "enrolment" / "ca.pem").read_text()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


def late(board: LanBoard) -> list[str]:
    found = board.up.json("trust", "show")["not_renewed"]
    assert isinstance(found, list)
    return found


def waits_for(board: LanBoard, names: list[str]) -> Callable[[], bool]:
    return lambda: late(board) == names


def test_nodes_that_work_and_nodes_that_are_off_live_through_a_rotation(tmp_path: Path) -> None:
    with lan_board(tmp_path) as board:
        works, is_off = (Node(board, tmp_path, name) for name in ("works", "off"))
        try:
            for node in (works, is_off):
                node.start("--join", board.code().text)
            is_off.stop()
            old = works.authority()
            board.up.cli("trust", "rotate", "--yes")
            eventually(waits_for(board, ["off"]), works.log.read_text, PATIENCE)
            assert works.status() == "ready"
            is_off.start()
            eventually(waits_for(board, []), is_off.log.read_text, PATIENCE)
            board.up.cli("trust", "rotate", "--finish", "--yes")
            eventually(lambda: old not in works.authority(), works.log.read_text, PATIENCE)
            for node in (works, is_off):
                node.stop()
                node.start()
        finally:
            for node in (works, is_off):
                node.stop()
