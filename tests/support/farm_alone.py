"""The board's farm without a broker: real database, and slots that a test speaks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callboard_broker.services.farm.api import FarmApi
from callboard_broker.services.farm.jobtypes import load_job_types
from callboard_broker.services.farm.service import Farm
from callboard_broker.store.database import Database
from callboard_core.cards import SlotCard
from callboard_core.errors import CallboardError
from callboard_core.farm.messages import AttemptCall, AttemptEvent
from callboard_core.settings import Farm as Settings

__all__ = ["FarmAlone", "farm_alone"]


class Slots:
    """A link whose every call is answered at once, as by slots that take what they are given."""

    site, connected = "callboard", True

    def __init__(self) -> None:
        self.given: list[tuple[str, str, dict[str, Any]]] = []
        self.told: list[tuple[str, str, str]] = []
        self.changed = threading.Condition()

    def call(self, address: Any, args: dict[str, Any], *, timeout: float) -> Future[Any]:
        del timeout
        future: Future[Any] = Future()
        with self.changed:
            self.told.append((address.node, address.name, args["do"]))
            if args["do"] == "assign":
                self.given.append((address.node, address.name, args["assignment"]))
            self.changed.notify_all()
        future.set_result(
            {"accepted": True, "attempts": []} if args["do"] == "report" else {"accepted": True}
        )
        return future

    def post(self, *args: Any, **more: Any) -> None:
        """Events are of no interest here."""


class FarmAlone:
    """A farm, its API, and what its slots were given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begin()

    def begin(self) -> None:
        """Start (again) on what the database holds."""
        self.slots = Slots()
        self.settings = Settings()
        self.database = Database(f"sqlite:///{self.folder}/board.db")
        self.database.open()
        directory = SimpleNamespace(node=lambda node: None)
        self.farm = Farm(
            self.settings,
            database=self.database,
            link=self.slots,  # type: ignore[arg-type]
            directory=directory,  # type: ignore[arg-type]
            job_types=load_job_types(self.folder / "jobtypes"),
        )
        with self.database.read() as connection:
            self.farm.load(connection)
        self.farm.start()
        self.api = FarmApi(self.farm, self.settings)

    def end(self) -> None:
        """Stop it; nothing is saved by this."""
        self.farm.stop()
        self.database.close()

    def ask(self, item: str, action: str = "read", who: str = "ann", **more: Any) -> dict[str, Any]:
        """Ask the API."""
        return self.api.handle({"item": item, "action": action, **more}, who=who)

    def read(self, item: str, **filters: Any) -> list[dict[str, Any]]:
        """Read rows."""
        found: list[dict[str, Any]] = self.ask(item, filters=filters)["items"]
        return found

    def slot(self, node: str, name: str = "s1", engine: str = "simulated") -> None:
        """Have a slot appear."""
        card = SlotCard(name=name, epoch=1, engine=engine, tags=["quick"])
        self.farm.do(lambda: self.farm.roster.appear((node, name), card, live=True))

    def given(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until slots were given so many assignments; return them."""
        with self.slots.changed:
            assert self.slots.changed.wait_for(lambda: len(self.slots.given) >= count, 10), self.slots.told
            return [one for _, _, one in self.slots.given]

    def say(self, number: int, *events: dict[str, Any]) -> None:
        """Have the slot of an assignment send events."""
        with self.slots.changed:
            node, slot, assignment = self.slots.given[number]
        known = self.farm.core.book.attempts[assignment["attempt"]].seq
        made = [
            AttemptEvent(seq=known + place, t=time.time(), **event) for place, event in enumerate(events, 1)
        ]
        call = AttemptCall(attempt=assignment["attempt"], slot=slot, events=made)
        self.farm.take(call, node).result(10)

    def refused(self, *args: Any, **more: Any) -> str:
        """Ask for something that is refused; return code and message."""
        with pytest.raises(CallboardError) as caught:
            self.ask(*args, **more)
        return f"{caught.value.code}: {caught.value.message}"


@pytest.fixture
def farm_alone(tmp_path: Path) -> Iterator[FarmAlone]:
    """A farm that has just begun."""
    alone = FarmAlone(tmp_path)
    yield alone
    alone.end()
