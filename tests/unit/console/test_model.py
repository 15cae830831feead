"""The model: messages in, snapshots out."""

import pytest

from callboard_console.web.model import LOG_LINES, REFUSED_KEPT, TRACE_POINTS, Model
from callboard_core import topics
from callboard_core.cards import ControlCard, NodeCard, SensorCard, WorkerCard
from callboard_core.link import Message
from callboard_core.messages import Batch, Event, Level, State, Status, StatusName
from callboard_core.topics import Kind

SITE = "callboard"


class Board:
    """Sends messages into a model, one second apart."""

    def __init__(self):
        self.model = Model(SITE, 0.0)
        self.t = 100.0
        self.session = 1

    def send(self, topic, payload=b"", *, retain=False):
        self.t += 1
        raw = payload if isinstance(payload, bytes) else payload.encode()
        self.model.apply(Message(topic, raw, 0, retain, self.session), self.t)

    def announce(self, node="a", *, retain=False, epoch=1):
        self.send(topics.announce(SITE, node), NodeCard(name=node, epoch=epoch, version="1"), retain=retain)
        card = SensorCard(name="cpu", epoch=epoch, unit="%")
        self.send(topics.announce(SITE, node, Kind.SENSOR, "cpu"), card, retain=retain)

    def status(self, status, node="a", *, epoch=1, retain=False):
        self.send(topics.status(SITE, node), Status(status=status, epoch=epoch, t=self.t), retain=retain)

    def read(self, v, node="a", *, retain=False, **more):
        self.send(topics.state(SITE, node, Kind.SENSOR, "cpu"), State(v=v, t=self.t, **more), retain=retain)

    @property
    def now(self):
        return self.model.snapshot(self.t)


@pytest.fixture
def board():
    return Board()


def test_a_node_appears_with_its_card_its_status_and_its_things(board):
    board.announce()
    board.status("ready")
    board.read(12.5)
    seen = board.now.nodes["a"]
    assert (seen.status, seen.epoch, seen.live) == (StatusName.READY, 1, True)
    thing = seen.things[Kind.SENSOR, "cpu"]
    assert (thing.unit, thing.state.v, thing.spark, thing.received) == ("%", 12.5, (12.5,), board.t)


def test_a_lost_node_is_lost_and_an_old_will_does_not_bury_a_live_one(board):
    board.announce(epoch=5)
    board.status("ready", epoch=5)
    board.status("lost", epoch=4)
    assert board.now.nodes["a"].live
    board.status("lost", epoch=5)
    assert board.now.nodes["a"].status is StatusName.LOST


def test_last_seen_is_when_something_live_arrived_and_not_what_was_retained(board):
    board.announce(retain=True)
    board.read(1.0, retain=True)
    assert board.now.nodes["a"].last_seen is None
    board.read(2.0)
    seen = board.t
    board.status("lost")
    assert board.now.nodes["a"].last_seen == seen


def test_the_registry_fills_in_what_was_before_the_console_started(board):
    board.announce(retain=True)
    board.status("ready", retain=True)
    board.model.registry([{"id": "a", "status": "ready", "since": 7.0, "last_seen": 90.0, "skew": -40.0}])
    seen = board.now.nodes["a"]
    assert (seen.since, seen.last_seen, seen.skew) == (7.0, 90.0, -40.0)


def test_a_registry_of_another_opinion_does_not_say_since_when(board):
    board.announce()
    board.status("lost")
    lost = board.t
    board.model.registry([{"id": "a", "status": "ready", "since": 7.0, "last_seen": None, "skew": None}])
    assert board.now.nodes["a"].since == lost


def test_a_trace_keeps_the_last_points_and_one_a_second(board):
    board.announce()
    for v in range(TRACE_POINTS + 5):
        board.read(float(v))
    assert board.now.nodes["a"].things[Kind.SENSOR, "cpu"].spark == tuple(range(5, TRACE_POINTS + 5))
    board.t -= 1
    board.read(99.0)
    assert board.now.nodes["a"].things[Kind.SENSOR, "cpu"].spark[-1] == 99.0
    assert len(board.now.nodes["a"].things[Kind.SENSOR, "cpu"].spark) == TRACE_POINTS


def test_texts_booleans_and_errors_leave_no_trace(board):
    for v in (True, "text", None):
        board.read(v)
    board.announce()
    assert board.now.nodes["a"].things[Kind.SENSOR, "cpu"].spark == ()


def test_a_state_may_arrive_before_its_card(board):
    board.read(5.0, level=Level.WARNING)
    assert "a" not in board.now.nodes
    board.announce()
    board.status("ready")
    assert board.now.nodes["a"].alarms[0].unit == "%"


def test_a_changed_card_is_seen_at_once(board):
    board.announce()
    board.read(5.0)
    assert board.now.nodes["a"].things[Kind.SENSOR, "cpu"].unit == "%"
    board.send(topics.announce(SITE, "a", Kind.SENSOR, "cpu"), SensorCard(name="cpu", epoch=1, unit="V"))
    assert board.now.nodes["a"].things[Kind.SENSOR, "cpu"].unit == "V"


def test_cleared_topics_take_their_things_and_the_node_away(board):
    board.announce()
    board.status("ready")
    board.read(1.0)
    for topic in list(board.model.topics().names):
        board.send(topic)
    assert board.now.nodes == {}
    assert board.model.topics().names == ()


