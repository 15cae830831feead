"""Links for tests, stopped at the end whatever happened, and a list that can be waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import pytest

from callboard_core.link import Backoff, Endpoint, Link

__all__ = ["FAST", "Collector", "MakeLink", "links"]

_T = TypeVar("_T")

#: Reconnects at once, and tries a refused credential again soon.
FAST = Backoff(first=0.02, cap=0.2, refused=0.2, steady=0.5)

MakeLink = Callable[..., Link]


class Collector(Generic[_T]):
    """Collects what it is called with; ``wait`` waits until a condition of the list holds."""

    def __init__(self) -> None:
        self.items: list[_T] = []
        self._changed = threading.Condition()

    def __call__(self, item: _T) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait(self, enough: Callable[[list[_T]], object], timeout: float = 30.0) -> list[_T]:
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.items), timeout), (
                f"only {len(self.items)}: {self.items[-3:]}"[:500]
            )
            return list(self.items)

    def wait_for(self, count: int, timeout: float = 30.0) -> list[_T]:
        return self.wait(lambda items: len(items) >= count, timeout)


@pytest.fixture
def links() -> Iterator[MakeLink]:
    """Make links: ``links("name", endpoint, start=False, **settings)``; by default started and connected."""
    made: list[Link] = []

    def make(
        client_id: str, endpoint: Endpoint | Callable[[], Endpoint], *, start: bool = True, **settings: Any
    ) -> Link:
        link = Link(client_id=client_id, endpoint=endpoint, **{"reconnect": FAST, **settings})
        made.append(link)
        if start:
            link.start()
            link.wait_connected(10)
        return link

    yield make
    for link in made:
        link.stop(timeout=1.0)
