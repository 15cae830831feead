"""Whether somebody uses this machine and how busy it is, as the system tells."""

from __future__ import annotations

import os
import time

import pytest

from callboard_nodes.slots.schedule import idle_seconds, parse_logind, processor_load


@pytest.fixture
def logind(tmp_path, monkeypatch):
    """Play ``loginctl``; nothing else is on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def say(script):
        program = programs / "loginctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return say


@pytest.fixture
def terminals(tmp_path):
    """A folder of devices; returns what puts a terminal there that was used so many seconds ago."""
    (tmp_path / "dev/pts").mkdir(parents=True)

    def add(name, seconds):
        terminal = tmp_path / "dev/pts" / name
        terminal.touch()
        used = time.time() - seconds
        os.utime(terminal, (used, used))
        return tmp_path / "dev"

    return add


def test_a_machine_that_tells_of_nobody_is_not_known_to_be_idle(logind, terminals):
    assert idle_seconds(terminals("ptmx", 0)) is None


def test_the_terminal_that_was_used_last_counts(logind, terminals):
    terminals("0", 7200)
    assert 300 <= idle_seconds(terminals("3", 300)) < 3600


def test_logind_knows_of_desktops_as_well(logind, terminals):
    dev = terminals("0", 7200)
    logind("echo IdleHint=no; echo IdleSinceHint=0")
    assert idle_seconds(dev) == 0.0
    since = int((time.time() - 600) * 1e6)
    logind(f"echo IdleHint=yes; echo IdleSinceHint={since}")
    assert 600 <= idle_seconds(dev) < 7200


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense"])
def test_without_a_word_of_logind_the_terminals_count(logind, terminals, script):
    logind(script)
    assert idle_seconds(terminals("0", 7200)) >= 7200


def test_what_logind_prints_is_read():
    assert parse_logind("IdleHint=no\nIdleSinceHint=5\n", 100.0) == 0.0
    assert parse_logind("IdleHint=yes\nIdleSinceHint=40000000\n", 100.0) == 60.0
    assert parse_logind("", 100.0) is None


def test_load_is_what_was_busy_between_two_looks():
    assert processor_load(None, (1, 2)) is None
    assert processor_load((10, 100), (60, 200)) == 0.5
