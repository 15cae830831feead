"""The way to the board over the node's link: events are told there, files stored and fetched."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from pydantic import JsonValue, ValidationError

from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import CallboardError, TimedOut, Unavailable
from callboard_core.farm.messages import ATTEMPT_WORKER, AttemptCall, AttemptReply, as_args
from callboard_core.link import Link
from callboard_core.messages import describe
from callboard_core.topics import BOARD, Address, Kind, Leaf
from callboard_nodes.aside import aside
from callboard_nodes.slots.bench import Source
from callboard_nodes.slots.delivery import Store

__all__ = ["FileStore", "Office"]

#: Seconds the board has to answer for events.
_PATIENCE = 10.0
#: Seconds for an answer that is still to come after the board, or the broker, has come back.
_ANSWER = 1.0
#: Files that are stored at a time.
_UPLOADS = 4


@runtime_checkable
class FileStore(Store, Source, Protocol):
    """The board's artifacts, as the node's link has them."""

    def reach(self) -> None:
        """Find the board and log in there; waits."""


class Office:
    """The way to the board, over the node's link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._address = Address(link.site, BOARD, Leaf.COMMAND, Kind.WORKER, ATTEMPT_WORKER)
        self._uploads = asyncio.Semaphore(_UPLOADS)
        self._came = asyncio.Event()

    def connected(self) -> None:
        """Let everybody who waits try again."""
        came, self._came = self._came, asyncio.Event()
        came.set()

    @property
    def store(self) -> FileStore:
        """Where files are stored and fetched."""
        store = self._link.artifacts
        if not isinstance(store, FileStore):
            raise Unavailable("this node has no way to the board's artifacts")
        return store

    async def greet(self) -> None:
        """Find the board's artifacts and log in there before there is work, so that the first task need not wait."""
        with contextlib.suppress(
            CallboardError, OSError, http.client.HTTPException
        ):  # the first task says what is wrong
            await aside(self.store.reach)

    async def tell(self, call: AttemptCall) -> AttemptReply:
        """See :class:`~callboard_nodes.slots.delivery.Office`."""
        answer = await self._answer(
            asyncio.wrap_future(self._link.call(self._address, as_args(call), timeout=_PATIENCE))
        )
        try:
            return AttemptReply.model_validate(answer)
        except ValidationError as error:
            raise describe(error) from None

    async def _answer(self, call: asyncio.Future[JsonValue]) -> JsonValue:
        """Wait for an answer; when the board has come back meanwhile, not for long: the call may have died with it."""
        coming = asyncio.ensure_future(self._came.wait())
        either: set[asyncio.Future[Any]] = {call, coming}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            async with asyncio.timeout(_ANSWER):
                return await call
        except TimeoutError:
            raise TimedOut("the board was away and has come back") from None
        finally:
            coming.cancel()

    async def put(self, store: Callable[[], ArtifactRef]) -> ArtifactRef:
        """See :class:`~callboard_nodes.slots.delivery.Office`."""
        async with self._uploads:
            return await aside(store)

    async def pause(self, seconds: float) -> None:
        """See :class:`~callboard_nodes.slots.delivery.Office`."""
        await asyncio.wait([asyncio.ensure_future(self._came.wait())], timeout=seconds)
