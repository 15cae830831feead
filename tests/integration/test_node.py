"""A node on a real broker: its things, their errors, and how it comes and goes."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import pytest

from callboard import Node, Request
from callboard_core.errors import BadRequest, Failed, Overloaded, TimedOut, Unavailable
from support.mosquitto import mosquitto
from support.nodes import node_settings, observer
from support.timing import Stopwatch

__all__ = ["mosquitto", "observer"]


@pytest.fixture
def settings(mosquitto, tmp_path):
    return node_settings(tmp_path, mosquitto.endpoint)


@pytest.fixture
def node(settings):
    made = Node("shed", label="Shed", tags=["garden"], settings=settings)
    yield made
    made.stop()


def test_a_node_announces_itself_and_its_things_and_then_is_ready(node, observer):
    @node.sensor(unit="°C", every=0.5)
    def temperature() -> float:
        return 21.5

    @node.control(minimum=0, maximum=100, initial=30)
    def fan(value):
        pass

    @node.action(confirm="Really?")
    def beep():
        pass

    node.start()
    status = observer.wait("shed/status")
    assert status["status"] == "ready"
    topics = [topic for topic, _ in observer.messages() if "/reply" not in topic]
    before = topics[: topics.index("callboard/shed/status")]
    assert before[:4] == [
        "callboard/shed/announce",
        "callboard/shed/announce/sensor/temperature",
        "callboard/shed/announce/control/fan",
        "callboard/shed/announce/action/beep",
    ]
    card = observer.wait("shed/announce")
    assert (card["label"], card["tags"], card["keepalive"]) == ("Shed", ["garden"], 10)
    assert card["host"]["hostname"]
    assert observer.wait("state/sensor/temperature")["v"] == 21.5
    assert observer.wait("state/control/fan", lambda state: "v" in state)["v"] == 30
    assert observer.wait("state/action/beep")["v"] == "idle"
    node.stop()
    assert (
        observer.wait("shed/status", lambda seen: seen["status"] == "disconnected")["epoch"]
        == status["epoch"]
    )


def test_setting_a_control_runs_its_function_and_is_echoed(node, observer):
    taken = []

    @node.control(minimum=0, maximum=100)
    def fan(value):
        taken.append(value)

    node.start()
    assert observer.call("shed", "control", "fan", value=40, call_id="c1") == {"value": 40}
    state = observer.wait("state/control/fan", lambda state: state.get("call") == "c1")
    assert (state["v"], taken) == (40, [40])
    for wrong, words in ((400, "outside"), ("x", "expected a number"), (None, "expected a number")):
        with pytest.raises(BadRequest, match=f"value: .*{words}"):
            observer.call("shed", "control", "fan", value=wrong)
    assert taken == [40]


def test_what_the_function_returns_is_the_value_in_force(node, observer):
    @node.control(minimum=0, maximum=100)
    async def fan(value: float) -> float:
        return round(value, -1)

    node.start()
    assert observer.call("shed", "control", "fan", value=44) == {"value": 40}
    assert observer.wait("state/control/fan", lambda state: state.get("v") == 40)


def test_sets_of_one_control_are_applied_in_order(node, observer):
    taken = []

    @node.control
    def fan(value):
        time.sleep(0.02 if value == 1 else 0)
        taken.append(value)

    node.start()
    for future in [observer.begin("shed", "control", "fan", value=value) for value in range(1, 9)]:
        future.result()
    assert taken == list(range(1, 9))


def test_a_controls_value_is_applied_again_at_the_next_start(settings, observer):
    def make(taken):
        node = Node("shed", settings=settings)
        node.control(taken.append, name="fan", initial=10)
        node.control(taken.append, name="lamp", type="boolean", initial=False, persist=False)
        return node

    first, second = [], []
    with make(first):
        observer.wait("state/control/lamp", lambda state: "v" in state)
        observer.call("shed", "control", "fan", value=70)
        observer.call("shed", "control", "lamp", value=True)
    observer.forget()
    with make(second):
        assert observer.wait("state/control/fan", lambda state: state.get("v") == 70)
        assert observer.wait("state/control/lamp", lambda state: state.get("v") is False)
    assert sorted(first) == [False, True, 10, 70]
    assert sorted(second) == [False, 70]


def test_a_control_whose_function_raises_tells_the_caller_and_keeps_its_value(node, observer):
    broken = threading.Event()

    @node.control(initial=1)
    def fan(value):
        if broken.is_set():
            raise RuntimeError("the relay is stuck")

    node.start()
    observer.wait("state/control/fan", lambda state: state.get("v") == 1)
    broken.set()
    with pytest.raises(Failed, match="RuntimeError: the relay is stuck"):
        observer.call("shed", "control", "fan", value=2)
    state = observer.wait("state/control/fan", lambda state: state.get("error"))
    assert (state["v"], state["level"], state["error"]["type"]) == (1, "error", "RuntimeError")
    assert observer.wait("event/failing")["data"]["name"] == "fan"
    broken.clear()
    observer.call("shed", "control", "fan", value=3)
    assert observer.wait("state/control/fan", lambda state: state.get("v") == 3 and "error" not in state)
    assert observer.wait("event/recovered")


def test_a_stored_value_that_is_refused_is_tried_again_until_it_takes(node, observer):
    attempts = []

    @node.control(initial=5)
    def fan(value):
        attempts.append(value)
        if len(attempts) < 2:
            raise OSError("not yet")

    node.start()
    assert (
        "OSError: not yet"
        in observer.wait("state/control/fan", lambda state: "error" in state)["error"]["message"]
    )
    assert observer.wait("state/control/fan", lambda state: state.get("v") == 5 and "error" not in state)


def test_a_sensor_that_raises_shows_its_error_and_recovers_by_itself(node, observer):
    broken = threading.Event()
    broken.set()

    @node.sensor(every=0.05)
    def level():
        if broken.is_set():
            raise ValueError("no water")
        return 4

    @node.sensor(every=0.05)
    def other():
        return 1

    node.start()
    state = observer.wait("state/sensor/level")
    assert state["error"] == {"code": "failed", "message": "ValueError: no water", "type": "ValueError"}
    assert (state["level"], "v" in state) == ("error", False)
    assert observer.wait("event/failing")["severity"] == "error"
    observer.wait("state/sensor/other")
    broken.clear()
    assert observer.wait("state/sensor/level", lambda state: state.get("v") == 4)
    assert observer.wait("event/recovered")["data"] == {"kind": "sensor", "name": "level"}
    assert len(observer.of("event/failing")) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("warm", "expected a number, got 'warm'"),
        (float("nan"), "expected a number, got nan"),
        (10**400, "too large"),
    ],
    ids=["text", "nan", "huge"],
)
def test_a_sensor_that_gives_no_number_shows_it(node, observer, wrong, words):
    node.sensor(lambda: wrong, name="level")
    node.start()
    assert words in observer.wait("state/sensor/level")["error"]["message"]


def test_a_function_that_calls_exit_does_not_end_the_node(node, observer):
    def leave():
        raise SystemExit(3)

    async def leave_later():
        raise SystemExit(3)

    node.sensor(leave, name="one")
    node.sensor(leave_later, name="two")
    node.sensor(lambda: 1, name="three", every=0.05)
    node.start()
    assert observer.wait("state/sensor/one")["error"]
    assert observer.wait("state/sensor/two")["error"]
    assert observer.wait("state/sensor/three")["v"] == 1
    assert node.connected


def test_a_slow_sensor_delays_nobody_and_its_missed_ticks_are_counted(node, observer):
    ticks = []

    @node.sensor(every=0.05)
    def slow():
        time.sleep(0.3)
        return 1

    @node.sensor(every=0.05)
    def quick():
        ticks.append(time.monotonic())
        return len(ticks)

    node.start()
    observer.wait_for(lambda: len(ticks) > 30)
    gaps = sorted(b - a for a, b in pairwise(ticks))
    assert gaps[len(gaps) // 2] == pytest.approx(0.05, abs=0.02)
    assert (ticks[-1] - ticks[0]) / (len(ticks) - 1) == pytest.approx(0.05, abs=0.01)
    assert node.skipped["slow"] >= 5
    assert node.skipped["quick"] <= 3


def test_a_sensor_that_hangs_is_shown_and_does_not_keep_the_node_from_stopping(node, observer):
    hang = threading.Event()

    @node.sensor(every=0.1, timeout=0.3)
    def stuck():
        hang.wait(30)
        return 1

    @node.sensor(every=0.1, timeout=0.3)
    async def stuck_later():
        await asyncio.sleep(30)

    node.start()
    for name in ("stuck", "stuck-later"):
        assert observer.wait(f"state/sensor/{name}")["error"]["code"] == "timeout"
    began = Stopwatch()
    node.stop()
    assert began.within(3), began
    hang.set()


def test_fast_sensors_send_a_state_a_second_and_the_rest_in_batches(node, observer):
    count = iter(range(10_000))
    node.sensor(lambda: next(count), name="fast", every=0.02)
    began = time.monotonic()
    node.start()
    observer.wait("series/sensor/fast", lambda batch: len(batch["v"]) > 20)
    observer.wait_for(lambda: len(observer.of("state/sensor/fast")) >= 4, 30)
    node.stop()
    states = observer.of("state/sensor/fast")
    # One at the start, one a second, one at the end; fewer than one in ten readings.
    assert 4 <= len(states) <= time.monotonic() - began + 2
    found = observer.readings("shed", "fast")
    assert sorted(found.values()) == list(range(len(found)))
    assert [found[t] for t in sorted(found)] == sorted(found.values())


def test_values_can_be_pushed_from_any_thread(node, observer):
    door = node.pushed("door", type="boolean", deadband=0)
    node.control(lambda value: None, name="knob", minimum=0, maximum=10)
    with pytest.raises(Unavailable, match="not running"):
        door(True)
    node.start()
    door(True)
    assert observer.wait("state/sensor/door")["v"] is True
    node.report("door", False, t=1795360000.0)
    assert observer.wait("state/sensor/door", lambda state: state["v"] is False)["t"] == 1795360000.0
    node.report("knob", 7)
    assert observer.wait("state/control/knob", lambda state: state.get("v") == 7)
    with pytest.raises(ValueError, match="expected True or False"):
        door("open")
    with pytest.raises(ValueError, match="outside"):
        node.report("knob", 70)
    with pytest.raises(BadRequest, match="no sensor or control 'window'"):
        node.report("window", 1)


def test_levels_follow_the_ranges(node, observer):
    level = node.pushed("level", normal={"low": 10, "high": 20}, warning={"high": 30}, min_interval=30)
    node.start()
    for value, expected in ((15, "normal"), (25, "warning"), (35, "error")):
        level(value)
        assert (
            observer.wait("state/sensor/level", lambda state, value=value: state["v"] == value)["level"]
            == expected
        )


def test_an_action_gets_its_arguments_and_returns_its_result(node, observer):
    @node.action
    def water(bed: int, seconds: float = 5.0):
        return {"bed": bed, "seconds": seconds}

    node.start()
    assert observer.call("shed", "action", "water", bed=2) == {"bed": 2, "seconds": 5.0}
    states = [state["v"] for state in observer.of("state/action/water")]
    assert states == ["idle", "running", "done"]
    with pytest.raises(BadRequest, match=r"bed: .*missing"):
        observer.call("shed", "action", "water")
    with pytest.raises(BadRequest, match=r"colour: "):
        observer.call("shed", "action", "water", bed=1, colour="red")
    assert [state["v"] for state in observer.of("state/action/water")] == states


def test_an_action_that_raises_answers_with_its_exception(node, observer):
    @node.action
    async def explode():
        raise KeyError("fuse")

    node.start()
    with pytest.raises(Failed, match="KeyError: 'fuse'"):
        observer.call("shed", "action", "explode")
    assert (
        observer.wait("state/action/explode", lambda state: state["v"] == "failed")["error"]["type"]
        == "KeyError"
    )


def test_a_result_that_is_no_json_is_an_error(node, observer):
    @node.action
    def odd():
        return threading.Lock()

    node.start()
    with pytest.raises(Failed, match="cannot be written as JSON"):
        observer.call("shed", "action", "odd")


@pytest.mark.parametrize("style", ["async", "sync"])
def test_an_action_tells_its_progress_and_can_be_interrupted(node, observer, style):
    ended = threading.Event()

    if style == "async":

        @node.action
        async def sweep(request: Request):
            request.progress(0.5)
            try:
                await asyncio.sleep(30)
            finally:
                ended.set()
    else:

        @node.action
        def sweep(request: Request):
            request.progress(0.5)
            request.cancelled.wait(30)
            ended.set()

    node.start()
    halfway = threading.Event()
    call = observer.begin("shed", "action", "sweep", 20.0, call_id="s1", on_progress=lambda _: halfway.set())
    assert halfway.wait(30)
    observer.link.cancel(observer.address("shed", "action", "sweep"), "s1")
    with pytest.raises(Failed, match="cancelled"):
        call.result(30)
    assert ended.wait(30)
    state = observer.wait("state/action/sweep", lambda state: state["v"] == "failed")
    assert (state["call"], state["error"]["message"]) == ("s1", "it was interrupted")


def test_an_action_that_is_not_interruptible_runs_to_its_end(node, observer):
    running, release = threading.Event(), threading.Event()

    @node.action(interruptible=False)
    def press():
        running.set()
        release.wait(10)
        return "pressed"

    node.start()
    call = observer.begin("shed", "action", "press", 20.0, call_id="p1")
    assert running.wait(30)
    observer.link.cancel(observer.address("shed", "action", "press"), "p1")
    observer.link.round_trip(5).result()
    observer.call("shed", "action", "ping")
    release.set()
    assert call.result(30) == "pressed"


@pytest.mark.parametrize("interruptible", [True, False])
def test_an_action_past_its_time_out_is_answered_for_and_stays_busy(node, observer, interruptible):
    release = threading.Event()

    @node.action(timeout=0.3, interruptible=interruptible)
    def crawl():
        release.wait(10)

    node.start()
    with pytest.raises(TimedOut, match=r"longer than 0\.3 s"):
        observer.call("shed", "action", "crawl", 20.0)
    if interruptible:
        state = observer.wait("state/action/crawl", lambda state: state["v"] == "failed")
        assert state["error"]["code"] == "timeout"
        with pytest.raises(Overloaded, match="still running"):
            observer.call("shed", "action", "crawl", 20.0)
    else:
        assert observer.of("state/action/crawl")[-1]["v"] == "running"
    release.set()
    observer.wait_for(lambda: _succeeds(observer, "crawl"))
    assert observer.wait("state/action/crawl", lambda state: state["v"] == "done")


def _succeeds(observer, name):
    try:
        observer.call("shed", "action", name)
    except Exception:
        return False
    return True


def test_things_can_be_made_only_before_the_start(node):
    node.sensor(lambda: 1, name="one")
    node.start()
    with pytest.raises(BadRequest, match="running"):
        node.sensor(lambda: 2, name="two")
    with pytest.raises(BadRequest, match="running already"):
        node.start()


def test_a_node_can_be_started_again(node, observer):
    node.sensor(lambda: 1, name="one")
    for epoch in (1, 2, 3):
        with node:
            assert node.connected
        assert observer.wait(
            "shed/status", lambda s, epoch=epoch: (s["status"], s["epoch"]) == ("disconnected", epoch)
        )


def test_a_thing_that_is_no_longer_there_leaves_no_ghost(settings, observer):
    for names in (("old", "same"), ("same",)):
        node = Node("shed", settings=settings)
        for name in names:
            node.sensor(lambda: 1, name=name, every=0.1)
        with node:
            observer.wait("state/sensor/same")
            if names == ("same",):
                observer.wait_for(lambda: (observer.of("announce/sensor/old") or [0])[-1] is None)
                observer.wait_for(lambda: (observer.of("state/sensor/old") or [0])[-1] is None)
        observer.forget() if "old" not in names else None


async def test_a_node_can_be_served_on_ones_own_loop(settings, observer):
    node = Node("shed", settings=settings)
    ready = asyncio.Event()
    loops = []

    @node.sensor(every=0.05)
    async def here():
        loops.append(asyncio.get_running_loop())
        return 1

    serving = asyncio.create_task(node.serve(ready=ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert set(loops) == {asyncio.get_running_loop()}
    assert not node.connected
    assert [state["status"] for state in observer.of("shed/status")] == ["ready", "disconnected"]
