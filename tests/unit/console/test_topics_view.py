"""The tree of retained messages, its search, and the publish box."""

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_console.web.snapshot import Retained, Topics
from callboard_console.web.views import topics as view
from callboard_core.errors import BadRequest
from support.console import NOW, full


def topics(**held):
    found = {name.replace("__", "/"): Retained(payload, NOW) for name, payload in held.items()}
    return Topics(tuple(sorted(found)), MappingProxyType(found))


BOARD = topics(a__b=b"1", a__b__c=b"2", a__d=b"three", x=b"4")


def test_the_first_level_is_closed_until_it_is_opened():
    assert [(line.topic, line.below, line.leaf) for line in view.branches(BOARD.names, frozenset())] == [
        ("a", 3, False),
        ("x", 0, True),
    ]


def test_an_opened_branch_shows_its_level_and_a_topic_can_be_leaf_and_branch():
    lines = view.branches(BOARD.names, frozenset({"a"}))
    assert [(line.topic, line.depth, line.below, line.leaf) for line in lines] == [
        ("a", 0, 3, False),
        ("a/b", 1, 1, True),
        ("a/d", 1, 0, True),
        ("x", 0, 0, True),
    ]


def test_neighbours_that_sort_between_a_topic_and_its_branch_do_not_confuse_it():
    names = tuple(sorted(["a", "a-b", "a/c", "a!b", "a0"]))
    assert [(line.topic, line.below, line.leaf) for line in view.branches(names, frozenset())] == [
        ("a", 1, True),
        ("a!b", 0, True),
        ("a-b", 0, True),
        ("a0", 0, True),
    ]


_LEVEL = st.text("ab-0!", min_size=1, max_size=2)


@given(st.sets(st.lists(_LEVEL, min_size=1, max_size=4).map("/".join), max_size=30))
def test_a_fully_opened_tree_shows_every_topic_once(found):
    names = tuple(sorted(found))
    opened = frozenset(topic.rsplit("/", depth)[0] for topic in names for depth in range(1, 4))
    lines = view.branches(names, opened, limit=10_000)
    assert sorted(line.topic for line in lines if line.leaf) == list(names)
    assert len({line.topic for line in lines}) == len(lines)


def test_the_tree_stops_at_its_limit():
    names = tuple(f"a/{i:04d}" for i in range(1000))
    assert len(view.branches(names, frozenset({"a"}), limit=50)) == 50


def test_closing_a_branch_closes_what_is_below():
    opened = view.toggle(view.toggle(frozenset(), "a"), "a/b")
    assert view.toggle(opened, "a") == frozenset()
    assert view.toggle(opened, "a/b") == {"a"}


def test_a_search_looks_at_names_and_payloads():
    assert view.search(BOARD, "THREE") == ("a/d",)
    assert view.search(BOARD, "b 2") == ("a/b/c",)
    assert "No topic or payload holds that." in view.tree(BOARD, query="zzz", opened=frozenset(), chosen=None)


def test_a_branch_that_is_also_a_topic_is_opened_by_its_click():
    drawn = view.tree(BOARD, query="", opened=frozenset({"a"}), chosen="a/d")
    assert 'data-act="open:a/b"' in drawn
    assert 'data-act="topic:a/d"' in drawn
    assert "cb-chosen" in drawn
    assert "4 retained messages" in drawn


def test_an_empty_board_says_so():
    assert "Nothing hangs on the board." in view.tree(topics(), query="", opened=frozenset(), chosen=None)


def test_a_payload_is_shown_in_full_and_safely():
    drawn = view.payload("a", Retained(b'{"x":"<b>"}', NOW - 5), NOW)
    assert "&lt;b&gt;" in drawn
    assert "5 s ago" in drawn
    assert "Choose a topic." in view.payload(None, None, NOW)
    assert "Nothing is retained" in view.payload("gone", None, NOW)


def test_a_huge_payload_is_cut():
    assert "The first 200 kB are shown." in view.payload("a", Retained(b"x" * 300_000, NOW), NOW)


FAN = "callboard/greenhouse/command/control/fan"


def test_an_operator_may_publish_commands_to_what_is_announced():
    order = view.order(full(), FAN, '{"value": 55}')
    assert (str(order.address), order.args, order.confirm) == (FAN, {"value": 55}, None)


def test_an_action_brings_its_question_and_its_time_out():
    order = view.order(full(), "callboard/greenhouse/command/action/open-vent", "")
    assert (order.confirm, order.timeout) == ("Really open the vent?", 30.0)


@pytest.mark.parametrize(
    ("topic", "text", "said"),
    [
        ("nonsense", "", "Operators publish to callboard/NODE/command/KIND/NAME"),
        ("callboard/greenhouse/state/control/fan", "", "is not a command topic"),
        ("other/greenhouse/command/control/fan", "", "is not a command topic"),
        ("callboard/greenhouse/command/control/nothing", "", "announces no control nothing"),
        ("callboard/nobody/command/control/fan", "", "announces no control fan"),
        (FAN, "{", "not JSON"),
        (FAN, '{"value": 500}', "outside"),
    ],
)
def test_what_cannot_be_published_is_refused_with_a_reason(topic, text, said):
    with pytest.raises(BadRequest, match=said):
        view.order(full(), topic, text)


def test_a_chosen_topic_suggests_the_command_that_belongs_to_it():
    assert view.suggestion("callboard/greenhouse/state/control/fan") == FAN
    assert view.suggestion("callboard/greenhouse/status") == ""
    assert view.suggestion("stray") == view.suggestion(None) == ""


def test_the_suggested_arguments_are_what_is_in_force_or_the_defaults():
    assert view.example(full(), FAN) == '{"value": 40}'
    water = view.example(full(), "callboard/greenhouse/command/action/water")
    assert water == '{"seconds": 5, "zone": null}'
    assert view.example(full(), "callboard/nobody/command/control/fan") == "{}"
