"""The asyncio face of a link."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self

from pydantic import JsonValue

from callboard_core.link.calls import new_id
from callboard_core.link.inbox import Handler
from callboard_core.link.link import Link
from callboard_core.link.subscriptions import Subscription
from callboard_core.link.values import Message
from callboard_core.messages import Payload
from callboard_core.topics import Address

__all__ = ["AsyncLink", "Messages"]

#: Messages that wait for a slow reader; past it the oldest is dropped and counted.
BACKLOG = 10_000


class Messages:
    """Messages of one filter as they come: ``async for message in link.messages(filter)``.

    Attributes:
        dropped: how many messages were lost because the reader was too slow.
    """

    def __init__(self, link: Link, topic_filter: str, qos: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Message] = deque(maxlen=BACKLOG)
        self._arrived = asyncio.Event()
        self._closed = False
        self.dropped = 0
        self._subscription = link.subscribe(topic_filter, self._receive, qos=qos)

    def close(self) -> None:
        """Unsubscribe and end the iteration."""
        self._closed = True
        self._subscription.cancel()
        self._arrived.set()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    async def __aenter__(self) -> Self:
        await asyncio.wrap_future(self._subscription.ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _receive(self, message: Message) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._append, message)

    def _append(self, message: Message) -> None:
        self.dropped += len(self._waiting) == BACKLOG
        self._waiting.append(message)
        self._arrived.set()


class AsyncLink:
    """A :class:`Link` whose waiting is awaited.

    ``async with AsyncLink(client_id=…, endpoint=…) as link`` starts a link of its own (the arguments are the
    link's); ``AsyncLink(link)`` borrows one that somebody else starts and stops.
    """

    def __init__(self, link: Link | None = None, *, connect_timeout: float = 10.0, **settings: Any) -> None:
        self._owned = link is None
        self.link = link or Link(**settings)
        self._timeout = connect_timeout

    async def __aenter__(self) -> Self:
        if self._owned:
            self.link.start()
            try:
                await asyncio.to_thread(self.link.wait_connected, self._timeout)
            except BaseException:
                await asyncio.to_thread(self.link.stop)
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owned:
            await asyncio.to_thread(self.link.stop)

    @property
    def connected(self) -> bool:
        """True while the broker is there and the subscriptions are in force."""
        return self.link.connected

    async def publish(
        self,
        topic: str,
        payload: bytes | Payload,
        *,
        qos: int = 0,
        retain: bool = False,
        expires_in: float | None = None,
    ) -> None:
        """Send a message and wait until it is sent (QoS 0) or acknowledged (QoS 1)."""
        sent = self.link.publish(topic, payload, qos=qos, retain=retain, expires_in=expires_in)
        await asyncio.wrap_future(sent)

    async def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 1) -> Subscription:
        """Receive messages on the link's dispatcher thread; returns once the broker has granted it."""
        subscription = self.link.subscribe(topic_filter, handler, qos=qos)
        await asyncio.wrap_future(subscription.ready)
        return subscription

    def messages(self, topic_filter: str, *, qos: int = 1) -> Messages:
        """Receive messages in this task: ``async for message in link.messages(filter)``."""
        return Messages(self.link, topic_filter, qos)

    async def call(
        self,
        address: Address,
        args: Mapping[str, JsonValue],
        *,
        timeout: float,  # noqa: ASYNC109 - the callee is told too
        on_progress: Callable[[float], None] | None = None,
        on_ack: Callable[[], None] | None = None,
    ) -> JsonValue:
        """Call a thing and wait for its result; cancelling the task asks the callee to interrupt the work."""
        call_id = new_id()
        future = self.link.call(
            address, args, timeout=timeout, on_progress=on_progress, on_ack=on_ack, call_id=call_id
        )
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self.link.cancel(address, call_id)
            raise

    async def round_trip(self, timeout: float) -> None:  # noqa: ASYNC109 - the link keeps the time
        """Wait until everything that was on its way to us has been handled."""
        await asyncio.wrap_future(self.link.round_trip(timeout))
