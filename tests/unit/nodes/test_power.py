"""callboard_nodes.power."""

from __future__ import annotations

import shutil

import pytest

from callboard_core.errors import Failed
from callboard_nodes import power


def make(allowed, **more):
    found = power.actions(allowed, node="pi", restart=more.pop("restart", lambda: None), **more)
    return {one.card.name: one for one in found}


def test_only_what_is_allowed_is_offered_and_asks_first():
    assert make([]) == {}
    assert list(make(["shutdown", "restart"])) == ["restart", "shutdown"]
    assert all("pi" in one.card.confirm for one in make(["restart", "reboot", "shutdown"]).values())


def test_each_action_does_what_it_says(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/systemctl")
    done = []
    found = make(["restart", "reboot", "shutdown"], restart=lambda: done.append("again"), run=done.append)
    assert found["restart"].run() == "the agent restarts"
    found["reboot"].run()
    found["shutdown"].run()
    assert done == ["again", ["systemctl", "reboot"], ["systemctl", "poweroff"]]


def test_without_systemd_the_older_program_is_used(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    done = []
    make(["reboot"], run=done.append)["reboot"].run()
    assert done == [["shutdown", "-r", "now"]]


@pytest.mark.parametrize(
    ("script", "words"),
    [("echo not you >&2; exit 1", "systemctl reboot: not you"), (None, "systemctl reboot: .*No such file")],
)
def test_an_order_the_system_refuses_is_an_error(tmp_path, monkeypatch, script, words):
    if script is not None:
        program = tmp_path / "systemctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: "systemctl")
    monkeypatch.setenv("PATH", f"{tmp_path}:{tmp_path}/none")
    if script is not None:
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(Failed, match=words):
        make(["reboot"])["reboot"].run()


def test_a_node_without_rights_leaves_the_order_to_root(tmp_path):
    file = tmp_path / "inbox" / "power"
    found = make(["reboot", "shutdown"], order_file=file)
    found["reboot"].run()
    assert file.read_text() == "reboot"
    found["shutdown"].run()
    assert file.read_text() == "shutdown"
