"""Whose turn it is in an update, and when it stops by itself."""

import pytest

from callboard_broker.services.updates.plan import Phase, Terms, canaries, due, phase_after
from callboard_core.updates import Stage

TEN = [f"n{number}" for number in range(10)]


def stages(**given):
    return {node: Stage(given.get(node, "waiting")) for node in TEN}


def healthy(*nodes):
    return dict.fromkeys(nodes, "healthy")


@pytest.mark.parametrize(
    ("count", "share", "first"),
    [(10, 0.1, 1), (10, 0.25, 3), (3, 0.1, 1), (1, 0.1, 1), (10, 0, 10), (10, 1, 10)],
)
def test_a_share_of_the_nodes_is_first(count, share, first):
    assert canaries(count, share) == first


def test_the_canaries_get_it_and_nobody_else_until_they_are_well():
    terms = Terms(canary=0.2)
    assert due(stages(), TEN, terms, TEN) == ["n0", "n1"]
    assert due(stages(n0="healthy", n1="trial"), TEN, terms, TEN) == []
    assert due(stages(**healthy("n0", "n1")), TEN, terms, TEN) == TEN[2:]


def test_nodes_that_are_away_wait():
    assert due(stages(), TEN, Terms(canary=0), ["n3"]) == ["n3"]


def test_only_so_many_are_at_it_at_once():
    terms = Terms(canary=0, at_once=3)
    assert due(stages(n0="trial", n1="sent"), TEN, terms, TEN) == ["n2"]


def test_a_failure_pauses_and_going_on_forgives_it():
    found = stages(n0="rolled-back")
    assert phase_after(Phase.RUNNING, found, Terms())[0] is Phase.PAUSED
    assert phase_after(Phase.RUNNING, found, Terms(forgiven=1))[0] is Phase.RUNNING
    assert phase_after(Phase.RUNNING, stages(n0="failed", n1="failed"), Terms(forgiven=1))[0] is Phase.PAUSED


def test_failures_below_the_limit_do_not_pause():
    found = stages(n0="failed")
    assert phase_after(Phase.RUNNING, found, Terms(pause_on_failures=2))[0] is Phase.RUNNING
    assert phase_after(Phase.RUNNING, found, Terms(pause_on_failures=0))[0] is Phase.RUNNING


def test_it_is_done_when_every_node_has_come_to_an_end():
    found = stages(**dict.fromkeys(TEN, "healthy"))
    assert phase_after(Phase.RUNNING, found, Terms())[0] is Phase.DONE
    assert phase_after(Phase.PAUSED, {**found, "n1": Stage.FAILED}, Terms())[0] is Phase.DONE


def test_what_was_cancelled_stays_so():
    assert phase_after(Phase.CANCELLED, stages(), Terms())[0] is Phase.CANCELLED
