"""Log-ins on the embedded engine: checked off the loop, once, and never a reason to stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import NamedTuple

import pytest

from callboard_core.errors import Failed
from support import packets as p
from support import wire
from support.boards import eventually
from support.embedded import embedded_engine
from support.engines import Options, running
from support.users import password


class User(NamedTuple):
    name: str
    role: str
    client_id: str = ""


class Slow:
    """Users whose password is their name; verifying lasts until the test allows it to end."""

    def __init__(self) -> None:
        self.asked, self.allowed = threading.Event(), threading.Event()
        self.verified: list[str] = []

    def recall(self, username: str, password: str) -> User | None:
        return User(username, "viewer") if username == password and username in self.verified else None

    def recognise(self, username: str, password: str) -> User | None:
        return None

    def remembers(self, username: str) -> bool:
        return username in self.verified

    def verify(self, username: str, password: str) -> User | None:
        self.asked.set()
        assert self.allowed.wait(20)
        self.verified.append(username)
        return User(username, "viewer") if username == password else None

    def find(self, name: str) -> User | None:
        return User(name, "viewer") if name in self.verified else None

    def owner(self, client_id: str) -> str | None:
        return None

    def mark(self, name: str) -> str:
        return "mark" if name in self.verified else ""

    def marks(self) -> dict[str, str]:
        return dict.fromkeys(self.verified, "mark")


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


def test_a_guess_is_told_to_who_keeps_the_log_also_if_nobody_waits_for_the_answer() -> None:
    users = Slow()
    with embedded_engine(users=users) as engine:
        told: Queue[str] = Queue()
        watch = engine.engine.hub.watch
        assert watch is not None
        watch.kept_out = lambda connection, reason: told.put(f"{connection.login.client_id} {reason.name}")
        with wire.Wire(engine.address()) as hasty:
            hasty.send(p.connect("hasty", username="ann", password="a guess"))
            assert users.asked.wait(20)
        eventually(lambda: not engine.call(lambda: list(engine.engine.hub.connections)))
        users.allowed.set()
        assert told.get(timeout=20) == "hasty BAD_USER_NAME_OR_PASSWORD"


def test_200_wrong_passwords_leave_no_session() -> None:
    users = Slow()
    users.allowed.set()
    with embedded_engine(users=users) as engine:
        clients = [wire.Wire(engine.address()) for _ in range(200)]
        for number, wrong in enumerate(clients):
            wrong.send(p.connect(f"c{number}", username="a", password="b"))
        for wrong in clients:
            assert wrong.receive().code == 4
            assert wrong.is_closed()
            wrong.close()
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


class Flood:
    """Clients that log in from one address with wrong passwords, again and again, until the block ends."""

    def __init__(self, address: tuple[str, int], source: str, names: Callable[[int], str]) -> None:
        self._address, self._source, self._names = address, source, names
        self.refused = 0
        self._raging = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        assert self._raging.wait(20)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        clients = [asyncio.create_task(self._try_for_ever(number)) for number in range(150)]
        await self._ended.wait()
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _try_for_ever(self, number: int) -> None:
        for attempt in itertools.count():
            with contextlib.suppress(ConnectionError):
                reader, writer = await asyncio.open_connection(*self._address, local_addr=(self._source, 0))
                with contextlib.closing(writer):
                    name = self._names(number * 100_000 + attempt)
                    writer.write(p.connect(f"f{number}", username=name, password=f"{number} {attempt}"))
                    answered = await reader.read(4)
                    self.refused += bool(answered)
            if self.refused > 20:
                self._raging.set()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("127.0.0.1", lambda number: f"nobody-{number}"),
        ("127.0.0.1", lambda number: ("viewer", "operator", "node")[number % 3]),
        ("127.0.0.2", lambda number: "admin"),
    ],
    ids=["unknown names", "other users", "his name from elsewhere"],
)
def test_an_honest_client_gets_in_while_wrong_passwords_rain(
    tmp_path: Path, source: str, names: Callable[[int], str]
) -> None:
    """Its credential is unknown to this broker so far; the CONNECT time-out (10 s) is what would refuse it."""
    with running("embedded", tmp_path, Options(access=True)) as engine, Flood(engine.address, source, names):
        for number in range(2):
            with wire.Wire(engine.address) as honest:
                name = ("admin", "board")[number]
                assert honest.connect(f"honest{number}", username=name, password=password(name)).code == 0


def test_who_guesses_the_same_name_from_the_same_address_does_not_keep_its_owner_out(tmp_path: Path) -> None:
    """Nothing tells them apart, so it may take several attempts; the test's time-out ends this."""
    with (
        running("embedded", tmp_path, Options(access=True)) as engine,
        Flood(engine.address, "127.0.0.1", lambda number: "admin"),
    ):
        code = -1
        while code:
            with wire.Wire(engine.address) as honest, contextlib.suppress(ConnectionError):
                code = honest.connect("honest", username="admin", password=password("admin")).code
                assert code in {0, 3}


def test_who_guesses_is_not_let_in_at_once_when_he_is_right(tmp_path: Path) -> None:
    """Its owner is there, so the broker knows the password; who may try it a thousand times a second would find it."""
    with running("embedded", tmp_path, Options(access=True)) as engine, contextlib.ExitStack() as stack:
        owner = stack.enter_context(wire.Wire(engine.address))
        assert owner.connect("owner", username="admin", password=password("admin")).code == 0
        wires = [stack.enter_context(wire.Wire(engine.address)) for _ in range(30)]
        for number, one in enumerate(wires[:-1]):
            one.send(p.connect(f"guess{number}", username="admin", password=f"guess {number}"))
        assert wires[0].receive().code != 0
        wires[-1].send(p.connect("right", username="admin", password=password("admin")))
        with contextlib.suppress(TimeoutError):
            assert wires[-1].receive(timeout=1.0).code != 0
