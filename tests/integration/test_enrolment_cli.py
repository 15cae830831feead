"""``callboard node --join`` as a process, at a board that stands in: it can be stopped, and says what is wrong."""

from __future__ import annotations

import signal
import subprocess

import pytest

from callboard_nodes.enrolment import Store
from support.standin import StandIn, error
from support.up import CALLBOARD, clean_environment
from support.waiting import wait_until


@pytest.fixture
def board():
    with StandIn().serving() as board:
        yield board


def command(tmp_path, *flags):
    return [*CALLBOARD, "node", "--state", str(tmp_path / "state"), "--id", "pi", *flags]


def store_of(tmp_path):
    return Store(tmp_path / "state" / "nodes" / "pi")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("watched", [True, False])
def test_who_waits_for_the_yes_can_be_stopped(board, tmp_path, number, watched):
    board.decide = lambda *_: (202, {"state": "pending", "ticket": "t", "poll": 600.0})
    file = tmp_path / "code"
    file.write_text(board.code().text)
    flags = ("--join", board.code().text) if watched else ("--join-file", str(file))
    process = subprocess.Popen(
        command(tmp_path, *flags), stderr=subprocess.PIPE, text=True, env=clean_environment(tmp_path)
    )
    with process:
        assert process.stderr is not None
        assert "waiting for the operator" in process.stderr.readline()
        process.send_signal(number)
        assert "Traceback" not in process.stderr.read()
    assert store_of(tmp_path).read() is None
    assert file.exists(), "the next start goes on"


@pytest.mark.parametrize(
    ("code", "said"),
    [("expired", "the code has expired"), ("conflict", "it was used"), ("forbidden", "an operator said no")],
)
def test_a_code_that_the_board_does_not_take_is_told_in_one_line(board, tmp_path, code, said):
    board.decide = lambda *_: (403, error(code, said))
    done = subprocess.run(
        command(tmp_path, "--join", board.code().text), capture_output=True, text=True, check=False, timeout=60,
        env=clean_environment(tmp_path),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, f"callboard: {said}\n")


def test_a_mistyped_code_asks_nobody(board, tmp_path):
    text = board.code().text
    done = subprocess.run(
        command(tmp_path, "--join", text[:-2]), capture_output=True, text=True, check=False, timeout=60,
        env=clean_environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2
    assert "mistyped" in done.stderr
    assert board.told == []


def test_another_board_is_only_joined_when_that_is_said(board, tmp_path):
    with StandIn(site="elsewhere").serving() as other:
        for this, flags in ((board, ()), (other, ("--yes",))):
            process = subprocess.Popen(
                command(tmp_path, "--join", "-", *flags), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, env=clean_environment(tmp_path),
            )  # fmt: skip
            with process:
                assert process.stdin is not None
                process.stdin.write(this.code().text)
                process.stdin.close()
                wait_until(lambda this=this: site(tmp_path) == this.site, 60)
                process.terminate()
    assert site(tmp_path) == "elsewhere"


def site(tmp_path):
    found = store_of(tmp_path).read()
    return found and found.record.site
