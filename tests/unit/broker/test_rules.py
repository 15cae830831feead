import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_broker.access.rules import CACHE_LIMIT, Role, compile_grant, covers
from callboard_core.topics import matches

OWN = "callboard/greenhouse"
OTHER = "callboard/pump"

#: (verb, topic or filter): the roles that may. The client's own id is `greenhouse`.
MATRIX: dict[tuple[str, str], set[str]] = {
    ("publish", f"{OWN}/status"): {"node", "board", "admin"},
    ("publish", f"{OWN}/state/sensor/cpu"): {"node", "board", "admin"},
    ("publish", f"{OTHER}/state/sensor/cpu"): {"board", "admin"},
    ("publish", f"{OTHER}/status"): {"board", "admin"},
    ("publish", f"{OWN}/reply"): {"viewer", "operator", "node", "board", "admin"},
    ("publish", f"{OTHER}/reply"): {"node", "board", "admin"},
    ("publish", f"{OTHER}/command/control/fan"): {"operator", "board", "admin"},
    ("publish", f"{OTHER}/command/action/ping"): {"operator", "node", "board", "admin"},
    ("publish", f"{OTHER}/command/action/lane"): {"operator", "node", "board", "admin"},
    ("publish", f"{OTHER}/command/action/reboot"): {"operator", "board", "admin"},
    ("publish", f"{OTHER}/command/worker/texture"): {"operator", "node", "board", "admin"},
    ("publish", "callboard/board/command/worker/forget"): {"operator", "board", "admin"},
    ("publish", "callboard/board/command/worker/submit"): {"operator", "board", "admin"},
    ("publish", "callboard/board/command/worker/unheard-of"): {"operator", "board", "admin"},
    ("publish", "callboard/board/command/worker/attempt"): {"operator", "node", "board", "admin"},
    ("retain", "callboard/board/command/worker/attempt"): set(),
    ("publish", "callboard/board/reply"): {"node", "board", "admin"},
    ("publish", "callboard/board/command/action/ping"): {"operator", "node", "board", "admin"},
    ("publish", f"{OTHER}/event/alarm"): {"board", "admin"},
    ("retain", f"{OTHER}/command/worker/texture"): set(),
    ("subscribe", "callboard/+/event/heartbeat"): {"viewer", "operator", "node", "board", "admin"},
    ("subscribe", "callboard/+/state/#"): {"viewer", "operator", "board", "admin"},
    ("subscribe", "callboard/+/command/worker/+"): {"viewer", "operator", "board", "admin"},
    ("publish", "elsewhere/greenhouse/status"): {"admin"},
    ("publish", "$SYS/broker/uptime"): {"admin"},
    ("retain", f"{OWN}/status"): {"node", "board", "admin"},
    ("retain", f"{OWN}/command/control/fan"): set(),
    ("retain", f"{OTHER}/command/control/fan"): set(),
    ("subscribe", "callboard/#"): {"viewer", "operator", "board", "admin"},
    ("subscribe", "callboard/+/announce/#"): {"viewer", "operator", "node", "board", "admin"},
    ("subscribe", "callboard/+/announce/worker/+"): {"viewer", "operator", "node", "board", "admin"},
    ("subscribe", "callboard/+/status"): {"viewer", "operator", "node", "board", "admin"},
    ("subscribe", f"{OWN}/command/#"): {"viewer", "operator", "node", "board", "admin"},
    ("subscribe", f"{OTHER}/command/#"): {"viewer", "operator", "board", "admin"},
    ("subscribe", "$share/pool/callboard/+/status"): {"viewer", "operator", "node", "board", "admin"},
    ("subscribe", "$share/pool"): set(),
    ("subscribe", "#"): {"admin"},
    ("subscribe", "+/+/status"): {"admin"},
    ("subscribe", "$SYS/#"): {"viewer", "operator", "board", "admin"},
    ("subscribe", ""): set(),
    ("receive", f"{OTHER}/state/sensor/cpu"): {"viewer", "operator", "board", "admin"},
    ("receive", f"{OTHER}/announce/sensor/cpu"): {"viewer", "operator", "node", "board", "admin"},
    ("receive", f"{OWN}/reply"): {"viewer", "operator", "node", "board", "admin"},
    ("receive", "$SYS/broker/uptime"): {"viewer", "operator", "board", "admin"},
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("verb", "topic"), MATRIX)
def test_a_role_may_do_exactly_what_the_matrix_says(role: Role, verb: str, topic: str):
    grant = compile_grant(role, "callboard", "greenhouse")
    ask = {
        "publish": grant.may_publish,
        "retain": lambda topic: grant.may_publish(topic, retain=True),
        "subscribe": grant.may_subscribe,
        "receive": grant.may_receive,
    }[verb]
    assert ask(topic) == (role.value in MATRIX[verb, topic])
    assert ask(topic) == (role.value in MATRIX[verb, topic]), "the kept answer is the same"


@pytest.mark.parametrize("client_id", ["", "+", "#", "a/b", "green+house", "$SYS"])
def test_a_client_id_with_a_wildcard_or_level_gets_nothing_of_its_own(client_id: str):
    grant = compile_grant("node", "callboard", client_id)
    assert not grant.may_publish("callboard/pump/status")
    assert not grant.may_subscribe(f"callboard/{client_id}/#")
    assert grant.may_subscribe("callboard/+/status")


def test_an_unknown_role_is_an_error():
    with pytest.raises(ValueError, match="boss"):
        compile_grant("boss", "callboard", "greenhouse")


def test_kept_answers_are_bounded():
    grant = compile_grant("viewer", "callboard", "greenhouse")
    for number in range(CACHE_LIMIT + 10):
        grant.may_receive(f"callboard/n{number}/status")
    assert len(grant._receive) <= CACHE_LIMIT


@pytest.mark.parametrize(
    ("allowed", "wanted", "answer"),
    [
        ("a/#", "a", True),
        ("a/#", "a/#", True),
        ("a/#", "a/+/b", True),
        ("a/+", "a/#", False),
        ("a/+", "a/b", True),
        ("a/b", "a/+", False),
        ("#", "a/#", True),
        ("#", "$SYS/#", False),
        ("+/b", "$SYS/b", False),
        ("a/+/c", "a/+/c/d", False),
        ("a/+/c/d", "a/+/c", False),
    ],
)
def test_covers_knows_which_filter_contains_which(allowed: str, wanted: str, answer: bool):
    assert covers(allowed, wanted) is answer


level = st.sampled_from(["a", "b", "+"])
filters = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(level, min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
)
topics = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map("/".join)


@given(filters, filters, topics)
def test_what_a_covered_filter_matches_the_covering_one_matches_too(allowed: str, wanted: str, topic: str):
    if covers(allowed, wanted) and matches(wanted, topic):
        assert matches(allowed, topic)


def test_who_owns_his_client_id_is_outranked_by_the_board_alone():
    ranks = {role: compile_grant(role, "callboard", "pi").rank for role in Role}
    owner = compile_grant(Role.NODE, "callboard", "pi", bound=True).rank
    assert owner > max(rank for role, rank in ranks.items() if role is not Role.BOARD)
    assert owner < ranks[Role.BOARD]


def test_a_node_cannot_play_the_board():
    grant = compile_grant(Role.NODE, "callboard", "board")
    assert not grant.may_publish("callboard/board/status", True)
    assert not grant.may_publish("callboard/board/announce", True)
    assert not grant.may_subscribe("callboard/board/command/#")
    assert compile_grant(Role.BOARD, "callboard", "board").may_publish("callboard/board/status", True)
