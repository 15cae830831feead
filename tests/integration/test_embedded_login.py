"""Log-ins on the embedded engine: checked off the loop, once, and never a reason to stop."""

from __future__ import annotations

import threading
from typing import NamedTuple

from callboard_core.errors import Failed
from support import packets as p
from support import wire
from support.embedded import embedded_engine


class User(NamedTuple):
    name: str
    role: str


class Slow:
    """Users whose password is their name; verifying lasts until the test allows it to end."""

    def __init__(self) -> None:
        self.asked, self.allowed = threading.Event(), threading.Event()
        self.verified: list[str] = []

    def recall(self, username: str, password: str) -> User | None:
        return User(username, "viewer") if username == password and username in self.verified else None

    def verify(self, username: str, password: str) -> User | None:
        self.asked.set()
        assert self.allowed.wait(20)
        self.verified.append(username)
        return User(username, "viewer") if username == password else None

    def roles(self) -> dict[str, str]:
        return dict.fromkeys(self.verified, "viewer")

    def marks(self) -> dict[str, str]:
        return self.roles()


class Broken(Slow):
    def recall(self, username: str, password: str) -> User | None:
        raise Failed("the users file is damaged")


def test_a_slow_check_does_not_keep_others_waiting_and_is_made_once() -> None:
    users = Slow()
    users.verified.append("known")
    with (
        embedded_engine(users=users) as engine,
        wire.connect(engine.address(), "known", username="known", password="known") as known,
        wire.Wire(engine.address()) as new,
    ):
        new.send(p.connect("new", username="new", password="new"))
        assert users.asked.wait(20)
        assert known.is_quiet()
        users.allowed.set()
        assert new.receive().code == 0
        with wire.connect(engine.address(), "again", username="new", password="new"):
            assert users.verified == ["known", "new"]


def test_a_client_that_gives_up_while_it_is_checked_leaves_nothing() -> None:
    users = Slow()
    with embedded_engine(users=users) as engine:
        with wire.Wire(engine.address()) as impatient:
            impatient.send(p.connect("gone", username="gone", password="gone"))
            assert users.asked.wait(20)
        users.allowed.set()
        with wire.connect(engine.address(), "after", username="after", password="after") as after:
            assert after.is_quiet()
            assert engine.call(lambda: list(engine.engine.hub.sessions)) == ["after"]


def test_200_wrong_passwords_leave_no_session() -> None:
    users = Slow()
    users.allowed.set()
    with embedded_engine(users=users) as engine:
        for number in range(200):
            with wire.Wire(engine.address()) as wrong:
                assert wrong.connect(f"c{number}", username="a", password="b").code == 4
        assert engine.call(lambda: (len(engine.engine.hub.sessions), len(engine.engine.hub.connections))) == (
            0,
            0,
        )


def test_users_that_cannot_be_read_refuse_log_ins_and_nothing_else() -> None:
    with embedded_engine(users=Broken()) as engine:
        for _ in range(2):
            with wire.Wire(engine.address()) as client:
                assert client.connect("a", username="a", password="a").code == 3


def test_no_user_name_is_not_authorised() -> None:
    with embedded_engine(users=Slow()) as engine, wire.Wire(engine.address()) as client:
        assert client.connect("a").code == 5
