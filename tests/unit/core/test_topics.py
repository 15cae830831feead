"""Topics are built, taken apart and matched without surprises."""

import contextlib
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from callboard_core import topics
from callboard_core.errors import BadRequest
from callboard_core.topics import Address, Kind, Leaf

ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
kinds = st.sampled_from(Kind)
thing_leaves = st.sampled_from([Leaf.ANNOUNCE, Leaf.STATE, Leaf.SERIES, Leaf.STREAM, Leaf.COMMAND])
addresses = st.one_of(
    st.builds(Address, ids, ids, st.sampled_from([Leaf.STATUS, Leaf.ANNOUNCE, Leaf.REPLY])),
    st.builds(Address, ids, ids, thing_leaves, kinds, ids),
    st.builds(Address, ids, ids, st.just(Leaf.EVENT), st.none(), ids),
)
#: Text that looks enough like topics to get past the first checks.
nearly_topics = st.lists(
    st.one_of(ids, st.sampled_from([*Leaf, *Kind, "", "+", "#", "A b"]), st.text(max_size=5)), max_size=7
).map("/".join)
levels = st.one_of(st.sampled_from(["a", "b", "", "$sys"]), st.text(string.ascii_lowercase, max_size=3))
wildcards = st.one_of(st.just("+"), levels)


@given(addresses)
def test_an_address_survives_being_written_and_parsed(address):
    assert Address.parse(str(address)) == address


@given(st.one_of(st.text(), nearly_topics))
def test_any_text_is_a_topic_or_a_bad_request(text):
    with contextlib.suppress(BadRequest):
        assert str(Address.parse(text)) == text


@given(ids, ids, kinds, ids)
def test_what_is_built_is_what_parses(site, node, kind, name):
    built = {
        topics.status(site, node): Address(site, node, Leaf.STATUS),
        topics.announce(site, node): Address(site, node, Leaf.ANNOUNCE),
        topics.announce(site, node, kind, name): Address(site, node, Leaf.ANNOUNCE, kind, name),
        topics.state(site, node, kind, name): Address(site, node, Leaf.STATE, kind, name),
        topics.series(site, node, kind, name): Address(site, node, Leaf.SERIES, kind, name),
        topics.stream(site, node, kind, name): Address(site, node, Leaf.STREAM, kind, name),
        topics.command(site, node, kind, name): Address(site, node, Leaf.COMMAND, kind, name),
        topics.event(site, node, name): Address(site, node, Leaf.EVENT, None, name),
        topics.reply(site, node): Address(site, node, Leaf.REPLY),
    }
    assert len(built) == 9
    for topic, address in built.items():
        assert Address.parse(topic) == address
        assert str(address) == topic


@given(addresses)
def test_the_filters_find_what_they_are_named_after(address):
    topic, site = str(address), address.site
    assert topics.matches(topics.every_status(site), topic) == (address.leaf is Leaf.STATUS)
    assert topics.matches(topics.every_card(site), topic) == (address.leaf is Leaf.ANNOUNCE)
    assert topics.matches(topics.every_state(site), topic) == (address.leaf is Leaf.STATE)
    assert topics.matches(topics.every_command(site, address.node), topic) == (address.leaf is Leaf.COMMAND)


@pytest.mark.parametrize(
    ("topic", "named"),
    [
        ("", "expected site/node/leaf"),
        ("callboard/roof", "expected site/node/leaf"),
        ("Callboard/roof/status", "site 'Callboard'"),
        ("callboard/ro#of/status", "node 'ro#of'"),
        ("callboard//status", "node ''"),
        ("callboard/roof/mood", "unknown leaf 'mood'"),
        ("callboard/roof/status/x", "wrong number of levels after 'status'"),
        ("callboard/roof/state", "wrong number of levels after 'state'"),
        ("callboard/roof/state/sensor", "wrong number of levels after 'state'"),
        ("callboard/roof/state/sensor/a/b", "wrong number of levels after 'state'"),
        ("callboard/roof/state/sensors/a", "unknown kind 'sensors'"),
        ("callboard/roof/state/sensor/A", "name 'A'"),
        ("callboard/roof/event/A", "event 'A'"),
        ("callboard/roof/event/sensor/a", "wrong number of levels after 'event'"),
    ],
)
def test_a_wrong_topic_is_told_which_level_is_wrong(topic, named):
    with pytest.raises(BadRequest) as caught:
        Address.parse(topic)
    assert named in caught.value.message


@given(ids)
def test_what_looks_like_an_id_is_one(value):
    assert topics.check_id(value) == value


@given(st.text())
def test_a_slug_is_an_id(text):
    try:
        found = topics.slug(text)
    except BadRequest:
        assert not any(letter in string.ascii_lowercase + string.digits for letter in text.lower())
    else:
        assert topics.check_id(found) == topics.slug(found) == found


@pytest.mark.parametrize(
    ("text", "found"), [("Größe", "grosse"), ("prendre_été", "prendre-ete"), ("ünï", "uni")]
)
def test_a_slug_keeps_letters_that_have_accents(text, found):
    assert topics.slug(text) == found


@given(st.text())
def test_any_text_is_an_id_or_a_bad_request(text):
    with contextlib.suppress(BadRequest):
        assert topics.check_id(text) == text


def test_a_wrong_id_comes_with_a_right_one():
    with pytest.raises(BadRequest, match=r"node 'Open_Vent' is not an id.*try 'open-vent'"):
        topics.check_id("Open_Vent", "node")


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        # The examples of MQTT 3.1.1, section 4.7.
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "sport/tennis", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/broker", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/broker", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/b", "a/B", False),
    ],
)
def test_filters_match_as_the_standard_says(topic_filter, topic, expected):
    assert topics.matches(topic_filter, topic) is expected


@given(st.lists(levels, min_size=1), st.data())
def test_replacing_levels_with_wildcards_still_matches(parts, data):
    topic = "/".join(parts)
    assume(not topic.startswith("$"))
    wild = [data.draw(st.sampled_from([part, "+"])) for part in parts]
    assert topics.matches("/".join(wild), topic)
    cut = data.draw(st.integers(0, len(parts)))
    assert topics.matches("/".join([*wild[:cut], "#"]), topic)


@given(st.lists(wildcards, min_size=1), st.lists(levels, min_size=1))
def test_a_filter_without_hash_matches_only_topics_of_its_length(wanted, parts):
    if topics.matches("/".join(wanted), "/".join(parts)):
        assert len("/".join(wanted).split("/")) == len("/".join(parts).split("/"))
