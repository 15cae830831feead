"""Applies updates under a root folder while the power fails at every step; run as a program: ``power_cuts.py FOLDER KIND``.

Every change of the disk is a step. A child process for each of them ends as by a power cut just before it (``os._exit``); then
the machine boots until nothing is under way any more, and what it says is printed, one JSON object for each step.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from callboard_core.trust.signing import new_signing_key, public_key_of, sign
from callboard_core.updates import Content, Manifest, Signed
from callboard_nodes.install.layout import Layout
from callboard_nodes.install.venvs import SlotError
from callboard_nodes.update import rollback
from callboard_nodes.update.apply import Applying, Request
from callboard_nodes.update.rollback import ENDS, Book, look_after

KEY = new_signing_key()
CUT = 9
OLD_CONFIG, NEW_CONFIG = "site = 'callboard'\n", "site = 'callboard'\n\n[node]\nlabel = 'new'\n"
#: What is changed on the disk.
_CHANGES = ("fsync", "replace", "unlink", "symlink", "mkdir", "rmdir")


class Power:
    """Fails before the ``at``-th change of the disk; 0 for never."""

    def __init__(self, at: int) -> None:
        self.at, self.done = at, 0

    def watch(self) -> None:
        for name in _CHANGES:
            setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, change: Any) -> Any:
        def counted(*arguments: Any, **settings: Any) -> Any:
            self.done += 1
            if self.done == self.at:
                os._exit(CUT)
            return change(*arguments, **settings)

        return counted


class Machine:
    """A machine with systemd, as far as updates need one; the node is well if its version's name says so."""

    def __init__(self, root: Path) -> None:
        self.layout, self.book = Layout(root), Book(root)
        self.clock = 0.0
        self.boots = 0

    def prepare(self) -> None:
        """Version 0.1.0 runs in slot a; slot b holds rubbish that an earlier try has left; root trusts a board."""
        make_slot(self.layout.slot("a"), "0.1.0")
        self.layout.slot("b").mkdir(parents=True)
        (self.layout.slot("b") / "half").touch()
        self.layout.home.joinpath("current").symlink_to("a")
        for folder in (self.layout.etc, self.layout.inbox):
            folder.mkdir(parents=True)
        self.layout.config.write_text(OLD_CONFIG)
        self.book.trust(public_key_of(KEY))

    def ask(
        self, kind: str, version: str = "", content: bytes = b"", *, key: str = KEY, **more: Any
    ) -> Signed:
        """Put a signed request where the node puts it."""
        usual = f"callboard-{version}-py3-none-any.whl" if kind == "release" else "callboard.toml"
        name = more.pop("name", usual)
        sha256 = hashlib.sha256(content).hexdigest()
        file = {"name": name, "sha256": sha256, "size": len(content), "path": more.pop("path", "")}
        chosen = {"site": "callboard", "number": 1, "within": 10, **more}
        manifest = Manifest(
            kind=kind, version=version, created=time.time(), files=[Content(**file)], **chosen
        ).model_dump_json()
        signed = Signed(id="one", manifest=manifest, signature=sign(key, manifest.encode()))
        (self.layout.inbox / sha256).write_bytes(content)
        self.put(signed)
        return signed

    def put(self, signed: Signed) -> None:
        self.layout.request.write_text(Request(signed=signed).model_dump_json())

    def systemctl(self, *arguments: str) -> bool:
        match arguments:
            case ("restart", "callboard-node.service"):
                self.node()
            case ("start", "--no-block", "callboard-update.service"):
                self.wanted = True
        return True

    def node(self) -> None:
        """The node starts: it must be a whole version, and writes its mark if it gets well."""
        version = self.running()
        journal = self.book.read()
        config = self.layout.config.read_text()
        assert config in {OLD_CONFIG, NEW_CONFIG}, config
        if journal is not None and "sick" not in version and "sick" not in journal.id:
            mark = {"id": journal.id, "version": version}
            self.layout.health.write_text(json.dumps(mark))

    def running(self) -> str:
        slot = self.layout.home / "current"
        assert (slot / "whole").exists(), "the machine boots into a version that is not whole"
        return (slot / "version").read_text()

    def boot(self) -> None:
        """Everything that systemd starts at a boot and later, until nothing is under way."""
        self.boots += 1
        for _ in range(20):
            self.node()
            self.wanted = self.layout.request.exists()
            if self.wanted:
                self.apply()
            look_after(
                self.book,
                run=self.systemctl,
                sleep=self.sleep,
                clock=lambda: self.clock,
                boot=lambda: str(self.boots),
            )
            if self.wanted:
                self.apply()
            journal = self.book.read()
            if not self.layout.request.exists() and (journal is None or journal.state in ENDS):
                return
        raise AssertionError(f"it does not end: {journal}")

    def apply(self) -> None:
        self.wanted = False
        Applying(self.layout, run=self.systemctl, user="nobody-here", fill=fill).run()

    def sleep(self, seconds: float) -> None:
        self.clock += 1.0
        journal = self.book.read()
        if journal is not None and journal.boot == str(self.boots):
            self.node()  # it runs all the time


def make_slot(slot: Path, version: str) -> None:
    shutil.rmtree(slot, ignore_errors=True)
    slot.mkdir(parents=True)
    rollback.to_file(slot / "version", version.encode())
    rollback.to_file(slot / "whole", b"")


def fill(slot: Path, wheels: Path, version: str) -> None:
    make_slot(slot, version)
    if "broken" in (wheels / f"callboard-{version}-py3-none-any.whl").read_text():
        (slot / "whole").unlink()
        raise SlotError("it does not start")


def main(folder: Path, kind: str) -> None:
    at = 0
    while True:
        at += 1
        root = folder / str(at)
        machine = Machine(root)
        machine.prepare()
        match kind:
            case "config":
                machine.ask("config", content=NEW_CONFIG.encode())
            case "sick":
                machine.ask("release", "0.2.0+sick", b"sick")
            case _:
                machine.ask("release", "0.2.0", kind.encode())
        child = os.fork()
        if child == 0:
            Power(at).watch()
            machine.boot()
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended == CUT:
            machine.boots = 1
            machine.boot()
        journal = machine.book.read()
        outcome = {
            "step": at,
            "cut": ended == CUT,
            "crashed": ended not in {0, CUT},
            "state": journal.state if journal else None,
            "running": machine.running(),
            "new_config": machine.layout.config.read_text() == NEW_CONFIG,
            "history": [one.state for one in machine.book.history()],
            "pinned": machine.book.pins()["numbers"],
        }
        print(json.dumps(outcome), flush=True)
        shutil.rmtree(root)
        if ended != CUT:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
