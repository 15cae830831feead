from __future__ import annotations

import os
from pathlib import Path

import pytest

from callboard_broker.errors import StoreBusy, StoreUnavailable
from callboard_broker.mqtt import durable, hub
from callboard_broker.mqtt.log import Damaged, Log
from callboard_broker.mqtt.records import split
from support import packets as p
from support.hubs import Broker, Client
from support.packets import Will


def restarted(broker: Broker, folder: Path, **options: float) -> Broker:
    broker.crash()
    again = Broker(folder, **options)  # type: ignore[arg-type]
    again.hub.now = broker.hub.now
    return again


def test_retained_messages_come_back_and_cleared_ones_do_not(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    writer = broker.client("w", level=5)
    writer.publish(
        "a", b"1", qos=1, retain=True, props={"content_type": "text", "user_property": [("k", "v")]}
    )
    writer.publish("b", b"2", retain=True)
    writer.publish("b", b"", retain=True)
    again = restarted(broker, tmp_path)
    (_, message) = again.client("r", level=5).subscribe(("#", 1))
    assert (message.topic, message.payload, message.qos, message.retain) == ("a", b"1", 1, True)
    assert message.props == {"content_type": "text", "user_property": [("k", "v")]}


def test_sessions_come_back_with_subscriptions_queue_and_what_was_in_flight(tmp_path: Path) -> None:
    broker = Broker(tmp_path, inflight=2)
    broker.client("r", clean=False).subscribe(("y", 1))
    broker.hub.sessions["r"].packet_id = 500  # a long life behind it
    reader, writer = broker.client("r", clean=False), broker.client("w")
    reader.subscribe(("x", 2), ("$share/g/y", 1))
    reader.feed(p.unsubscribe(["y"]))
    for number in range(4):
        writer.publish("x", b"%d" % number, qos=2)
    first, second = [packet for packet in reader.packets() if packet.kind == p.PUBLISH]
    reader.feed(p.ack(p.PUBREC, first.pid))
    again = restarted(broker, tmp_path)
    session = again.hub.sessions["r"]
    assert (list(session.inflight), len(session.queue)) == ([first.pid, second.pid], 2)
    back = again.client()
    assert back.connect("r", clean=False).session_present
    assert [session.inflight[number].released for number in (first.pid, second.pid)] == [True, False]  # type: ignore[union-attr]
    assert [delivery.message.payload for delivery in session.inflight.values() if delivery] == [
        b"0",
        b"1",
        b"2",
        b"3",
    ]
    assert set(session.subscriptions) == {"x", "$share/g/y"}
    assert again.hub.tree.count == 2


def test_what_was_acknowledged_by_the_reader_is_gone(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    reader, writer = broker.client("r", clean=False), broker.client("w")
    reader.subscribe(("x", 1), ("y", 0))
    writer.publish("x", b"1", qos=1)
    assert reader.payloads() == [b"1"]
    reader.feed(p.unsubscribe(["y"]))
    again = restarted(broker, tmp_path)
    session = again.hub.sessions["r"]
    assert not session.inflight
    assert not session.queue
    assert list(session.subscriptions) == ["x"]


def test_a_qos_2_message_repeated_after_a_crash_is_passed_on_once(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.client("r", clean=False).subscribe(("x", 1))
    writer = broker.client("w", clean=False)
    raw = p.publish("x", b"once", qos=2, pid=7)
    writer.feed(raw)
    again = restarted(broker, tmp_path)
    back = again.client("w", clean=False)
    assert back.feed(raw)[0].kind == p.PUBREC
    session = again.hub.sessions["r"]
    assert len(session.queue) + len(session.inflight) == 1


def test_clean_sessions_leave_nothing(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    client = broker.client("a")
    client.subscribe(("#", 2))
    client.publish("x", qos=1)
    again = restarted(broker, tmp_path)
    assert not again.hub.sessions


def test_nothing_is_acknowledged_before_it_is_written(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    writer = broker.client("w")
    writer.connection.receive(p.publish("x", b"1", qos=1, pid=1, retain=True) + p.publish("y", qos=1, pid=2))
    assert writer.connection.out == []
    assert [packet.pid for packet in writer.feed()] == [1, 2]


def test_the_will_of_a_client_that_died_with_the_broker_is_published_in_time(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.client("gone-too", will=Will("w/1", b"lost", retain=True))
    broker.client("back-soon", will=Will("w/2", b"lost", retain=True))
    broker.client("clean", will=Will("w/3", b"lost", retain=True)).feed(p.disconnect())
    again = restarted(broker, tmp_path, will_grace=10)
    again.wait(5)
    assert again.client().connect("back-soon", keepalive=0).code == 0
    again.wait(6)
    assert list(again.hub.retained.messages) == ["w/1"]
    assert set(again.hub.sessions) == {"back-soon"}


def test_sessions_of_users_who_are_gone_do_not_come_back(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.client("a", user="gone", clean=False)
    broker.client("b", user="here", clean=False)
    again = restarted(broker, tmp_path)
    assert set(again.hub.sessions) == {"b"}


def test_a_batch_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    writer = broker.client("w")
    for number in range(3):
        writer.publish(f"{number}", b"x" * 100, retain=True, qos=1)
    broker.crash()
    (file,) = tmp_path.glob("journal-*.log")
    whole = file.read_bytes()
    for cut in (1, 50, 100):
        file.write_bytes(whole[:-cut])
        again = Broker(tmp_path)
        assert sorted(again.hub.retained.messages) == ["0", "1"]
        again.crash()
        (renewed,) = tmp_path.glob("journal-*.log")
        renewed.unlink()
        file.write_bytes(whole)


@pytest.mark.parametrize("place", [0, 25, 40, 200])
def test_a_damaged_journal_is_set_aside_and_the_broker_starts(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(tmp_path)
    writer = broker.client("w")
    for number in range(5):
        writer.publish(f"{number}", b"x" * 100, retain=True, qos=1)
    broker.crash()
    (file,) = tmp_path.glob("journal-*.log")
    data = bytearray(file.read_bytes())
    data[place] ^= 0xFF
    file.write_bytes(data)
    again = Broker(tmp_path)
    assert len(again.hub.retained.messages) < 5
    (kept,) = tmp_path.glob("*.damaged-*")
    assert kept.read_bytes() == data
    assert str(kept) in caplog.text
    again.client("w").publish("new", retain=True)
    assert "new" in restarted(again, tmp_path).hub.retained.messages


def test_the_file_is_rewritten_when_it_holds_too_much_of_the_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_GROWTH", 10_000)
    broker = Broker(tmp_path)
    assert broker.journal is not None
    writer, reader = broker.client("w"), broker.client("r", clean=False)
    reader.subscribe(("q", 1))
    largest = 0
    for number in range(2_000):
        writer.publish("a", b"%d" % number, retain=True, qos=1)
        if number % 100 == 0:
            writer.publish("q", b"%d" % number, qos=1)
        broker.journal.tend()
        largest = max(largest, broker.journal.size)
    assert largest < 60_000
    again = restarted(broker, tmp_path)
    assert again.hub.retained.messages["a"].payload == b"1999"
    owed = [delivery.message.payload for delivery in again.hub.sessions["r"].inflight.values() if delivery]
    assert owed == [b"%d" % number for number in range(0, 2_000, 100)]
    assert len(list(tmp_path.glob("journal-*"))) == 1


def test_while_the_disk_is_full_nothing_is_acknowledged_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(tmp_path)
    writer = broker.client("w")
    write = os.write

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert writer.publish("a", b"1", retain=True, qos=1) == []
    assert "No space left" in caplog.text
    monkeypatch.setattr(os, "write", write)
    assert [packet.kind for packet in writer.feed(p.PING)] == [p.PINGRESP, p.PUBACK]
    assert "a" in restarted(broker, tmp_path).hub.retained.messages


def test_a_full_disk_does_not_stop_what_needs_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, broker = Disk(monkeypatch), Broker(tmp_path)
    reader, keeper, writer = broker.client("r"), broker.client("k", clean=False), broker.client("w")
    keeper.subscribe(("kept", 1))
    disk.room = 0
    other = broker.client("o")
    assert writer.publish("held", retain=True, qos=1) == []
    assert [packet.kind for packet in reader.subscribe(("x", 2))] == [p.SUBACK]
    for qos, answer in ((1, p.PUBACK), (2, p.PUBREC)):
        assert [packet.kind for packet in other.publish("x", b"%d" % qos, qos=qos)] == [answer]
    assert [packet.kind for packet in other.feed(p.ack(p.PUBREL, 2))] == [p.PUBCOMP]
    assert reader.payloads() == [b"1", b"2"]
    assert other.publish("kept", qos=1) == []
    assert other.publish("x", qos=1) == []  # acknowledgements keep their order
    assert writer.publish("x", qos=1) == []
    disk.room = None
    assert [packet.kind for packet in other.feed(p.PING)] == [p.PINGRESP, p.PUBACK, p.PUBACK]
    assert [packet.kind for packet in writer.packets()] == [p.PUBACK, p.PUBACK]


def test_a_disk_that_is_full_at_the_start_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(tmp_path)
    broker.client("w").publish("a", b"1", retain=True, qos=1)
    broker.crash()
    files = len(list(Path("/proc/self/fd").iterdir()))
    disk = Disk(monkeypatch)
    for room in (0, 20, 30):
        disk.room = room
        with pytest.raises(
            StoreUnavailable, match=rf"cannot use {tmp_path}: No space left.*make room.*--state"
        ):
            Broker(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert [path.suffix for path in tmp_path.glob("journal-*")] == [".log"]
    disk.room = None
    assert "a" in Broker(tmp_path).hub.retained.messages


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match=r"cannot use .*owner"):
        Log(tmp_path / "file" / "store")


@pytest.mark.parametrize("kept", ["sender", "receiver"])
def test_qos_2_is_passed_on_once_although_the_disk_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """Were it sent before its packet id is safe, it would come again after a crash, as another message."""
    broker = Broker(tmp_path)
    assert broker.journal is not None
    reader = broker.client("r", clean=kept != "receiver")
    writer = broker.client("w", clean=kept != "sender")
    reader.subscribe(("x", 2))
    broker.journal.deferred = True
    with monkeypatch.context() as patch:
        patch.setattr(broker.journal, "commit", lambda: False)
        assert writer.publish("x", b"1", qos=2) == []
        assert reader.packets() == []
        writer.publish("x", b"not held", qos=0)
        assert reader.payloads() == [b"not held"]
    assert [packet.kind for packet in writer.feed(p.PING)] == [p.PINGRESP, p.PUBREC]
    assert reader.payloads() == [b"1"]
    again = restarted(broker, tmp_path)
    writer = again.client("w", clean=kept != "sender")
    if kept == "sender":  # it has not seen the PUBREC
        repeated = writer.feed(p.publish("x", b"1", qos=2, pid=1, dup=True))
        assert [packet.kind for packet in repeated] == [p.PUBREC]
    else:
        back = again.client()
        back.connect("r", clean=False)
        assert [(packet.kind, packet.pid) for packet in back.packets()] == [(p.PUBREL, 1)]


def test_nobody_has_more_held_back_than_he_has_packet_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_HELD", 3)
    disk, broker = Disk(monkeypatch), Broker(tmp_path)
    writer, other = broker.client("w"), broker.client("o")
    disk.room = 0
    for _ in range(4):
        assert not writer.closed
        writer.publish("a", retain=True, qos=1)
    assert writer.closed
    assert [packet.kind for packet in other.feed(p.PING)] == [p.PINGRESP]


def test_a_folder_serves_one_broker_at_a_time(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    with pytest.raises(StoreBusy, match="another broker"):
        Log(tmp_path)
    broker.crash()
    Log(tmp_path).close()


def test_a_file_that_is_no_journal_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "journal-00000001.log").write_bytes(b"something else")
    log = Log(tmp_path)
    with pytest.raises(Damaged):
        list(log.read())
    log.close()


def test_records_are_split_where_they_were_joined() -> None:
    assert list(split(b"\0\0\0\1\7" + b"\0\0\0\3\1ab")) == [(7, b""), (1, b"ab")]


class Disk:
    """A disk with little room; bytes written to files that are open or were are counted alike."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self._write = os.write
        monkeypatch.setattr(os, "write", self._take)

    def _take(self, file: int, data: bytes) -> int:
        if self.room is not None:
            if len(data) > self.room:
                raise OSError(28, "No space left on device")
            self.room -= len(data)
        return self._write(file, data)


def overfull(broker: Broker, disk: Disk) -> Client:
    """Fill the disk and publish until more is held back than may be; returns the client whose PUBACKs wait."""
    writer = broker.client("w")
    assert writer.publish("before", b"1", retain=True, qos=1) != []
    disk.room = 0
    for number in range(30):
        assert writer.publish(f"t/{number}", b"x" * 1_000, retain=True, qos=1) == []
    return writer


def tend(broker: Broker, seconds: float = 5.0) -> None:
    """Let time pass as the engine's clock does."""
    assert broker.journal is not None
    for _ in range(int(seconds * 4)):
        broker.hub.tick(broker.hub.now + 0.25)
        broker.journal.tend()
        broker.turn()


def test_after_a_full_disk_nothing_is_acknowledged_until_all_of_it_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_HELD_BACK", 10_000)
    disk, broker = Disk(monkeypatch), Broker(tmp_path)
    writer = overfull(broker, disk)
    tend(broker)
    assert writer.publish("late", b"2", retain=True, qos=1) == []
    disk.room = 50_000
    assert [packet.kind for packet in writer.feed(p.PING)] == [
        p.PINGRESP
    ]  # there is room, but no new file yet
    tend(broker)
    assert [packet.kind for packet in writer.packets()] == [p.PUBACK] * 31
    assert [packet.kind for packet in writer.publish("after", retain=True, qos=1)] == [p.PUBACK]
    disk.room = None
    kept = {f"t/{number}" for number in range(30)} | {"before", "late", "after"}
    assert set(restarted(broker, tmp_path).hub.retained.messages) == kept


def test_what_is_published_while_the_file_is_written_anew_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_HELD_BACK", 10_000)
    monkeypatch.setattr(durable, "_STEP", 1)
    disk, broker = Disk(monkeypatch), Broker(tmp_path)
    assert broker.journal is not None
    writer = overfull(broker, disk)
    disk.room = None
    broker.journal.tend()  # begins
    broker.journal.tend()  # half of it
    assert writer.publish("t/3", b"newer", retain=True, qos=1) == []
    assert writer.publish("t/4", b"", retain=True, qos=1) == []
    tend(broker)
    assert len(writer.packets()) == 32
    found = restarted(broker, tmp_path).hub.retained.messages
    assert found["t/3"].payload == b"newer"
    assert "t/4" not in found
    assert len(found) == 30


def test_more_than_may_be_held_while_the_file_is_written_anew_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_HELD_BACK", 10_000)
    monkeypatch.setattr(durable, "_STEP", 1)
    monkeypatch.setattr(durable, "_HURRY", 1)
    disk, broker = Disk(monkeypatch), Broker(tmp_path)
    assert broker.journal is not None
    writer = overfull(broker, disk)
    disk.room = None
    broker.journal.tend()
    for number in range(30, 60):
        writer.publish(f"t/{number}", b"x" * 1_000, retain=True, qos=1)
    tend(broker)
    assert len(restarted(broker, tmp_path).hub.retained.messages) == 61


def test_a_full_disk_while_the_file_is_rewritten_leaves_no_file_open_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(durable, "_HELD_BACK", 10_000)
    disk, broker = Disk(monkeypatch), Broker(tmp_path)
    monkeypatch.setattr(durable, "_GROWTH", 100)
    assert broker.journal is not None
    writer = broker.client("x")
    for _ in range(20):
        writer.publish("a", b"x" * 100, retain=True, qos=1)
    files = len(list(Path("/proc/self/fd").iterdir()))
    broker.journal.tend()  # begins to rewrite
    overfull(broker, disk)
    for room in (0, 10, 25, 2_000, 20_000):
        disk.room = room
        tend(broker)
        assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    assert [path.suffix for path in tmp_path.glob("journal-*")] == [".log"]
    disk.room = None
    tend(broker)
    assert len(restarted(broker, tmp_path).hub.retained.messages) == 32


@pytest.mark.parametrize("room", [0, None])
def test_a_stop_after_a_full_disk_tells_whether_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int | None
) -> None:
    monkeypatch.setattr(durable, "_HELD_BACK", 10_000)
    disk, broker = Disk(monkeypatch), Broker(tmp_path)
    assert broker.journal is not None
    overfull(broker, disk)
    disk.room = room
    assert broker.journal.close() is (room is None)
    disk.room = None
    assert len(Broker(tmp_path).hub.retained.messages) == (1 if room == 0 else 31)
