"""callboard_console.cli.join: what is asked of the board, and what people get to see."""

from __future__ import annotations

import pytest

from callboard_console.cli.join import invitation, qr, seconds_of
from callboard_core.errors import BadRequest
from callboard_core.trust.enrolment import MadeJoin

NOW = 1_795_327_474.0


def made(**more):
    given = {
        "name": "x", "uses": 1, "used": 0, "ask": False, "made": NOW, "expires": NOW + 7200, "by": "operator",
        "code": "CB2-" + "A" * 160,
    }  # fmt: skip
    return MadeJoin(**(given | more))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), (" 7d ", 604_800)]
)
def test_a_length_of_time_is_written_with_its_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1w", "-1h", "tomorrow"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(BadRequest, match="as in 30m or 1h"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["0", "367d"])
def test_a_time_for_which_no_board_makes_a_code_is_refused_by_the_options_name(text):
    with pytest.raises(BadRequest, match=f"--join-expires '{text}': .* up to 366 days"):
        seconds_of(text, "--join-expires")


def test_an_invitation_has_the_command_for_the_other_machine():
    shown = invitation(made(id="greenhouse"), NOW)
    assert shown.splitlines()[-1].strip() == "callboard node --id greenhouse --join CB2-" + "A" * 160
    assert "Lets in one machine within 2 h." in shown
    assert "Lets in 5 machines within 2 h, each after `callboard join accept`." in invitation(
        made(uses=5, ask=True), NOW
    )


def test_a_code_is_drawn_small_enough_for_a_terminal():
    lines = qr(made().code).splitlines()
    assert 10 < len(lines) <= 30
    assert max(map(len, lines)) <= 60
