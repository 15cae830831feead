"""callboard_nodes.outbox."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard_core.topics import Kind
from callboard_nodes.outbox import Outbox, victim
from callboard_nodes.segments import Record


def record(t, name="level", v=1.5):
    return Record(Kind.SENSOR, name, float(t), v)


def drain(outbox):
    """Deliver everything, as the node does, and return it in order."""
    found = []
    while (oldest := outbox.oldest()) is not None:
        number, records = oldest
        found += records
        outbox.delivered(number)
    return found


def test_what_is_acknowledged_at_once_does_not_wait(tmp_path):
    outbox = Outbox(tmp_path)
    ticket = outbox.append([record(1), record(2)])
    assert outbox.waiting == 2
    outbox.acknowledge(ticket, 1)
    assert outbox.waiting == 1
    outbox.acknowledge(ticket, 1)
    assert outbox.waiting == 0
    assert outbox.oldest() is None
    outbox.close()
    assert list(tmp_path.iterdir()) == []


def test_readings_come_back_in_order_after_a_restart(tmp_path):
    outbox = Outbox(tmp_path, segment=10)
    for t in range(35):
        outbox.append([record(t)])
    outbox.close()
    again = Outbox(tmp_path, segment=10)
    assert again.waiting == 35
    again.append([record(35)])
    assert [one.t for one in drain(again)] == list(range(36))
    assert again.waiting == 0


def test_every_kind_of_value_is_kept_as_it_is(tmp_path):
    values = [True, 0, 3, 2.5, "", "grün\n"]
    Outbox(tmp_path).append([record(t, v=v) for t, v in enumerate(values)])
    found = [one.v for one in drain(Outbox(tmp_path))]
    assert found == values
    assert [type(v) for v in found] == [type(v) for v in values]


def test_what_was_on_its_way_when_the_link_dropped_is_sent_again(tmp_path):
    outbox = Outbox(tmp_path)
    early, late = outbox.append([record(1)]), outbox.append([record(2)])
    outbox.acknowledge(early, 1)
    outbox.interrupted()
    outbox.acknowledge(late, 1)  # the old session's news comes too late to be believed
    assert [one.t for one in drain(outbox)] == [1, 2]


def test_readings_taken_while_the_backlog_is_sent_join_its_end(tmp_path):
    outbox = Outbox(tmp_path, segment=10)
    for t in range(15):
        outbox.append([record(t)])
    outbox.interrupted()
    number, first = outbox.oldest()
    outbox.append([record(15)])
    outbox.delivered(number)
    assert [one.t for one in [*first, *drain(outbox)]] == list(range(16))


def test_a_torn_line_costs_one_reading(tmp_path, caplog):
    Outbox(tmp_path).append([record(1), record(2), record(3)])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9] + b"\x00\xff")
    assert [one.t for one in drain(Outbox(tmp_path))] == [1, 2]
    assert "damaged line" in caplog.text


def test_a_torn_line_does_not_spoil_what_is_written_after_it(tmp_path):
    Outbox(tmp_path).append([record(1), record(2)])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    again = Outbox(tmp_path)
    again.append([record(3)])
    assert [one.t for one in drain(Outbox(tmp_path))] == [1, 3]


def test_a_full_outbox_thins_its_oldest_readings_first(tmp_path, caplog):
    outbox = Outbox(tmp_path, limit=100, segment=10)
    for t in range(1000):
        outbox.append([record(t)])
    assert outbox.waiting <= 100
    assert outbox.thinned == 1000 - outbox.waiting
    assert "the oldest are thinned" in caplog.text
    times = [one.t for one in drain(Outbox(tmp_path))]
    assert times == sorted(times)
    assert times[-10:] == list(range(990, 1000))
    gaps = [b - a for a, b in pairwise(times)]
    assert sum(gaps[:20]) > 10 * sum(gaps[-20:])
    assert times[0] < 100, "the outage's beginning is still there, if coarse"


def test_thinning_leaves_something_of_every_thing(tmp_path):
    outbox = Outbox(tmp_path, limit=40, segment=20)
    for t in range(60):
        outbox.append([record(t, name="slow" if t % 10 == 0 else "fast")])
    assert {one.name for one in drain(outbox)} == {"fast", "slow"}


def test_resolution_falls_with_age():
    assert victim([(10, 0), (10, 0), (10, 0)]) == 0
    assert victim([(10, 1), (10, 0), (10, 0), (10, 0)]) == 1
    assert victim([(10, 2), (10, 1), (10, 1), (10, 0)]) == 1
    assert victim([(10, 3), (10, 1), (10, 0)]) == 1


def test_a_full_disk_is_counted_and_stops_nothing(tmp_path, monkeypatch, caplog):
    outbox = Outbox(tmp_path)
    kept = os.write

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert outbox.append([record(1)]) is None
    assert outbox.append([record(2)]) is None
    monkeypatch.setattr(os, "write", kept)
    assert outbox.append([record(3)]) is not None
    assert outbox.unsaved == 2
    assert caplog.text.count("cannot be kept") == 1
    assert [one.t for one in drain(outbox)] == [3]


def test_what_has_arrived_goes_after_a_while(tmp_path):
    outbox = Outbox(tmp_path, grace=0)
    for t in range(2000):
        outbox.acknowledge(outbox.append([record(t)]), 1)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1000


def test_what_arrived_just_before_an_interruption_is_sent_again(tmp_path):
    outbox = Outbox(tmp_path, segment=10, grace=30)
    for t in range(25):
        outbox.acknowledge(outbox.append([record(t)]), 1)
    assert outbox.waiting == 0
    outbox.interrupted()
    assert [one.t for one in drain(outbox)] == list(range(25))


def test_what_has_arrived_makes_room_before_anything_is_thinned(tmp_path):
    outbox = Outbox(tmp_path, limit=100, segment=10)
    for t in range(300):
        outbox.acknowledge(outbox.append([record(t)]), 1)
    for t in range(300, 380):
        outbox.append([record(t)])
    assert outbox.thinned == 0
    assert outbox.waiting == 80


def test_half_a_line_on_a_full_disk_spoils_nothing(tmp_path, monkeypatch):
    outbox = Outbox(tmp_path)
    outbox.append([record(1)])
    kept = os.write
    monkeypatch.setattr(os, "write", lambda file, data: kept(file, data[:7]))
    assert outbox.append([record(2)]) is None
    monkeypatch.setattr(os, "write", kept)
    outbox.append([record(3)])
    outbox.close()
    assert [one.t for one in drain(Outbox(tmp_path))] == [1, 3]


def test_nothing_is_lost_when_the_process_is_killed(tmp_path):
    code = f"""
