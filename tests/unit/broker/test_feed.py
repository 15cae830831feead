"""Events for whoever listens."""

from __future__ import annotations

import asyncio
import threading

import pytest

from callboard_broker.services.feed import BACKLOG, BACKLOG_BYTES, LISTENERS, Feed
from callboard_core.errors import Overloaded


async def take(listener, count: int) -> list[bytes]:
    found = []
    async for happening in listener.events(5.0):
        assert happening is not None
        found.append(happening.data)
        if len(found) == count:
            break
    return found


async def test_events_from_another_thread_arrive_in_order():
    feed = Feed(asyncio.get_running_loop())
    listener = feed.listen(frozenset({"state"}))
    thread = threading.Thread(target=lambda: [feed.publish("state", b"%d" % n) for n in range(1000)])
    thread.start()
    assert await take(listener, 1000) == [b"%d" % n for n in range(1000)]
    thread.join()


async def test_only_the_events_asked_for_arrive():
    feed = Feed(asyncio.get_running_loop())
    listener = feed.listen(frozenset({"status"}))
    assert feed.wants("status")
    assert not feed.wants("state")
    feed.publish("state", b"no")
    feed.publish("status", b"yes")
    assert await take(listener, 1) == [b"yes"]


async def test_who_does_not_keep_up_is_let_go_and_the_others_are_not_disturbed():
    feed = Feed(asyncio.get_running_loop())
    slow, quick = (feed.listen(frozenset({"state"})) for _ in range(2))
    for _ in range(BACKLOG // 100 + 1):
        for number in range(100):
            feed.publish("state", b"%d" % number)
        assert len(await take(quick, 100)) == 100
    assert (feed.let_go, feed.listeners) == (1, 1)
    assert [happening async for happening in slow.events(5.0)] == []


async def test_what_waits_for_a_listener_is_bounded_in_bytes():
    feed = Feed(asyncio.get_running_loop())
    feed.listen(frozenset({"state"}))
    for _ in range(BACKLOG_BYTES // 1_000_000 + 1):
        feed.publish("state", b"x" * 1_000_000)
    await asyncio.sleep(0)
    assert (feed.let_go, feed.listeners) == (1, 0)


async def test_what_waits_for_the_event_loop_is_bounded():
    feed = Feed(asyncio.get_running_loop())
    listener = feed.listen(frozenset({"state"}))
    for _ in range(60_000):
        feed.publish("state", b"")
    assert feed.left_out == 10_000
    feed.leave(listener)


async def test_silence_is_told():
    feed = Feed(asyncio.get_running_loop())
    async for happening in feed.listen(frozenset({"state"})).events(0.01):
        assert happening is None
        break


async def test_closing_ends_every_stream():
    feed = Feed(asyncio.get_running_loop())
    listener = feed.listen(frozenset({"state"}))
    feed.publish("state", b"x")
    feed.close()
    assert [happening async for happening in listener.events(5.0)] == []
    assert feed.listeners == 0


async def test_the_number_of_listeners_is_bounded():
    feed = Feed(asyncio.get_running_loop())
    listeners = [feed.listen(frozenset()) for _ in range(LISTENERS)]
    with pytest.raises(Overloaded):
        feed.listen(frozenset())
    feed.leave(listeners[0])
    feed.listen(frozenset())
