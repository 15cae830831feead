"""The rules of presence: what to do about a status on the own topic, and which of two twins gives way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_core.messages import Status, StatusName
from callboard_core.presence import Presence, Reaction, must_yield, new_instance, react
from callboard_core.view import ALIVE, GONE


def status(instance: str | None, name: str = "ready", predecessor: str | None = "") -> Status:
    return Status(status=name, epoch=1, t=0.0, instance=instance, predecessor=predecessor)


@pytest.mark.parametrize("name", sorted(GONE))
def test_an_end_of_ours_is_contradicted(name: str) -> None:
    assert react(status("me"), status("me", name), sessions=1) is Reaction.REPEAT


@pytest.mark.parametrize("name", sorted(ALIVE))
def test_our_own_echo_needs_nothing(name: str) -> None:
    assert react(status("me"), status("me", name), sessions=1) is Reaction.NOTHING


@pytest.mark.parametrize(
    "seen", [status(None, "lost"), status("dead", "disconnected"), status("dead", "lost")]
)
def test_an_end_of_somebody_who_was_here_before_is_contradicted(seen: Status) -> None:
    assert react(status("me", predecessor="dead"), seen, sessions=1) is Reaction.REPEAT


def test_who_came_in_the_place_of_one_that_lives_gives_way() -> None:
    newcomer, elder = status("n", predecessor="e"), status("e")
    assert react(newcomer, elder, sessions=1) is Reaction.YIELD
    assert react(elder, newcomer, sessions=2) is Reaction.REPEAT


def test_the_will_of_one_that_was_thrown_out_after_us_shows_that_it_lives() -> None:
    will = status("e", "lost", predecessor="")
    assert react(status("n", predecessor="e"), will, sessions=2) is Reaction.YIELD
    assert react(status("n", predecessor="e"), will, sessions=1) is Reaction.REPEAT


def test_instances_are_told_apart() -> None:
    assert len({new_instance() for _ in range(100)}) == 100


def test_the_will_says_lost_with_epoch_and_instance() -> None:
    will = Presence.will("callboard", "alpha", 7, "me")
    body = Status.model_validate_json(will.payload)
    assert (will.topic, will.qos, will.retain) == ("callboard/alpha/status", 1, True)
    assert (body.status, body.epoch, body.instance) == (StatusName.LOST, 7, "me")


@given(st.lists(st.sampled_from("ab"), min_size=2, max_size=12), st.booleans(), st.data())
def test_exactly_one_of_two_twins_yields_in_every_interleaving(turns: str, swap: bool, data) -> None:
    """Two processes of one client id take turns at the broker: each turn throws the other one out.

    On its very first connection a process reads the retained status and then publishes its own, if it is not
    thrown out before either; whoever is thrown out leaves its will.
    """
    names = {"a": "z-first" if swap else "a-first", "b": "m-second"}
    retained: Status | None = data.draw(st.sampled_from([None, status("dead"), status("dead", "lost")]))
    predecessor: dict[str, str] = {}
    connected: str | None = None
    connections = dict.fromkeys("ab", 0)
    for who in [*turns, "a", "b"]:
        if connected is not None and connected != who:
            retained = status(names[connected], "lost", predecessor.get(connected))
        if connected != who:
            connections[who] += 1
        connected = who
        progress = data.draw(st.integers(0, 2)) if connections[who] == 1 else 2
        if progress >= 1 and who not in predecessor:
            known = connections[who] == 1 and retained is not None
            predecessor[who] = retained.instance if known and retained.instance != names[who] else ""
        if progress == 2:
            retained = status(names[who], "ready", predecessor[who])
    for who in "ab":
        predecessor.setdefault(who, "")  # thrown out before it could read: it counts as having seen nobody
    a, b = (status(names[who], "ready", predecessor[who]) for who in "ab")
    assert must_yield(a, b) != must_yield(b, a)


@given(st.text(min_size=1), st.text(min_size=1))
def test_without_predecessors_the_larger_instance_yields(one: str, other: str) -> None:
    if one != other:
        assert must_yield(status(one), status(other)) == (one > other)
        assert must_yield(status(one), status(other)) != must_yield(status(other), status(one))
