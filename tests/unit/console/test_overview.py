"""The Overview: filter, order, pages, rows."""

from pathlib import Path

import pytest

from callboard_console.web.views.overview import (
    PAGE_SIZE,
    Chosen,
    Joining,
    Only,
    Order,
    choose,
    headline,
    is_empty,
    summary,
    table,
    turn,
)
from callboard_core.messages import Level, StatusName
from support.console import NOW, full, greenhouse, node, sensor, snapshot


def names(*args, **more):
    return [each.id for each in choose(*args, **more)]


def test_every_word_of_the_query_must_be_found():
    assert names(full(), "pi garden") == ["greenhouse"]
    assert names(full(), "GARDEN") == ["greenhouse"]
    assert names(full(), "nothing") == []


@pytest.mark.parametrize(
    ("only", "found"),
    [
        (Only.ALL, ["attic", "board", "greenhouse"]),
        (Only.HERE, ["board", "greenhouse"]),
        (Only.AWAY, ["attic"]),
        (Only.TROUBLE, ["attic", "greenhouse"]),
    ],
)
def test_the_filter_shows_who_is_here_away_or_in_trouble(only, found):
    assert names(full(), only=only) == found


def test_the_order_by_status_puts_the_lost_first():
    assert names(full(), order=Order.STATUS) == ["attic", "board", "greenhouse"]
    assert names(full(), order=Order.NAME, backwards=True) == ["greenhouse", "board", "attic"]


def test_a_click_on_a_heading_sorts_and_another_one_turns_the_order():
    chosen = turn(Chosen(query="pi", page=3), "sort:status")
    assert chosen == Chosen("pi", Only.ALL, Order.STATUS)
    assert turn(chosen, "sort:status").backwards
    assert turn(chosen, "turn:2").page == 2
    assert turn(chosen, "sort:nonsense") == chosen == turn(chosen, "turn:-1") == turn(chosen, "")


def test_a_long_table_has_pages_and_a_page_too_far_shows_the_last():
    many = snapshot(*(node(f"n{i:03d}") for i in range(PAGE_SIZE + 5)))
    assert table(many, Chosen()).count("data-node=") == PAGE_SIZE
    last = table(many, Chosen(page=99))
    assert last.count("data-node=") == 5
    assert "Page 2 of 2" in last


def test_the_traces_prefer_what_tells_most_about_a_machine():
    machine = node("a", sensor("zeta"), sensor("memory"), sensor("cpu"), sensor("word", "text"))
    assert [thing.name for thing in headline(machine)] == ["cpu", "memory"]


def test_a_row_shows_status_as_a_word_tags_values_and_traces():
    drawn = table(snapshot(greenhouse()), Chosen())
    for said in ("ready", "Greenhouse", "garden", "3 actions", "88.0 %", "<svg", ">now<", "5 min"):
        assert said in drawn


def test_a_failing_sensor_says_error_instead_of_a_value():
    assert ">error<" in table(snapshot(node("a", sensor("cpu", error="boom"))), Chosen())


def test_names_from_the_network_are_escaped():
    drawn = table(snapshot(node("a", label="<img src=x onerror=alert(1)>")), Chosen())
    assert "<img" not in drawn


def test_an_empty_board_tells_how_to_add_the_first_node():
    empty = snapshot(node("board"))
    assert is_empty(empty)
    assert 'data-copy="callboard node"' in table(empty, Chosen())
    assert "callboard up --lan" in table(empty, Chosen(), Joining(local_only=True))
    drawn = table(empty, Chosen(), Joining(Path("/srv/my board"), local_only=False))
    assert "callboard node --state &#x27;/srv/my board&#x27;" in drawn
    assert "/srv/my board/credentials/node.password" in drawn
    assert "callboard node --password-file node.password" in drawn
    assert 'data-act="page:add_node"' in table(empty, Chosen(), Joining(lan=True))
    assert not is_empty(snapshot(complete=False))
    assert "cb-tiles" not in summary(empty)


def test_a_filter_that_finds_nothing_says_so():
    assert "No node passes the filter." in table(full(), Chosen(query="nothing"))


def test_the_summary_counts_and_colours_what_is_wrong():
    drawn = summary(full())
    for said in ("Degraded", "1/2", "1 lost", "1 in error", "12.3"):
        assert said in drawn
    assert "cb-tile cb-bad" not in summary(snapshot(node("a", since=NOW)))


def test_warnings_alone_are_not_painted_as_errors():
    drawn = summary(snapshot(node("a", sensor("x", level=Level.WARNING))))
    assert "cb-tile cb-warn" in drawn
    assert "in error" not in drawn


def test_a_node_that_is_away_is_dimmed():
    assert "cb-gone" in table(snapshot(node("a", status=StatusName.LOST)), Chosen())
