"""Shell completion: what the installed command answers to the shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CALLBOARD = Path(sys.executable).parent / "callboard"


def ask(words, **more):
    env = os.environ | {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)} | more
    return subprocess.run([CALLBOARD], env=env, capture_output=True, text=True, timeout=60, check=True).stdout


def complete(words):
    return ask(words, _CALLBOARD_COMPLETE="complete_bash").split()


def test_a_verb_is_completed():
    assert complete("callboard do") == ["doctor"]
    assert complete("callboard ro") == ["role"]
    assert complete("callboard board") == []
    assert {"up", "node", "status", "set", "call"} <= set(complete("callboard ''"))


def test_an_option_is_completed():
    assert complete("callboard up --mqtt-p") == ["--mqtt-port"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell):
    shown = ask("callboard", _CALLBOARD_COMPLETE=f"source_{shell}")
    assert "_CALLBOARD_COMPLETE" in shown
