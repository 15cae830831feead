"""Passwords become tokens, tokens become somebody."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import pytest

from callboard_broker.services.brake import Brake
from callboard_broker.services.logins import CHECKED_AT_ONCE, LIFETIME, PER_USER, Logins, Person
from callboard_core.errors import Overloaded, Unauthorized


@dataclass
class User:
    name: str
    role: str


class People:
    def __init__(self) -> None:
        self.known = {"ann": "operator", "bob": "viewer"}

    def verify(self, username: str, password: str) -> User | None:
        role = self.known.get(username)
        return User(username, role) if role and password == "right" else None

    def roles(self) -> dict[str, str]:
        return self.known


class Notes(dict):
    def submit(self, key, job) -> None:
        self[key] = job


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def logins(people, clock) -> Logins:
    return Logins(people, Notes(), brake=Brake(free=3), clock=clock)


def test_a_password_tells_who_it_is(logins):
    assert logins.verify("ann", "right", "host") == Person("ann", "operator")


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("nobody", "right"), ("", "")])
def test_a_wrong_password_and_an_unknown_name_sound_the_same(logins, name, password):
    with pytest.raises(Unauthorized, match="wrong user name or password"):
        logins.verify(name, password, "host")


def test_guessing_is_slowed_down_for_the_guesser_only(logins, clock):
    for _ in range(3):
        with pytest.raises(Unauthorized):
            logins.verify("ann", "wrong", "attacker")
    with pytest.raises(Overloaded, match="try again in 1 s"):
        logins.verify("ann", "right", "attacker")
    assert logins.verify("ann", "right", "home").username == "ann"
    clock.now += 2
    assert logins.verify("ann", "right", "attacker").username == "ann"


def test_a_token_is_good_until_it_expires_or_ends(logins, clock):
    first, second = (logins.begin(Person("ann", "operator")) for _ in range(2))
    assert first.token != second.token
    assert logins.identify(first.token) == Person("ann", "operator")
    logins.end(first.token)
    with pytest.raises(Unauthorized):
        logins.identify(first.token)
    clock.now += LIFETIME + 1
    with pytest.raises(Unauthorized, match="log in again"):
        logins.identify(second.token)


@pytest.mark.parametrize("token", ["", "x", "é" * 1000])
def test_a_made_up_token_is_nobodys(logins, token):
    with pytest.raises(Unauthorized):
        logins.identify(token)


def test_a_token_has_the_role_of_today_and_ends_with_its_user(logins, people):
    token = logins.begin(Person("ann", "operator")).token
    people.known["ann"] = "viewer"
    assert not logins.identify(token).may_command
    del people.known["ann"]
    with pytest.raises(Unauthorized, match="may not log in any more"):
        logins.identify(token)


def test_the_tokens_of_one_user_are_bounded_and_the_oldest_goes(logins, clock):
    tokens = []
    for _ in range(PER_USER + 5):
        clock.now += 1
        tokens.append(logins.begin(Person("bob", "viewer")).token)
    with pytest.raises(Unauthorized):
        logins.identify(tokens[4])
    assert logins.identify(tokens[5]).username == "bob"


def test_a_flood_of_logins_is_turned_away_instead_of_holding_up_the_rest(clock):
    going = threading.Event()

    class Slow(People):
        def verify(self, username: str, password: str) -> User | None:
            going.wait()
            return super().verify(username, password)

    logins = Logins(Slow(), Notes(), brake=Brake(), clock=clock)
    with ThreadPoolExecutor(CHECKED_AT_ONCE + 1) as pool:
        asked = [pool.submit(logins.verify, "ann", "right", str(n)) for n in range(CHECKED_AT_ONCE + 1)]
        turned_away = next(as_completed(asked))
        assert isinstance(turned_away.exception(), Overloaded)
        going.set()
        assert {one.result().username for one in asked if one is not turned_away} == {"ann"}
    assert logins.verify("ann", "right", "later").role == "operator"
