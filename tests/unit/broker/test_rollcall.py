import pytest

from callboard_broker.engine.rollcall import RollCall
from callboard_core.messages import Status, StatusName


def status(name: StatusName = StatusName.READY) -> Status:
    return Status(status=name, epoch=3, t=1.0, instance="a")


def test_who_does_not_come_back_is_overdue_once():
    roll = RollCall(now=100.0)
    roll.remembered("pump", status())
    assert roll.overdue(100.0 + 29) == {}
    assert roll.overdue(100.0 + 30) == {"pump": status()}
    assert roll.overdue(100.0 + 31) == {}
    assert not roll


def test_who_comes_back_is_not():
    roll = RollCall(now=100.0)
    roll.remembered("pump", status())
    roll.heard("pump")
    assert roll.overdue(1e9) == {}


def test_a_long_keep_alive_is_waited_for():
    roll = RollCall(now=0.0)
    roll.remembered("pump", status())
    roll.keepalive("pump", 60)
    assert roll.overdue(100) == {}
    assert roll.overdue(105) == {"pump": status()}


@pytest.mark.parametrize("name", [StatusName.SLEEPING, StatusName.DISCONNECTED, StatusName.LOST])
def test_who_was_away_on_purpose_or_lost_already_is_not_expected(name: StatusName):
    roll = RollCall(now=0.0)
    roll.remembered("pump", status(name))
    assert not roll
