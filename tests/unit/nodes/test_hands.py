"""The log that is kept in memory for those who ask for it."""

import logging
import threading

import pytest

from callboard_core.errors import BadPayload
from callboard_core.messages import read_args
from callboard_nodes.hands import LogArgs, RecentLog


@pytest.fixture
def log():
    kept = RecentLog()
    logger = logging.Logger("callboard.test")  # noqa: LOG001 - nobody else is to hear it
    logger.addHandler(kept)
    return kept, logger


def test_the_newest_lines_are_told_and_where_to_go_on(log):
    kept, logger = log
    for number in range(5):
        logger.info("line %d", number)
    found = kept.tail(2)
    assert [line.rpartition(": ")[2] for line in found.lines] == ["line 3", "line 4"]
    assert kept.tail(10, found.next).lines == []
    logger.info("more")
    assert kept.tail(10, found.next).lines[0].endswith("more")


def test_only_so_many_lines_are_kept(log):
    kept, logger = log
    for number in range(3000):
        logger.info("%d", number)
    found = kept.tail(2000)
    assert (len(found.lines), found.next) == (2000, 3000)


def test_a_line_that_comes_while_somebody_waits_is_told_at_once(log):
    kept, logger = log
    found = []
    waiting = threading.Thread(target=lambda: found.append(kept.tail(10, 0, 20)))
    waiting.start()
    logger.info("now")
    waiting.join(10)
    assert found[0].lines[0].endswith("now")


def test_who_follows_an_agent_that_was_started_anew_hears_it_from_the_beginning(log):
    kept, logger = log
    logger.info("first")
    assert kept.tail(10, 500).lines[0].endswith("first")


def test_what_has_several_lines_or_is_long_is_one_line_of_bounded_length(log):
    kept, logger = log
    logger.info("a\nb%s", "x" * 5000)
    (line,) = kept.tail(1).lines
    assert "a | b" in line
    assert len(line) == 1000


@pytest.mark.parametrize(
    "args", [{"lines": 0}, {"lines": 10**6}, {"wait": 3600}, {"after": -2}, {"file": "/etc/passwd"}]
)
def test_wrong_wishes_are_refused(args):
    with pytest.raises(BadPayload):
        read_args(LogArgs, args)
