from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard_broker.mqtt.hub import Hub
from callboard_broker.mqtt.message import Message
from callboard_broker.mqtt.session import Session
from callboard_broker.mqtt.tree import RetainedTree, Subscription, SubscriptionTree
from callboard_core.topics import matches

LEVEL = st.sampled_from(["a", "b", "", "$x", "a b"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTER = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(st.sampled_from(["a", "b", "", "$x", "+"]), max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)


@given(st.lists(FILTER, max_size=8), TOPIC)
def test_subscriptions_match_as_the_standard_says(filters: list[str], topic: str) -> None:
    tree, hub = SubscriptionTree(), Hub()
    sessions = {name: Session(hub, name, "") for name in filters}
    for name, session in sessions.items():
        tree.add(session, Subscription(name, 0), name)
    found, _ = tree.match(topic)
    assert {session.client_id for session in found} == {name for name in sessions if matches(name, topic)}


@given(st.lists(TOPIC, max_size=8), FILTER)
def test_retained_messages_match_as_the_standard_says(topics: list[str], topic_filter: str) -> None:
    tree = RetainedTree()
    for topic in topics:
        tree.set(Message(topic, b"x", retain=True))
    found = [message.topic for message in tree.match(topic_filter)]
    assert sorted(found) == sorted(topic for topic in set(topics) if matches(topic_filter, topic))


@given(st.lists(st.tuples(FILTER, st.sampled_from(["", "g"])), max_size=8))
def test_a_tree_is_empty_again_when_everything_is_removed(filters: list[tuple[str, str]]) -> None:
    tree, session = SubscriptionTree(), Session(Hub(), "s", "")
    for name, group in filters:
        tree.add(session, Subscription(name, 0, group=group), name)
    for name, group in set(filters):
        assert tree.remove(session, name, group)
        assert not tree.remove(session, name, group)
    assert tree._root.empty()
    assert tree.count == 0


@given(st.lists(TOPIC, max_size=8))
def test_a_retained_tree_is_empty_again_when_everything_is_cleared(topics: list[str]) -> None:
    tree = RetainedTree()
    for topic in topics:
        tree.set(Message(topic, b"some payload", retain=True))
    for topic in set(topics):
        assert tree.clear(topic)
        assert not tree.clear(topic)
    assert (tree.count, tree.size, tree.messages, tree._root.children) == (0, 0, {}, {})


def test_an_overlap_delivers_at_the_higher_qos_with_both_identifiers() -> None:
    low = Subscription("a", 0, no_local=True, identifiers=(1,))
    high = Subscription("#", 2, retain_as_published=True, identifiers=(2,))
    merged = low.merged(high)
    assert (merged.qos, merged.no_local, merged.retain_as_published) == (2, False, True)
    assert set(merged.identifiers) == {1, 2}


def test_a_group_serves_its_members_in_turn() -> None:
    tree, hub = SubscriptionTree(), Hub()
    members = [Session(hub, name, "") for name in "abc"]
    for member in members:
        tree.add(member, Subscription("$share/g/x", 0, group="g"), "x")
    (group,) = tree.match("x")[1]
    first = [next(group.rotation())[0].client_id for _ in range(6)]
    assert sorted(first) == ["a", "a", "b", "b", "c", "c"]


def test_replacing_a_subscription_changes_the_version_but_not_the_count() -> None:
    tree, session = SubscriptionTree(), Session(Hub(), "s", "")
    assert tree.add(session, Subscription("a", 0), "a")
    before = tree.version
    assert not tree.add(session, Subscription("a", 1), "a")
    assert (tree.count, tree.version > before) == (1, True)
