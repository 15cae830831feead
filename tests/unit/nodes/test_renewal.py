"""Looking after an enrolment begins and ends with the node."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from callboard_nodes.enrolment.renewal import Renewing


class Link:
    """A link that tells of its connects, and never has one."""

    site = "callboard"
    connected = False

    def on_connect(self, hook: Any) -> None:
        self.connect = hook

    def subscribe(self, topic_filter: str, handler: Any) -> None:
        self.told = handler


@pytest.mark.parametrize("turns", range(5))
async def test_a_node_that_ends_while_it_connects_ends(turns):
    link = Link()
    renewing = Renewing(SimpleNamespace(link=link), SimpleNamespace())
    renewing.start()
    await asyncio.sleep(0)
    link.connect()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await renewing.stop()
