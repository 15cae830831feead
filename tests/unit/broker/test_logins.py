"""Passwords become tokens, tokens become somebody."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import pytest

from callboard_broker.services.brake import Brake
from callboard_broker.services.logins import (
    CHECKED_AT_ONCE,
    LIFETIME,
    ONE_ADDRESS,
    PER_USER,
    STRANGERS,
    Logins,
    Person,
)
from callboard_core.errors import Overloaded, Unauthorized


@dataclass
class User:
    name: str
    role: str


ANN = Person("ann", "operator", frozenset({"read", "command"}), mark="ann")
BOB = Person("bob", "viewer", frozenset({"read"}), mark="bob")


class People:
    def __init__(self) -> None:
        self.known = {"ann": "operator", "bob": "viewer"}
        self.marks: dict[str, str] = {}
        self.seen: set[str] = set()

    def verify(self, username: str, password: str) -> User | None:
        role = self.known.get(username)
        if role is None or password != "right":
            return None
        self.seen.add(username)
        return User(username, role)

    def recall(self, username: str, password: str) -> User | None:
        return self.verify(username, password) if username in self.seen else None

    def recognise(self, username: str, password: str) -> User | None:
        return User("eve", "viewer") if (username, password) == ("eve", "random") else None

    def find(self, name: str) -> User | None:
        return User(name, self.known[name]) if name in self.known else None

    def rights(self, role: str) -> set[str]:
        return {"read", "command"} if role == "operator" else {"read"}

    def mark(self, name: str) -> str:
        return self.marks.get(name, name) if name in self.known else ""


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


def test_who_was_found_right_before_is_known_at_once_unless_too_many_failures_came_from_there(logins):
    assert logins.recall("ann", "right", "host") is None
    assert logins.verify("ann", "right", "host") == ANN
    assert logins.recall("ann", "right", "host") == ANN
    assert logins.recall("ann", "wrong", "host") is None
    for _ in range(3):
        with pytest.raises(Unauthorized):
            logins.verify("ann", "wrong", "attacker")
    assert logins.recall("ann", "right", "attacker") is None
    assert logins.recall("ann", "right", "host") == ANN


def test_a_password_tells_who_it_is(logins):
    assert logins.verify("ann", "right", "host") == ANN


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


def test_who_shows_a_password_that_the_board_made_never_waits(logins):
    for _ in range(20):
        with pytest.raises((Unauthorized, Overloaded)):
            logins.verify("eve", "wrong", "shared")
    assert logins.verify("eve", "random", "shared").username == "eve"


def test_guessing_at_a_name_from_many_addresses_is_slowed_down_but_not_where_its_owner_was(logins, clock):
    logins.verify("ann", "right", "home")
    for address in range(50):
        with pytest.raises(Unauthorized):
            logins.verify("ann", "wrong", str(address))
    with pytest.raises(Overloaded, match="try again in 1 s"):
        logins.verify("ann", "right", "another")
    assert logins.verify("ann", "right", "home").username == "ann"
    assert logins.verify("bob", "right", "another").username == "bob"
    clock.now += 1
    assert logins.verify("ann", "right", "another").username == "ann"


def test_a_token_is_good_until_it_expires_or_ends(logins, clock):
    first, second = (logins.begin(ANN) for _ in range(2))
    assert first.token != second.token
    assert logins.identify(first.token, "host") == ANN
    logins.end(first.token)
    with pytest.raises(Unauthorized):
        logins.identify(first.token, "host")
    clock.now += LIFETIME + 1
    with pytest.raises(Unauthorized, match="log in again"):
        logins.identify(second.token, "host")


@pytest.mark.parametrize("token", ["", "x", "é" * 1000])
def test_a_made_up_token_is_nobodys(logins, token):
    with pytest.raises(Unauthorized):
        logins.identify(token, "host")


def test_a_token_has_the_role_of_today_and_ends_with_its_user(logins, people):
    token = logins.begin(ANN).token
    people.known["ann"] = "viewer"
    assert not logins.identify(token, "host").may_command
    del people.known["ann"]
    with pytest.raises(Unauthorized, match="may not log in any more"):
        logins.identify(token, "host")


def test_a_token_ends_with_the_password_it_was_given_for(logins, people):
    token = logins.begin(ANN).token
    people.marks["ann"] = "another"
    with pytest.raises(Unauthorized, match="has changed"):
        logins.identify(token, "host")


def test_whose_request_goes_on_is_checked_again(logins, people):
    logins.check(ANN)
    person = logins.identify(logins.begin(ANN).token, "host")
    logins.check(person)
    people.known["ann"] = "viewer"
    with pytest.raises(Unauthorized, match="less than before"):
        logins.check(person)
    people.marks["ann"] = "another"
    with pytest.raises(Unauthorized):
        logins.check(ANN)


def test_all_tokens_of_a_user_end_at_once(logins):
    gone, other = logins.begin(ANN).token, logins.begin(BOB).token
    logins.end_all("ann")
    with pytest.raises(Unauthorized):
        logins.identify(gone, "host")
    assert logins.identify(other, "host") == BOB


def test_who_is_refused_is_told_of(people, clock):
    told: list[tuple[str, ...]] = []
    logins = Logins(people, Notes(), brake=Brake(free=1), told=lambda *what: told.append(what), clock=clock)
    for _ in range(2):
        with pytest.raises((Unauthorized, Overloaded)):
            logins.verify("ann", "wrong", "attacker")
    assert [(name, address, code) for name, address, code, _ in told] == [
        ("ann", "attacker", "unauthorized"),
        ("ann", "attacker", "overloaded"),
    ]


def test_a_token_that_is_not_valid_is_told_of_once_an_hour(people, clock):
    told: list[tuple[str, ...]] = []
    logins = Logins(people, Notes(), brake=Brake(), told=lambda *what: told.append(what), clock=clock)
    for token, address in (("gone", "one"), ("gone", "one"), ("gone", "two"), ("other", "one")):
        with pytest.raises(Unauthorized):
            logins.identify(token, address)
    assert [(name, address, code) for name, address, code, _ in told] == [
        ("", "one", "unauthorized"),
        ("", "two", "unauthorized"),
        ("", "one", "unauthorized"),
    ]
    clock.now += 3_601
    with pytest.raises(Unauthorized):
        logins.identify("gone", "one")
    assert len(told) == 4


def test_the_tokens_of_one_user_are_bounded_and_the_oldest_goes(logins, clock):
    tokens = []
    for _ in range(PER_USER + 5):
        clock.now += 1
        tokens.append(logins.begin(BOB).token)
    with pytest.raises(Unauthorized):
        logins.identify(tokens[4], "host")
    assert logins.identify(tokens[5], "host").username == "bob"


class Slow(People):
    """Checks that last until the test lets them end."""

    def __init__(self) -> None:
        super().__init__()
        self.going = threading.Event()

    def verify(self, username: str, password: str) -> User | None:
        self.going.wait()
        return super().verify(username, password)

    def recall(self, username: str, password: str) -> User | None:
        return People.verify(self, username, password)


def test_a_flood_of_logins_is_turned_away_instead_of_holding_up_the_rest(clock):
    slow = Slow()
    logins = Logins(slow, Notes(), brake=Brake(), clock=clock)
    with ThreadPoolExecutor(STRANGERS + 1) as pool:
        asked = [pool.submit(logins.verify, "ann", "right", str(n)) for n in range(STRANGERS + 1)]
        turned_away = next(as_completed(asked))
        assert isinstance(turned_away.exception(), Overloaded)
        slow.going.set()
        assert {one.result().username for one in asked if one is not turned_away} == {"ann"}
    assert logins.verify("ann", "right", "later").role == "operator"


def test_a_flood_from_one_address_keeps_nobody_else_out(clock):
    slow = Slow()
    logins = Logins(slow, Notes(), brake=Brake(), clock=clock)
    with ThreadPoolExecutor(ONE_ADDRESS + 2) as pool:
        flood = [pool.submit(logins.verify, f"u{n}", "wrong", "attacker") for n in range(ONE_ADDRESS + 1)]
        assert isinstance(next(as_completed(flood)).exception(), Overloaded)
        honest = pool.submit(logins.verify, "ann", "right", "home")
        slow.going.set()
        assert honest.result().username == "ann"
        assert {type(one.exception()) for one in flood} == {Overloaded, Unauthorized}


def test_who_was_there_before_gets_in_although_the_room_is_full_and_who_guesses_there_is_counted(clock):
    slow = Slow()
    logins = Logins(slow, Notes(), brake=Brake(free=3), clock=clock)
    slow.going.set()
    logins.verify("ann", "right", "home")
    slow.going.clear()
    with ThreadPoolExecutor(CHECKED_AT_ONCE) as pool:
        flood = [pool.submit(logins.verify, f"u{n}", "wrong", "home") for n in range(ONE_ADDRESS + 1)]
        assert isinstance(next(as_completed(flood)).exception(), Overloaded), "the room is full"
        assert logins.verify("ann", "right", "home").username == "ann"
        told = [str(_answer(logins, "ann", "wrong")) for _ in range(4)]
        slow.going.set()
    assert "too many failed logins" in told[-1]


def _answer(logins: Logins, name: str, password: str) -> Exception | None:
    try:
        logins.verify(name, password, "home")
    except (Overloaded, Unauthorized) as error:
        return error
    return None
