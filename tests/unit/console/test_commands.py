"""The ledger: what became of commands."""

import pytest

from callboard_console.web.commands import FINAL, Ledger, Stage, step
from callboard_core.errors import Failed, TimedOut, Unavailable
from callboard_core.topics import Address
from support.console import FakeLink

FAN = Address.parse("callboard/a/command/control/fan")
VENT = Address.parse("callboard/a/command/action/vent")
EVENTS = ("ack", "progress", "done", "failed", "timed out")


@pytest.fixture
def link():
    found = FakeLink()
    found.answer = lambda future: setattr(found, "future", future)
    return found


@pytest.fixture
def ledger():
    times = iter(range(1000))
    return Ledger(lambda: float(next(times)))


def send(ledger, link, address=FAN):
    return ledger.send(link, address, "Fan", {"value": 40}, timeout=10.0)


def test_every_stage_knows_every_event_and_the_end_is_the_end():
    for stage in Stage:
        for event in EVENTS:
            after = step(stage, event)
            assert after is stage or stage not in FINAL


def test_a_command_goes_from_sent_over_acknowledged_and_running_to_done(ledger, link):
    send(ledger, link)
    stages = [ledger.last(FAN).stage]
    link.on_ack()
    stages.append(ledger.last(FAN).stage)
    link.on_progress(0.4)
    stages.append(ledger.last(FAN).stage)
    link.future.set_result({"open": 1})
    order = ledger.last(FAN)
    assert [*stages, order.stage] == [Stage.SENT, Stage.ACKNOWLEDGED, Stage.RUNNING, Stage.DONE]
    assert (order.progress, order.result, order.took) == (0.4, {"open": 1}, 1.0)


@pytest.mark.parametrize(
    ("error", "stage"),
    [(Failed("ValueError: too hot"), Stage.FAILED), (TimedOut("no answer"), Stage.TIMED_OUT)],
)
def test_an_error_is_kept_with_its_text(ledger, link, error, stage):
    send(ledger, link)
    link.future.set_exception(error)
    assert (ledger.last(FAN).stage, ledger.last(FAN).error) == (stage, str(error))


def test_a_link_that_cannot_send_is_a_failure_and_not_an_exception(ledger, link):
    def refuse(_future):
        raise Unavailable("not connected")

    link.answer = refuse
    send(ledger, link)
    assert ledger.last(FAN).error == "not connected"


def test_what_comes_after_the_end_changes_nothing(ledger, link):
    send(ledger, link)
    link.future.set_result(None)
    before = ledger.last(FAN)
    link.on_progress(0.9)
    link.on_ack()
    assert ledger.last(FAN) == before


def test_a_cancelled_call_is_given_up(ledger, link):
    send(ledger, link)
    link.future.cancel()
    assert ledger.last(FAN).error == "given up"


def test_orders_are_newest_first_bounded_and_found_by_address(ledger, link):
    for address in (FAN, VENT, FAN):
        send(ledger, link, address)
    assert [order.address for order in ledger.orders()] == [FAN, VENT, FAN]
    assert ledger.last(FAN).number == 3
    for _ in range(100):
        send(ledger, link, VENT)
    assert len(ledger.orders()) == 50
    assert ledger.last(FAN) is None


def test_a_command_that_could_not_be_sent_is_on_record(ledger):
    ledger.refuse(FAN, "Fan", {}, "the broker does not know you")
    assert (ledger.last(FAN).stage, ledger.last(FAN).took) == (Stage.FAILED, 0.0)
