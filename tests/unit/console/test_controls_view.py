"""Widgets for controls, and when they take over the value in force."""

import pytest

from callboard_console.web.commands import Order, Stage
from callboard_console.web.views.controls import Held, Seen, Widget, adopt, hold, widget
from callboard_core.cards import ControlCard
from callboard_core.topics import Address

FAN = Address.parse("callboard/a/command/control/fan")


def card(type_="number", **more):
    return ControlCard(name="x", epoch=1, type=type_, **more)


@pytest.mark.parametrize(
    ("given", "value", "wanted"),
    [
        (card(minimum=0, maximum=100), 40, Widget("slider", 40, 0, 100, 1)),
        (card(minimum=0, maximum=1), 0.5, Widget("slider", 0.5, 0.0, 1.0, 0.01)),
        (card(minimum=0, maximum=10, step=0.5), 3, Widget("slider", 3.0, 0.0, 10.0, 0.5)),
        (card(minimum=0, maximum=100), 400, Widget("slider", 100, 0, 100, 1)),
        (card(minimum=0, maximum=100), None, Widget("slider", 0, 0, 100, 1)),
        (card(), 21.5, Widget("number", 21.5, None, None, 1.0)),
        (card(minimum=5), None, Widget("number", None, 5.0, None, 1.0)),
        (card("boolean"), True, Widget("toggle", True)),
        (card("boolean"), None, Widget("toggle", False)),
        (card("enum", options=["a", "b"]), "b", Widget("segments", "b", options=("a", "b"))),
        (card("enum", options=list("abcde")), "z", Widget("select", None, options=tuple("abcde"))),
        (card("text", max_length=9), "hi", Widget("text", "hi", max_length=9)),
        (card("colour"), "#ff8800", Widget("colour", "#ff8800")),
        (card("colour"), None, Widget("colour", "#000000")),
    ],
)
def test_each_kind_of_control_has_its_widget(given, value, wanted):
    found = widget(given, value)
    assert found == wanted
    assert type(found.value) is type(wanted.value)


def test_a_slider_has_numbers_of_one_type():
    found = widget(card(minimum=0, maximum=10, step=0.5), 3)
    assert {type(each) for each in (found.value, found.minimum, found.maximum, found.step)} == {float}


NOW = 1000.0


def order(stage, number=1, sent=NOW - 1):
    return Order(number, FAN, "Fan", {}, sent, stage=stage, ended=sent + 0.1)


def decide(seen, shown, value, given=None, *, received=NOW, now=NOW):
    return adopt(seen, shown, value, received=received, order=given, now=now)


def test_a_value_changed_by_somebody_else_is_taken_over():
    assert decide(Seen(40), 40, 50) == (Seen(50), True)
    assert decide(Seen(50), 50, 50) == (Seen(50), False)


def test_a_widget_that_shows_the_value_already_is_left_alone():
    assert decide(Seen(40), 50, 50) == (Seen(50), False)
    assert decide(Seen(40), 50, 50, order(Stage.DONE)) == (Seen(50, 1), False)


@pytest.mark.parametrize("stage", [Stage.SENT, Stage.ACKNOWLEDGED, Stage.RUNNING])
def test_while_a_command_is_under_way_the_hand_stays_on_the_widget(stage):
    assert decide(Seen(40), 60, 50, order(stage)) == (Seen(40), False)


def test_after_success_a_value_from_before_the_command_is_not_news():
    done = order(Stage.DONE)
    assert decide(Seen(30), 60, 40, done, received=NOW - 5) == (Seen(30), False)
    assert decide(Seen(30), 60, 55, done, received=NOW) == (Seen(55, 1), True)


def test_an_echo_that_never_comes_is_not_waited_for():
    assert decide(Seen(30), 60, 40, order(Stage.DONE), received=NOW - 5, now=NOW + 9) == (Seen(40, 1), True)


@pytest.mark.parametrize("stage", [Stage.FAILED, Stage.TIMED_OUT])
def test_after_a_failure_the_widget_returns_to_the_truth_once(stage):
    seen, take = decide(Seen(40), 60, 40, order(stage))
    assert take
    assert decide(seen, 70, 40, order(stage)) == (seen, False)


FORTY = widget(card(minimum=0, maximum=100), 40)
FIFTY = widget(card(minimum=0, maximum=100), 50)


def held(before, shown, current, given=None):
    return hold(before, shown, current, received=NOW, order=given, now=NOW)


def test_a_widget_lives_with_the_value_it_was_born_with():
    first = held(None, None, FORTY)
    assert (first.born, first.life, first.seen) == (FORTY, 0, Seen(40))
    assert held(first, 40, FORTY) == first
    assert held(first, 50, FIFTY) == Held(Seen(50), FORTY, 0)


def test_a_value_from_outside_is_a_new_life():
    first = held(None, None, FORTY)
    assert held(first, 40, FIFTY) == Held(Seen(50), FIFTY, 1)


def test_other_limits_are_a_new_life_too():
    first = held(None, None, FORTY)
    wider = widget(card(minimum=0, maximum=200), 40)
    assert held(first, 40, wider) == Held(Seen(40), wider, 1)


def test_the_first_look_does_not_mistake_an_old_failure_for_a_new_one():
    first = held(None, None, FORTY, order(Stage.FAILED))
    assert held(first, 40, FORTY, order(Stage.FAILED)) == first
