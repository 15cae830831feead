"""Nothing is lost when the broker is away, when the link drops in the middle, and when the node is killed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from callboard import Node
from callboard_core.errors import Unavailable
from callboard_core.processes import dying_with_parent
from callboard_core.topics import BOARD
from callboard_nodes.outbox import Outbox
from support.mosquitto import mosquitto
from support.nodes import Observer, node_settings
from support.waiting import wait_until

__all__ = ["mosquitto"]

COUNTER = """
import itertools, sys, threading
from callboard import Node
from support.nodes import node_settings
from support.mosquitto import Mosquitto
from callboard_core.link import Endpoint
from pathlib import Path

node = Node("counter", settings=node_settings(Path(sys.argv[1]), Endpoint.parse(sys.argv[2])))
count = itertools.count(int(sys.argv[3]))

@node.sensor(every=0.02)
def number():
    value = next(count)
    print(value, flush=True)
    return value

node.run()
"""


def count_up(observer):
    """Return the values a historian would have, in order of their time."""
    found = observer.readings("counter", "number")
    return [found[t] for t in sorted(found)]


def all_of(observer, taken):
    """Tell whether all that was taken has arrived, but for one that the node's stop may have interrupted."""
    return count_up(observer) in (taken, taken[:-1])


def make_counter(folder, mosquitto, **node):
    made = Node("counter", settings=node_settings(folder, mosquitto.endpoint, **node))
    count = itertools.count()
    taken = []

    @made.sensor(every=0.1)
    def number():
        taken.append(next(count))
        return taken[-1]

    return made, taken


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_every_reading_of_an_outage_arrives_with_its_own_time(mosquitto, tmp_path, end):
    node, taken = make_counter(tmp_path, mosquitto)
    observer = Observer(mosquitto.endpoint, BOARD)
    with node:
        observer.wait("state/sensor/number")
        getattr(mosquitto, end)()
        gone = time.time()
        wait_until(lambda: node.backlog >= 60, 60)  # the outage; readings go on meanwhile
        waiting, back = node.backlog, time.time()
        mosquitto.start()
        observer.link.wait_connected(30)
        observer.wait_for(lambda: node.connected and node.waiting == 0, 30)
        observer.wait_for(lambda: node.backlog == 0)
    observer.wait_for(lambda: all_of(observer, taken), 30)
    observer.close()
    assert waiting >= 60
    late = [t for batch in observer.of("series/sensor/number") for t in batch["t"] if gone + 1 < t < back - 1]
    assert len(late) >= 35
    assert late == sorted(late), "the backlog comes in order"


def test_a_link_that_drops_again_and_again_loses_nothing(mosquitto, tmp_path):
    node, taken = make_counter(tmp_path, mosquitto)
    observer = Observer(mosquitto.endpoint, BOARD)
    with node:
        for _ in range(4):
            observer.wait_for(lambda: node.connected, 30)
            mosquitto.kill()
            mosquitto.start()
            observer.link.wait_connected(30)
        observer.wait_for(lambda: node.connected and node.waiting == 0, 30)
    observer.wait_for(lambda: all_of(observer, taken), 30)
    observer.close()


def run_counter(folder, mosquitto, start=0):
    script = folder / "counter.py"
    script.write_text(COUNTER)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(script), str(folder), str(mosquitto.endpoint), str(start)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one prctl call; also when the test fails
    )


def read_until(child, value):
    for line in child.stdout:
        if int(line) >= value:
            return int(line)
    raise AssertionError("the node ended")


def kill_and_read_rest(child, last):
    child.send_signal(signal.SIGKILL)
    for line in child.stdout:
        last = int(line) if line.endswith("\n") else last
    child.wait(30)
    child.stdout.close()
    return last


@pytest.mark.parametrize("broker", ["up", "down"])
def test_a_killed_node_sends_what_it_had_at_its_next_start(mosquitto, tmp_path, broker):
    observer = Observer(mosquitto.endpoint, BOARD)
    child = run_counter(tmp_path, mosquitto)
    read_until(child, 30)
    if broker == "down":
        mosquitto.kill()
    last = kill_and_read_rest(child, read_until(child, 100))
    if broker == "down":
        mosquitto.start()
        observer.link.wait_connected(30)
    child = run_counter(tmp_path, mosquitto, 10_000)
    observer.wait_for(lambda: 10_000 in count_up(observer) and last - 1 in count_up(observer))
    child.terminate()
    assert child.wait(30) == 0
    child.stdout.close()
    found = [value for value in count_up(observer) if value < 10_000]
    observer.close()
    # The function printed its last value just before it was killed; that one need not have got to the disk.
    assert found[: last + 1] in (list(range(last + 1)), list(range(last)))


def test_a_node_without_a_board_keeps_its_readings_and_says_so(mosquitto, tmp_path, caplog):
    endpoint, folder = mosquitto.endpoint, tmp_path / "state" / "nodes" / "counter" / "outbox"
    mosquitto.kill()
    node, taken = make_counter(tmp_path, mosquitto)
    with pytest.raises(Exception, match=rf"not on the board within 5 s: .*{endpoint.port}"):
        node.start(timeout=5)
    assert "still trying" in caplog.text
    kept = Outbox(folder)
    assert kept.waiting == len(taken) > 10
    kept.close()
    mosquitto.start()
    observer = Observer(mosquitto.endpoint, BOARD)
    with node:
        observer.wait_for(lambda: node.waiting == 0)
    observer.wait_for(lambda: all_of(observer, taken))
    observer.close()


def test_a_full_outbox_keeps_a_coarse_record(mosquitto, tmp_path):
    mosquitto.kill()
    node = Node("counter", settings=node_settings(tmp_path, mosquitto.endpoint, outbox_limit=50))
    numbers, taken = iter(range(400)), threading.Event()

    @node.sensor(every=0.002)
    def number():
        value = next(numbers, None)
        if value is None:
            taken.set()
        return value

    while not taken.is_set():
        with pytest.raises(Unavailable, match="not on the board"):
            node.start(timeout=1.0)
    mosquitto.start()
    observer = Observer(mosquitto.endpoint, BOARD)
    with node:
        observer.wait_for(lambda: node.connected and node.waiting == 0)
    observer.wait_for(lambda: count_up(observer)[-1:] == [399])
    found = count_up(observer)
    observer.close()
    assert found[0] < 100
    assert len(found) < 150


def test_readings_wait_while_the_board_is_away(mosquitto, tmp_path):
    node, taken = make_counter(tmp_path, mosquitto)
    first = Observer(mosquitto.endpoint, BOARD)
    with node:
        first.wait_for(lambda: len(count_up(first)) > 10)
        first.close()
        # Everything the first board did not store in time is sent to the second one as well.
        second = Observer(mosquitto.endpoint, BOARD, epoch=2)
        second.wait_for(lambda: count_up(second)[:5] == taken[:5])
        second.close()
        known = len(taken)
        while len(taken) < known + 10:
            time.sleep(0.1)  # the node's own clock ticks meanwhile
        assert node.waiting >= 10
        third = Observer(mosquitto.endpoint, BOARD, epoch=3)
        third.wait_for(lambda: node.waiting == 0)
    third.wait_for(lambda: all_of(third, taken))
    third.close()


def test_on_a_broker_that_never_had_a_board_readings_go_out_at_once(mosquitto, tmp_path):
    node, taken = make_counter(tmp_path, mosquitto)
    observer = Observer(mosquitto.endpoint, "anybody")
    with node:
        observer.wait_for(lambda: len(count_up(observer)) > 15)
    observer.wait_for(lambda: all_of(observer, taken))
    observer.close()
