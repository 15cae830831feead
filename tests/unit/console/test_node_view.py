"""The Node page's regions."""

from dataclasses import replace

import pytest

from callboard_console.web.commands import Order, Stage
from callboard_console.web.snapshot import Thing
from callboard_console.web.views import node as view
from callboard_core.messages import ErrorBody, State, StatusName
from callboard_core.topics import Address, Kind
from support.console import NOW, full, greenhouse, node, sensor

FAN = Address.parse("callboard/greenhouse/command/control/fan")


VENT = Address.parse("callboard/greenhouse/command/action/open-vent")


def order(stage=Stage.SENT, **more):
    return Order(1, FAN, "Fan", {"value": 40}, NOW - 3, **({"stage": stage} | more))


def test_the_identity_says_who_the_node_is():
    drawn = view.identity(greenhouse(), NOW)
    for said in (
        "Greenhouse",
        "ready",
        "garden",
        "greenhouse.local",
        "Raspberry Pi 5",
        "10.0.0.7",
        "(5 min)",
    ):
        assert said in drawn
    assert "clock" not in drawn


def test_a_wrong_clock_is_marked():
    assert "clock 1 d behind" in view.identity(node("a", skew=-86_400.0), NOW)


def test_readings_keep_their_places_and_count_what_is_out_of_order():
    drawn = view.readings(greenhouse(), NOW)
    places = [drawn.index(f'data-reading="{name}"') for name in ("humidity", "soil", "temperature")]
    assert places == sorted(places)
    assert "1 in error" in drawn
    assert "1 outside the normal range" in drawn
    assert "Remote I/O error" in drawn


def test_a_node_without_sensors_says_so():
    assert "announces no sensors" in view.readings(node("a"), NOW)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (order(), "sent"),
        (order(Stage.ACKNOWLEDGED), "acknowledged"),
        (order(Stage.RUNNING, progress=0.4), "40%"),
        (order(Stage.DONE, ended=NOW - 2.988), "after 12 ms"),
        (replace(order(Stage.DONE, ended=NOW, result={"open": 80}), address=VENT), "{&quot;open&quot;: 80}"),
        (replace(order(Stage.DONE, ended=NOW, result="open now"), address=VENT), "<span>open now</span>"),
        (order(Stage.FAILED, ended=NOW, error="ValueError: too hot"), "ValueError: too hot"),
        (order(Stage.TIMED_OUT, ended=NOW, error="no answer within 10 s"), "no answer within 10 s"),
    ],
)
def test_a_command_says_what_became_of_it(given, said):
    drawn = view.order_line(given, NOW)
    assert said in drawn
    assert f'data-order="{given.stage}"' in drawn


def test_a_control_does_not_repeat_what_its_widget_shows():
    assert "<code>" not in view.order_line(order(Stage.DONE, ended=NOW, result={"value": 40}), NOW)


def test_no_command_says_nothing():
    assert view.order_line(None, NOW) == ""
    assert view.orders([], NOW) == ""


def test_under_a_control_stands_only_what_is_news():
    here = greenhouse()
    fan = next(thing for thing in here.things.values() if thing.name == "fan")
    done = order(Stage.DONE, ended=NOW - 2)
    assert view.control_line(here, fan, None, NOW) == ""
    assert "done" in view.control_line(here, fan, done, NOW)
    assert view.control_line(here, fan, done, NOW + 60) == ""
    assert "failed" in view.control_line(here, fan, order(Stage.FAILED, ended=NOW), NOW + 60)
    assert "is away" in view.control_line(replace(here, status=StatusName.LOST), fan, done, NOW)


def test_a_failing_control_says_why_and_the_command_that_failed_speaks_first():
    here = greenhouse()
    error = ErrorBody(code="failed", message="ValueError: stuck")
    stuck = Thing(Kind.CONTROL, "fan", None, State(v=40, t=NOW, error=error), NOW)
    assert "ValueError: stuck" in view.control_line(here, stuck, None, NOW)
    assert "ValueError: stuck" in view.control_line(here, stuck, order(Stage.DONE, ended=NOW), NOW)
    assert "failed" in view.control_line(here, stuck, order(Stage.FAILED, ended=NOW), NOW)


def test_those_who_only_look_see_what_is_in_force():
    fan = next(thing for thing in greenhouse().things.values() if thing.name == "fan")
    assert "40 %" in view.in_force(fan)


def test_the_log_shows_one_node_or_all():
    assert "humidity is high" in view.events(full().events, "greenhouse")
    assert "started" not in view.events(full().events, "greenhouse")
    assert "started" in view.events(full().events, None)
    assert "Nothing has happened" in view.events([], "greenhouse")


def test_spans_fill_the_whole_time_and_leave_the_unknown_unknown():
    changes = [{"t": 50, "status": "ready"}, {"t": 20, "status": "lost"}]
    found = view.spans(changes, 0, 100)
    assert [(span.start, span.end, span.status) for span in found] == [
        (0, 20, None),
        (20, 50, StatusName.LOST),
        (50, 100, StatusName.READY),
    ]


def test_spans_know_the_status_from_before_the_window_and_the_present_one():
    found = view.spans([{"t": -5, "status": "ready"}], 0, 100, now_status=StatusName.LOST, now_since=90)
    assert [(span.end, span.status) for span in found] == [(90, StatusName.READY), (100, StatusName.LOST)]


def test_the_strip_says_the_share_of_the_known_time():
    found = view.spans([{"t": 50, "status": "ready"}, {"t": 75, "status": "lost"}], 0, 100)
    drawn = view.strip(found)
    assert "here 50.0% of the known time" in drawn
    assert "width:25.0000%" in drawn
    assert view.strip([]) == ""


def test_a_node_that_is_not_there_says_so():
    assert "ghost is not on the board." in view.absent("ghost")


def test_sensor_names_are_escaped():
    assert "<script>" not in view.readings(node("a", sensor("x", "<script>alert(1)</script>")), NOW)
