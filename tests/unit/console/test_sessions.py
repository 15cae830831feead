"""Sessions: found by their token, gone when they expire."""

import time
from dataclasses import replace

import pytest

from callboard_console.web.commands import Stage
from callboard_console.web.sessions import Attempts, Sessions
from callboard_core.errors import Unauthorized, Unavailable
from callboard_core.topics import Address
from support.console import FakeApi, FakeLink, session

FAN = Address.parse("callboard/a/command/control/fan")


class Clock:
    def __init__(self):
        self.t = time.time()

    def __call__(self):
        return self.t


def test_a_session_is_found_by_its_token_until_it_expires():
    clock = Clock()
    sessions, one = Sessions(clock), session(token="abc")
    sessions.add(one)
    assert sessions.get("abc") is one
    assert sessions.get("other") is sessions.get(None) is None
    clock.t += 3601
    assert sessions.get("abc") is None


def test_an_expired_session_is_closed_when_the_next_one_begins():
    clock, link = Clock(), FakeLink()
    sessions, one = Sessions(clock), session(link=link, token="abc")
    sessions.add(one)
    one.link()
    clock.t += 3601
    sessions.add(replace(session(token="new"), expires=clock.t + 10))
    assert link.stopped
    assert isinstance(one.api, FakeApi)
    assert "logout" in one.api.asked


def test_closing_ends_every_session():
    sessions, link = Sessions(time.time), FakeLink()
    one = session(link=link)
    sessions.add(one)
    one.link()
    sessions.close()
    assert link.stopped
    assert sessions.get("token") is None


@pytest.mark.parametrize("answer", [Unauthorized("this user may not log in"), {"role": "viewer"}])
def test_whoever_is_withdrawn_or_given_another_role_is_sent_away(answer):
    sessions, one, other = Sessions(time.time), session(token="one"), session(token="other")
    sessions.add(one)
    sessions.add(other)
    sessions.recheck()
    assert sessions.get("one") is one
    one.api.answers["/me"] = answer
    sessions.recheck()
    assert sessions.get("one") is None
    assert sessions.get("other") is other


def test_nobody_is_sent_away_because_the_board_is_away():
    sessions, one = Sessions(time.time), session(token="one")
    sessions.add(one)
    one.api.answers["/me"] = Unavailable("the board does not answer")
    with pytest.raises(Unavailable):
        sessions.recheck()
    assert sessions.get("one") is one


def test_the_link_is_opened_at_the_first_command_and_kept():
    opened = []
    one = replace(session(), open_link=lambda credential: opened.append(credential) or FakeLink())
    assert not opened
    assert one.link() is one.link()
    assert [credential.username for credential in opened] == ["operator"]


def test_a_broker_that_refuses_the_operator_is_a_failed_command():
    def refuse(_credential):
        raise Unauthorized("the broker does not know you")

    one = replace(session(), open_link=refuse)
    one.send(FAN, "Fan", {"value": 1}, timeout=5)
    assert one.ledger.last(FAN).stage is Stage.FAILED
    assert one.ledger.last(FAN).error == "the broker does not know you"


def test_only_operators_and_admins_may_command():
    assert session("operator").may_command
    assert session("admin").may_command
    assert not session("viewer").may_command


def test_a_password_is_not_in_the_representation():
    assert "open-sesame" not in repr(session())


def test_guessing_is_slowed_down():
    clock = Clock()
    attempts = Attempts(clock, limit=3, window=60)
    for _ in range(3):
        assert attempts.wait("1.2.3.4") == 0
        attempts.failed("1.2.3.4")
    assert 0 < attempts.wait("1.2.3.4") <= 60
    assert attempts.wait("5.6.7.8") == 0
    clock.t += 61
    assert attempts.wait("1.2.3.4") == 0