import sys
from pathlib import Path
from callboard_core.topics import Kind
from callboard_nodes.outbox import Outbox, Record
outbox = Outbox(Path({str(tmp_path)!r}), segment=50)
t = 0
while True:
    outbox.append([Record(Kind.SENSOR, "level", float(t), t)])
    print(t, flush=True)
    t += 1
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with child.stdout as lines:
        for line in lines:
            if int(line) >= 500:
                child.send_signal(signal.SIGKILL)
                break
        told = [int(line), *(int(rest) for rest in lines if rest.endswith("\n"))]
    child.wait(10)
    found = [one.v for one in drain(Outbox(tmp_path))]
    assert found == list(range(len(found)))
    assert len(found) > told[-1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["append", "ack", "cut", "drain", "restart"]), max_size=60), st.integers(1, 7)
)
def test_every_reading_is_acknowledged_or_still_there(tmp_path_factory, steps, segment):
    folder = tmp_path_factory.mktemp("outbox")
    outbox, flying, arrived, t = Outbox(folder, segment=segment), [], set(), 0
    for step in steps:
        match step:
            case "append":
                flying.append((t, outbox.append([record(t)])))
                t += 1
            case "ack" if flying:
                time, ticket = flying.pop(0)
                outbox.acknowledge(ticket, 1)
                arrived.add(time)
            case "cut":
                outbox.interrupted()
                flying = []
            case "drain":
                outbox.interrupted()
                flying = []
                arrived |= {one.t for one in drain(outbox)}
                assert outbox.waiting == 0
            case "restart":
                outbox.close()
                outbox, flying = Outbox(folder, segment=segment), []
    outbox.interrupted()
    assert arrived | {one.t for one in drain(outbox)} == set(range(t))
    outbox.close()


@pytest.mark.parametrize("count", [1, 500])
def test_reading_times_are_kept_exactly(tmp_path, count):
    times = [1795327474.123456 + step for step in range(count)]
    Outbox(tmp_path).append([record(t) for t in times])
    assert [one.t for one in drain(Outbox(tmp_path))] == times
