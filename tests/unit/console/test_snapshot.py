"""Snapshots: what they count and how things are called."""

from callboard_console.web.snapshot import Thing
from callboard_core.messages import Level
from callboard_core.topics import Kind
from support.console import action, control, full, greenhouse, node, sensor, snapshot


def test_totals_count_guests_and_what_everybody_offers():
    totals = full().totals
    assert (totals.nodes, totals.here, totals.lost) == (2, 1, 1)
    assert totals.offers == {Kind.SENSOR: 4, Kind.CONTROL: 7, Kind.ACTION: 3}
    assert (totals.warnings, totals.errors) == (1, 1)


def test_alarms_come_with_errors_first():
    assert [thing.level for thing in greenhouse().alarms] == [Level.ERROR, Level.WARNING]


def test_a_thing_without_a_label_is_spelled_like_one():
    assert action("open-vent").title == "Open vent"
    assert action("open-vent", label="Vent!").title == "Vent!"
    assert Thing(Kind.SENSOR, "left-over").title == "Left over"


def test_a_search_looks_at_name_label_tags_status_host_and_address():
    for word in ("greenhouse", "garden", "ready", "greenhouse.local", "raspberry", "10.0.0.7"):
        assert word in greenhouse().haystack


def test_things_of_a_kind_are_ordered_by_title_and_need_a_card():
    ghost = Thing(Kind.CONTROL, "ghost")
    found = node("a", control("b"), control("a"), ghost, sensor("x")).of_kind(Kind.CONTROL)
    assert [thing.name for thing in found] == ["a", "b"]


def test_guests_leave_the_board_out():
    assert [each.id for each in snapshot(node("board"), node("a")).guests] == ["a"]
