"""The view against a simple model, and its rules one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard_core import topics
from callboard_core.cards import NodeCard, SensorCard, parse_card
from callboard_core.errors import BadPayload, BadRequest, TooLarge
from callboard_core.link import Message
from callboard_core.messages import Status, StatusName
from callboard_core.topics import Kind
from callboard_core.view import ALIVE, GONE, Change, Entry, View, is_stale

SITE = "callboard"


def card(node: str, epoch: int = 1, **more) -> Message:
    return Message(
        topics.announce(SITE, node), NodeCard(name=node, epoch=epoch, version="1", **more).encode()
    )


def thing(node: str, name: str, epoch: int = 1, **more) -> Message:
    topic = topics.announce(SITE, node, Kind.SENSOR, name)
    return Message(topic, SensorCard(name=name, epoch=epoch, **more).encode())


def status(node: str, name: str, epoch: int = 1) -> Message:
    return Message(topics.status(SITE, node), Status(status=name, epoch=epoch, t=1.0).encode())


def clear(message: Message) -> Message:
    return message._replace(payload=b"")


def feed(view: View, *messages: Message, now: float = 0.0) -> list[Change]:
    return [change for message in messages for change in view.apply(message, now)]


def everything(view: View) -> dict:
    return dict(view.candidates(kind=None, node=None, tags=()))


def test_every_status_is_either_alive_or_gone() -> None:
    assert set(StatusName) == ALIVE | GONE
    assert not ALIVE & GONE


@pytest.mark.parametrize("name", sorted(ALIVE))
def test_an_entry_is_live_while_its_node_is(name: str) -> None:
    view = View(SITE)
    feed(view, card("a"), thing("a", "x"), status("a", name))
    assert all(entry.live for entry in everything(view).values())
    changes = feed(view, status("a", "disconnected"))
    assert {c.reason for c in changes} == {"disconnected"}
    assert len(changes) == 2
    assert not any(entry.live for entry in everything(view).values())


def test_a_repetition_changes_nothing() -> None:
    view = View(SITE)
    messages = [card("a"), thing("a", "x"), status("a", "ready")]
    feed(view, *messages)
    assert feed(view, *messages) == []


@pytest.mark.parametrize("name", sorted(GONE))
def test_an_end_older_than_the_card_is_ignored_in_either_order(name: str) -> None:
    view = View(SITE)
    feed(view, card("a", 5), status("a", "ready", 5))
    assert feed(view, status("a", name, 4)) == []
    assert view.node("a").live
    view = View(SITE)
    feed(view, status("a", name, 4), card("a", 5))
    assert view.node("a").status is None
    feed(view, status("a", "ready", 5))
    assert view.node("a").live


def test_an_end_of_the_cards_own_epoch_counts() -> None:
    view = View(SITE)
    feed(view, card("a", 5), status("a", "ready", 5), status("a", "lost", 5))
    assert not view.node("a").live
    assert not is_stale(Status(status="lost", epoch=6, t=0), NodeCard(name="a", epoch=5, version="1"))


def test_a_node_whose_disk_was_wiped_starts_over_with_a_lower_epoch() -> None:
    view = View(SITE)
    feed(view, card("a", 17), status("a", "lost", 17), card("a", 1), status("a", "ready", 1))
    assert view.node("a").live


def test_since_is_the_receivers_clock_at_the_last_change_of_status() -> None:
    view = View(SITE)
    feed(view, status("a", "ready"), now=10.0)
    feed(view, status("a", "ready"), now=20.0)
    assert view.node("a").since == 10.0
    feed(view, status("a", "lost"), now=30.0)
    assert view.node("a").since == 30.0


def test_a_forgotten_node_leaves_nothing_behind() -> None:
    view = View(SITE)
    messages = [card("a", tags=["t"]), thing("a", "x", tags=["t", "t"]), status("a", "ready")]
    feed(view, *messages)
    changes = feed(view, *map(clear, messages))
    assert [c.after is None for c in changes].count(True) == 2
    assert view.nodes() == []
    assert len(view) == 0
    assert view._by_tag == {}
    assert feed(view, *map(clear, messages)) == []
    assert view.nodes() == []


def test_a_sweep_drops_what_was_not_seen_again() -> None:
    view = View(SITE)
    for message in (card("a"), thing("a", "x"), thing("a", "y"), status("a", "ready"), card("b")):
        view.apply(message, 0.0, (1, 0))
    for message in (card("a"), thing("a", "x"), status("a", "ready")):
        view.apply(message, 0.0, (2, 0))
    changes = view.sweep((2, 0))
    assert {c.before.key for c in changes} == {("a", Kind.SENSOR, "y"), ("b", None, "b")}
    assert [n.id for n in view.nodes()] == ["a"]
    assert view.sweep((2, 0)) == []


def test_a_sweep_forgets_a_status_that_was_cleared() -> None:
    view = View(SITE)
    view.apply(status("a", "ready"), 0.0, (1, 0))
    view.apply(card("a"), 0.0, (2, 0))
    assert view.node("a").live
    [change] = view.sweep((2, 0))
    assert not change.after.live


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Message("callboard/A/status", b"{}"), BadRequest),
        (Message("callboard/a/status", b"{}"), BadPayload),
        (Message("callboard/a/announce", b'{"kind": "wheel"}'), BadPayload),
        (thing("a", "x")._replace(topic="callboard/a/announce/sensor/y"), BadPayload),
        (thing("a", "x", description="x" * 70_000), TooLarge),
    ],
)
def test_what_does_not_parse_raises_and_changes_nothing(message: Message, error: type) -> None:
    view = View(SITE)
    feed(view, card("a"), status("a", "ready"))
    before = everything(view), view.nodes()
    with pytest.raises(error):
        view.apply(message, 0.0)
    assert (everything(view), view.nodes()) == before


@pytest.mark.parametrize("topic", ["other/a/status", "callboard/a/state/sensor/x", "callboard/a/event/x"])
def test_what_is_not_the_directorys_is_passed_over(topic: str) -> None:
    assert View(SITE).apply(Message(topic, b"junk"), 0.0) == []


NODES = st.sampled_from(["a", "b"])
EPOCHS = st.integers(1, 3)
TAGS = st.lists(st.sampled_from(["t", "u"]), max_size=2)
MESSAGES = st.one_of(
    st.builds(lambda n, e, t: card(n, e, tags=t), NODES, EPOCHS, TAGS),
    st.builds(lambda n, x, e, t: thing(n, x, e, tags=t), NODES, st.sampled_from(["x", "y"]), EPOCHS, TAGS),
    st.builds(status, NODES, st.sampled_from(list(StatusName)), EPOCHS),
    st.builds(lambda n: clear(card(n)), NODES),
    st.builds(lambda n, x: clear(thing(n, x)), NODES, st.sampled_from(["x", "y"])),
    st.builds(lambda n: clear(status(n, "ready")), NODES),
)


class Model:
    """The directory as plain dictionaries, worked out anew each time."""

    def __init__(self) -> None:
        self.cards: dict[str, bytes] = {}
        self.status: dict[str, Status] = {}

    def apply(self, message: Message) -> None:
        node = message.topic.split("/")[1]
        if message.topic.endswith("/status"):
            new = Status.model_validate_json(message.payload) if message.payload else None
            if new is None:
                self.status.pop(node, None)
            elif not self._stale(node, new):
                self.status[node] = new
        elif message.payload:
            self.cards[message.topic] = message.payload
            if node in self.status and self._stale(node, self.status[node]):
                del self.status[node]
        else:
            self.cards.pop(message.topic, None)

    def _stale(self, node: str, status: Status) -> bool:
        own = self.cards.get(topics.announce(SITE, node))
        return own is not None and status.status in GONE and status.epoch < parse_card(own).epoch

    def entries(self) -> dict:
        found = {}
        for topic, payload in self.cards.items():
            address = topics.Address.parse(topic)
            node = self.status.get(address.node)
            live = node is not None and node.status in ALIVE
            name = address.name or address.node
            found[address.node, address.kind, name] = Entry(
                address.node, address.kind, name, parse_card(payload), live
            )
        return found


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=40))
def test_the_view_agrees_with_the_model_after_every_message(messages: list[Message]) -> None:
    view, model, told = View(SITE), Model(), {}
    for number, message in enumerate(messages):
        changes = view.apply(message, float(number))
        model.apply(message)
        for change in changes:
            key = (change.after or change.before).key
            assert told.get(key) == change.before
            told[key] = change.after
        assert {k: e for k, e in told.items() if e is not None} == model.entries()
        assert everything(view) == model.entries()
        assert {n.id: n.status for n in view.nodes() if n.status} == model.status
        for tag in ("t", "u"):
            tagged = {k for k, e in model.entries().items() if tag in e.card.tags}
            assert set(view.candidates(kind=None, node=None, tags=[tag])) >= tagged
            assert set(view._by_tag.get(tag, {})) == tagged
        sensors = {k for k in model.entries() if k[1] is Kind.SENSOR}
        assert set(view._by_kind.get(Kind.SENSOR, {})) == sensors


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=30), st.randoms())
def test_the_order_in_which_a_broker_sends_what_it_retains_does_not_matter(messages, random) -> None:
    retained = {message.topic: message for message in messages if message.payload}
    shuffled = list(retained.values())
    first, second = View(SITE), View(SITE)
    feed(first, *shuffled)
    random.shuffle(shuffled)
    feed(second, *shuffled)
    assert everything(first) == everything(second)
    live = [{n.id: n.live for n in view.nodes()} for view in (first, second)]
    assert live[0] == live[1]
