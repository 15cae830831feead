"""``callboard logs`` and ``diagnose``: what is said where a node does not answer."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from callboard_console.cli import logs
from callboard_core.errors import CallboardError, NotFound, TimedOut


def link_that_fails(error: CallboardError) -> SimpleNamespace:
    answer: Future[object] = Future()
    answer.set_exception(error)
    return SimpleNamespace(site="farm", call=lambda *_, **__: answer)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NotFound("nothing there"), "does not offer log: its node.allow does not name it"),
        (TimedOut("pi did not answer"), "pi did not answer; look whether it is there"),
    ],
)
def test_a_node_that_gives_no_log_is_told_with_what_may_be_the_reason(error, says):
    with pytest.raises(type(error), match=says):
        logs._ask(link_that_fails(error), "pi", "log", 1.0)
