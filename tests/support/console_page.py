"""A page of the console run by Streamlit itself, without a browser."""

from __future__ import annotations

import json
from pathlib import Path

from streamlit.testing.v1 import AppTest

import callboard_console.web
from support.console import FakeFeed, FakeLink, session

__all__ = ["ConsolePage"]

APP = Path(callboard_console.web.__file__).with_name("app.py")


class ConsolePage:
    """The console in one browser, as one user."""

    def __init__(self, role: str | None) -> None:
        self.feed, self.link = FakeFeed(), FakeLink()
        self.session = session(role, self.link) if role is not None else None
        self.app = AppTest.from_file(str(APP), default_timeout=30)

    def go(self, page: str = "overview", **query: str) -> ConsolePage:
        for key, value in query.items():
            self.app.query_params[key] = value
        self.app.switch_page(f"pages/{page}.py")
        return self.run()

    def run(self) -> ConsolePage:
        self.app.run()
        assert not self.app.exception, self.app.exception
        return self

    def seen(self, key: str) -> str:
        """The markup of a live region."""
        return next(data["html"] for data, id_ in self._regions() if id_.endswith(f"-{key}"))

    def all_seen(self) -> str:
        return "".join(data["html"] for data, _ in self._regions())

    def _regions(self) -> list[tuple[dict[str, str], str]]:
        found = self.app.get("bidi_component")
        return [(json.loads(each.proto.json), each.proto.id) for each in found]

    @property
    def sent(self) -> list[tuple[str, dict[str, object]]]:
        return [(str(address), args) for address, args, _ in self.link.calls]
