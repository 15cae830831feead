"""callboard_core.steady."""

import asyncio
import logging

import pytest

from callboard_core.errors import Overloaded
from callboard_core.steady import Steady

log = logging.getLogger("steady")


def go(steady, error=None):
    with steady:
        if error is not None:
            raise error


def test_a_failure_is_logged_with_its_traceback_and_the_loop_goes_on(caplog):
    steady = Steady(log, "counting sheep")
    go(steady, KeyError("sheep"))
    assert steady.failing
    [record] = caplog.records
    assert record.getMessage() == "counting sheep failed; going on"
    assert record.exc_info


def test_the_same_failure_is_logged_again_only_after_it_was_over(caplog):
    steady = Steady(log, "counting")
    for error in (KeyError("a"), KeyError("a"), KeyError("b"), None, KeyError("b")):
        go(steady, error)
    assert len(caplog.records) == 3


def test_an_error_of_ours_is_one_line(caplog):
    go(Steady(log, "housekeeping"), Overloaded("full"))
    assert caplog.messages == ["housekeeping: full; going on"]
    assert caplog.records[0].exc_info is None


@pytest.mark.parametrize("end", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_what_is_raised_to_end_the_loop_ends_it(end):
    with pytest.raises(end):
        go(Steady(log, "x"), end())