def test_a_snapshot_does_not_change_and_shares_what_did_not(board):
    board.announce("a")
    board.announce("b")
    before = board.now
    board.read(5.0, "b")
    after = board.now
    assert before.nodes["b"].things[Kind.SENSOR, "cpu"].state is None
    assert after.nodes["a"] is before.nodes["a"]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (f"{SITE}/a/state/sensor/cpu", b"not json"),
        (f"{SITE}/a/state/sensor/cpu", b"{}"),
        (f"{SITE}/a/announce/sensor/cpu", b'{"kind":"control","name":"cpu","epoch":1}'),
        (f"{SITE}/a/status", b'{"status":"dancing","epoch":1,"t":0}'),
        (f"{SITE}/A!/status", b"{}"),
        (f"{SITE}/a/event/alarm", b"[]"),
    ],
)
def test_what_does_not_parse_is_refused_and_changes_nothing_else(board, topic, payload):
    board.announce()
    board.send(topic, payload)
    refusal = board.now.refusals[0]
    assert refusal.topic == topic
    assert refusal.reason
    assert set(board.now.nodes) == {"a"}


def test_refusals_and_the_log_are_bounded(board):
    for i in range(LOG_LINES + REFUSED_KEPT):
        board.send(f"{SITE}/a/event/log", Event(t=0, message=str(i)))
        board.send(f"{SITE}/a/state/sensor/cpu", b"?")
    assert len(board.now.events) == LOG_LINES
    assert len(board.now.refusals) == REFUSED_KEPT
    assert board.now.events[0].message == str(LOG_LINES + REFUSED_KEPT - 1)


def test_an_event_without_a_message_shows_its_data(board):
    board.send(f"{SITE}/a/event/refused", Event(t=0, data={"topic": "x", "size": 3}))
    assert board.now.events[0].message == "topic: x, size: 3"


def test_series_are_no_business_of_the_console(board):
    board.send(topics.series(SITE, "a", Kind.SENSOR, "cpu"), Batch(t=[1], v=[1]))
    assert board.model.topics().names == ()


def test_what_a_new_connection_does_not_bring_is_forgotten(board):
    board.announce("a")
    board.status("ready", "a")
    board.read(1.0, "a")
    board.announce("b")
    board.model.connection(board.t, connected=False)
    board.model.connection(board.t, connected=True)
    assert not board.now.complete
    board.session = 2
    board.announce("b", retain=True)
    board.model.settle((2, 0))
    assert board.now.complete
    assert set(board.now.nodes) == {"b"}
    assert not any("/a/" in topic for topic in board.model.topics().names)


def test_a_connection_says_since_when(board):
    board.model.connection(5.0, connected=True)
    board.model.connection(6.0, connected=True)
    assert (board.now.connected, board.now.changed) == (True, 5.0)
    board.model.connection(9.0, connected=False)
    assert (board.now.connected, board.now.changed, board.now.complete) == (False, 9.0, False)


def test_the_rate_is_messages_a_second(board):
    assert board.now.rate == 0.0
    for _ in range(10):
        board.read(1.0)
    assert board.now.rate == pytest.approx(1.0)


def test_topics_are_the_same_object_until_something_changes(board):
    board.announce()
    first = board.model.topics()
    assert board.model.topics() is first
    board.read(1.0)
    second = board.model.topics()
    assert f"{SITE}/a/state/sensor/cpu" in second.names
    board.read(2.0)
    assert board.model.topics().names is second.names


def test_a_sweep_finds_strays_and_the_next_one_forgets_them(board):
    board.announce()
    board.model.stray(Message("odd/topic", b"x", 0, True, 1), 1.0)
    board.model.stray(Message(topics.announce(SITE, "a"), b"{}", 0, True, 1), 1.0)
    board.model.swept()
    assert board.model.topics().held["odd/topic"].payload == b"x"
    assert board.model.topics().held[topics.announce(SITE, "a")].payload != b"{}"
    board.model.swept()
    assert "odd/topic" not in board.model.topics().held


def test_status_and_cards_are_urgent_and_values_are_not(board):
    board.announce()
    assert board.model.urgent
    assert board.now.nodes
    board.read(1.0)
    assert not board.model.urgent
    board.status("lost")
    assert board.model.urgent


def test_a_control_shows_what_is_in_force(board):
    board.announce()
    board.send(topics.announce(SITE, "a", Kind.CONTROL, "fan"), ControlCard(name="fan", epoch=1))
    board.send(topics.state(SITE, "a", Kind.CONTROL, "fan"), State(v=40, t=1))
    assert board.now.nodes["a"].of_kind(Kind.CONTROL)[0].state.v == 40


def test_heartbeats_are_figures_and_sessions_and_no_events(board):
    card = WorkerCard(name="texture", epoch=1, service="texture", heartbeat=1.5)
    board.announce()
    board.status("ready")
    board.send(topics.announce(SITE, "a", Kind.WORKER, "texture"), card)
    told = {"workers": {"texture": {"running": 2, "callers": {"cli": 3}}}}
    board.send(topics.event(SITE, "a", "heartbeat"), Event(t=board.t, data=told))
    seen = board.now
    assert [(one.name, one.total.running) for one in seen.services] == [("texture", 2)]
    assert [(one.caller, one.node, one.worker) for one in seen.sessions] == [("cli", "a", "texture")]
    assert seen.events == ()
    board.t += 10
    assert board.now.services[0].ready == 0  # it has fallen silent
    board.model.connection(board.t, connected=False)
    board.model.connection(board.t, connected=True)
    assert board.now.services[0].ready == 1
    assert board.now.sessions == ()
