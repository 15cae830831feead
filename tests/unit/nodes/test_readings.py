"""callboard_nodes.readings."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from callboard_core.errors import Overloaded
from callboard_core.messages import Reading
from callboard_core.topics import Kind
from callboard_nodes.outbox import Outbox
from callboard_nodes.readings import Mode, Readings, batches
from callboard_nodes.segments import Record


class FakeLink:
    """Keeps what is published; acknowledges when told to."""

    def __init__(self):
        self.sent = []
        self.refuse = 0

    def publish(self, topic, payload, *, qos=0, retain=False):
        if self.refuse:
            self.refuse -= 1
            raise Overloaded("full")
        future = Future()
        self.sent.append((topic, payload, future))
        return future

    def acknowledge(self):
        for _, _, future in self.sent:
            if not future.done():
                future.set_result(None)


@pytest.fixture
def outbox(tmp_path):
    found = Outbox(tmp_path, grace=0)
    yield found
    found.close()


@pytest.fixture
def link():
    return FakeLink()


@pytest.fixture
def readings(outbox, link):
    async def heard():
        pass

    return Readings(outbox, link, site="callboard", node="shed", heard=heard)


def keep(readings, *times):
    found = [Reading(v=t, t=float(t)) for t in times]
    for one in found:
        readings.keep(Kind.SENSOR, "level", one)
    return found


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


async def go_live(readings, link):
    readings.connected()
    while readings.mode is not Mode.LIVE:
        await turns()
        link.acknowledge()


async def test_live_readings_leave_the_disk_when_the_broker_has_them(readings, link, outbox):
    await go_live(readings, link)
    *batch, _ = keep(readings, 1, 2, 3)
    state = Future()
    readings.send(Kind.SENSOR, "level", batch, state)
    assert outbox.waiting == 3
    ((topic, payload, _),) = link.sent
    assert topic == "callboard/shed/series/sensor/level"
    assert payload.t == [1.0, 2.0]
    link.acknowledge()
    assert outbox.waiting == 1
    state.set_result(None)
    assert outbox.waiting == 0
    readings.close()


async def test_what_is_refused_or_cancelled_stays_on_the_disk(readings, link, outbox):
    await go_live(readings, link)
    for end in (lambda state: state.cancel(), lambda state: state.set_exception(Overloaded("full"))):
        keep(readings, 1)
        state = Future()
        readings.send(Kind.SENSOR, "level", [], state)
        end(state)
    assert outbox.waiting == 2
    readings.close()


async def test_offline_nothing_is_published_and_everything_follows_in_order(readings, link, outbox):
    readings.disconnected()
    for t in range(5):
        *batch, _ = keep(readings, 10 * t, 10 * t + 1)
        readings.send(Kind.SENSOR, "level", batch, Future())
    assert link.sent == []
    await go_live(readings, link)
    assert [t for _, payload, _ in link.sent for t in payload.t] == sorted(
        10.0 * t + one for t in range(5) for one in (0, 1)
    )
    assert outbox.waiting == 0
    readings.close()


async def test_a_reading_the_disk_refused_is_sent_even_offline(readings, link, outbox, monkeypatch):
    readings.disconnected()
    monkeypatch.setattr(outbox, "append", lambda _: None)
    *batch, _ = keep(readings, 1, 2)
    readings.send(Kind.SENSOR, "level", batch, Future())
    assert [payload.t for _, payload, _ in link.sent] == [[1.0]]
    readings.close()


async def test_a_backlog_the_broker_refuses_is_tried_again(readings, link, outbox, monkeypatch, caplog):
    monkeypatch.setattr("callboard_nodes.readings._RETRY", 0.01)
    keep(readings, 1, 2, 3)
    link.refuse = 2
    await asyncio.wait_for(go_live(readings, link), 5)
    assert outbox.waiting == 0
    assert "trying again" in caplog.text
    readings.close()


async def test_nothing_is_sent_before_somebody_hears_it(outbox, link):
    there = asyncio.Event()
    readings = Readings(outbox, link, site="callboard", node="shed", heard=there.wait)
    keep(readings, 1)
    readings.connected()
    await turns()
    assert (readings.mode, link.sent) == (Mode.DRAINING, [])
    there.set()
    await turns()
    assert len(link.sent) == 1
    readings.close()


def test_batches_hold_one_thing_each_and_are_bounded():
    records = [Record(Kind.SENSOR, name, float(t), t) for t in range(1200) for name in ("a", "b")]
    found = [(name, len(part)) for _, name, part in batches(records)]
    assert found == [("a", 500), ("a", 500), ("a", 200), ("b", 500), ("b", 500), ("b", 200)]
    long = [Record(Kind.SENSOR, "text", float(t), "x" * 16_000) for t in range(10)]
    assert [len(part) for _, _, part in batches(long)] == [2, 2, 2, 2, 2]


async def test_a_backlog_goes_on_after_whatever_went_wrong(readings, link, outbox, monkeypatch, caplog):
    monkeypatch.setattr("callboard_nodes.readings._RETRY", 0)
    keep(readings, 1)
    oldest, failures = outbox.oldest, [OSError("bad sector")]
    monkeypatch.setattr(outbox, "oldest", lambda: oldest() if not failures else _raise(failures.pop()))
    await asyncio.wait_for(go_live(readings, link), 10)
    assert "sending the readings that waited failed" in caplog.text
    assert [payload.v for _, payload, _ in link.sent] == [[1]]


async def test_a_stored_record_that_is_no_reading_does_not_hold_up_the_others(readings, link, outbox, caplog):
    keep(readings, 1)
    outbox.append([Record(Kind.SENSOR, "level", -1e300, 2)])
    keep(readings, 3)
    await asyncio.wait_for(go_live(readings, link), 10)
    assert [v for _, payload, _ in link.sent for v in payload.v] == [1, 3]
    assert "a stored reading of sensor level is dropped" in caplog.text


async def test_the_disk_is_synced_again_after_a_sync_that_failed(readings, outbox, monkeypatch):
    synced = asyncio.Event()
    loop, failures = asyncio.get_running_loop(), [OSError("no")]

    def sync():
        if failures:
            raise failures.pop()
        loop.call_soon_threadsafe(synced.set)

    monkeypatch.setattr("callboard_nodes.readings._SYNC", 0.01)
    monkeypatch.setattr(outbox, "sync", sync)
    readings.disconnected()
    await asyncio.wait_for(synced.wait(), 10)
    readings.close()


def _raise(error):
    raise error
