"""What a board answers, what a node believes of it, and which addresses are used."""

import contextlib
import json
from ipaddress import IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_core.discovery import networks, wire
from callboard_core.discovery.offers import Offers
from callboard_core.discovery.wire import Answer, Board, Found, Query, Txt
from callboard_core.errors import BadPayload, BadRequest, TooLarge

BOARD = Board("stage", 1883, "http://0.0.0.0:8470", "0.1.0")
NONCE = "0123456789abcdef"

ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
nonces = st.text("0123456789abcdef", min_size=8, max_size=64)
nearly_queries = st.dictionaries(
    st.sampled_from(["callboard", "ask", "nonce", "site", "mqtt"]),
    st.one_of(st.integers(), st.text(), st.none(), st.just(1), st.just("board"), nonces),
).map(lambda content: json.dumps(content).encode())


def query(**changes) -> bytes:
    return json.dumps({"callboard": 1, "ask": "board", "nonce": NONCE, "site": "stage"} | changes).encode()


def answer(**changes) -> bytes:
    content = {"callboard": 1, "nonce": NONCE, "site": "stage", "mqtt": 1883, "http": "http://0.0.0.0:8470"}
    return json.dumps(content | changes).encode()


@given(ids, st.integers(1, 65535), nonces, st.booleans())
def test_a_node_reads_what_its_board_answers(site, port, nonce, any_site):
    asked = Query(callboard=1, ask="board", nonce=nonce, site=None if any_site else site).encode()
    reply = wire.answer(asked, Board(site, port, "http://10.0.0.1:80"))
    assert len(asked) <= wire.QUERY_LIMIT
    assert len(reply) <= wire.ANSWER_LIMIT
    assert Found.from_answer(reply, "10.0.0.1", nonce) == Found(site, "10.0.0.1", port, "http://10.0.0.1:80")


def test_a_board_of_another_site_is_silent():
    assert wire.answer(query(site="cellar"), BOARD) is None


@given(st.one_of(st.binary(max_size=600), nearly_queries))
def test_whatever_arrives_is_answered_passed_over_or_refused(packet):
    with contextlib.suppress(BadPayload, TooLarge):
        wire.answer(packet, BOARD)
    with contextlib.suppress(BadPayload, TooLarge):
        Found.from_answer(packet, "10.0.0.1", NONCE)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (query(callboard=2), "callboard: expected 1"),
        (query(ask="node"), "ask: expected 'board'"),
        (query(nonce="short"), "nonce"),
        (query(site="#"), "site '#' is not an id"),
        (answer(), "ask: missing"),
        (b"{}", "callboard: missing"),
        (b"\x00\x00\x84\x00", "Invalid JSON"),
    ],
)
def test_what_is_no_query_is_refused(packet, expected):
    with pytest.raises(BadPayload) as caught:
        wire.answer(packet, BOARD)
    assert caught.value.message.startswith(expected)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (answer(mqtt=0), "mqtt: expected greater"),
        (answer(mqtt=65536), "mqtt: expected less"),
        (answer(site="A b"), "site 'A b' is not an id"),
        (answer(http="javascript:alert(1)"), "http: expected a URL"),
        (answer(http="http://"), "http: expected a URL"),
        (answer(http="http://h:99999"), "http: expected a URL"),
        (answer(http="http://h/\n"), "http: expected a URL"),
        (answer(http="http://" + "h" * 200), "http: String should have at most 200"),
        (query(), "mqtt: missing"),
        (b'{"mqtt": 1883}', "callboard: missing"),
    ],
)
def test_what_is_no_answer_is_refused(packet, expected):
    with pytest.raises(BadPayload) as caught:
        Found.from_answer(packet, "10.0.0.1", NONCE)
    assert caught.value.message.startswith(expected)


def test_packets_over_the_limit_are_refused():
    with pytest.raises(TooLarge):
        wire.answer(query(pad="x" * 600), BOARD)
    with pytest.raises(TooLarge):
        Found.from_answer(answer(pad="x" * 1100), "10.0.0.1", NONCE)


def test_an_answer_to_somebody_elses_query_is_passed_over():
    assert Found.from_answer(answer(nonce="fedcba9876543210"), "10.0.0.1", NONCE) is None


def test_an_answer_is_never_answered():
    with pytest.raises(BadPayload):
        wire.answer(Answer(callboard=1, nonce=NONCE, site="stage", mqtt=1).encode(), BOARD)


@pytest.mark.parametrize(
    ("http_url", "host", "expected"),
    [
        (None, "10.0.0.1", None),
        ("http://0.0.0.0:8470", "10.0.0.1", "http://10.0.0.1:8470"),
        ("https://0.0.0.0", "10.0.0.1", "https://10.0.0.1"),
        ("http://board.local:8470", "10.0.0.1", "http://board.local:8470"),
        ("http://10.0.0.2:8470", "10.0.0.1", "http://10.0.0.2:8470"),
        ("http://127.0.0.1:8470", "127.0.0.1", "http://127.0.0.1:8470"),
        ("http://127.0.0.1:8470", "10.0.0.1", None),
    ],
)
def test_the_http_url_is_told_as_the_asker_reaches_it(http_url, host, expected):
    assert wire.reachable(http_url, host) == expected


def test_a_service_is_read_from_its_txt_record():
    txt = Txt.of({"site": "stage", "version": "0.1.0", "mqtt": "1883", "empty": None})
    assert Found.from_service(txt, "10.0.0.1", 1883) == Found(
        "stage", "10.0.0.1", 1883, None, "0.1.0", "mdns"
    )


@pytest.mark.parametrize(
    "properties", [{}, {"site": "#"}, {"site": "stage", "http": "ftp://x"}, {"site": None}]
)
def test_a_wrong_txt_record_is_refused(properties):
    with pytest.raises(BadPayload):
        Txt.of(properties)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_service_without_a_port_is_refused(port):
    with pytest.raises(BadPayload, match="port"):
        Found.from_service(Txt(site="stage"), "10.0.0.1", port)


OWN = (IPv4Interface("127.0.0.1/8"), IPv4Interface("10.0.0.5/24"), IPv4Interface("192.168.7.2/30"))


def test_of_several_addresses_the_one_in_our_own_network_is_taken():
    assert wire.nearest(["172.16.0.1", "10.0.0.1"], OWN) == "10.0.0.1"
    assert wire.nearest(["172.16.0.1", "172.16.0.2"], OWN) == "172.16.0.1"
    assert wire.nearest([], OWN) is None


def test_a_query_goes_to_every_network_once():
    again = IPv4Interface("10.0.0.6/24")
    tunnel = IPv4Interface("10.9.0.1/32")
    assert networks.targets([*OWN, again, tunnel]) == ["127.255.255.255", "10.0.0.255", "192.168.7.3"]


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("127.0.0.1", "127.255.255.255"),
        ("localhost", "127.255.255.255"),
        ("::1", "127.255.255.255"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "0.0.0.0"),
        ("", "0.0.0.0"),
        ("10.0.0.5", "10.0.0.255"),
        ("10.0.0.77", "10.0.0.77"),
    ],
)
def test_a_board_listens_where_its_broker_does(bind, expected):
    assert networks.listening(bind, OWN) == expected


@pytest.mark.parametrize(
    ("bind", "own", "expected"),
    [
        ("0.0.0.0", OWN, ["10.0.0.5", "192.168.7.2"]),
        ("0.0.0.0", OWN[:1], ["127.0.0.1"]),
        ("127.0.0.1", OWN, ["127.0.0.1"]),
        ("10.0.0.5", OWN, ["10.0.0.5"]),
    ],
)
def test_a_board_on_loopback_is_not_advertised_elsewhere(bind, own, expected):
    assert networks.advertised(bind, own) == expected


def test_an_ipv6_address_is_refused_with_the_remedy():
    with pytest.raises(BadRequest, match="discovery needs an IPv4 address"):
        networks.listening("fd00::1", OWN)


def test_this_machine_has_a_loopback_network_and_it_comes_first():
    assert networks.own_networks()[0] == networks.LOOPBACK


def test_the_first_offer_of_the_wanted_site_wins():
    offers = Offers("stage")
    with contextlib.closing(offers):
        offers.add(Found("cellar", "10.0.0.9", 1))
        assert offers.first is None
        offers.add(Found("stage", "10.0.0.1", 1))
        offers.add(Found("stage", "10.0.0.2", 1))
        assert offers.first.host == "10.0.0.1"
        assert offers.others == {Found("cellar", "10.0.0.9", 1)}


def test_without_a_wanted_site_any_offer_wins():
    offers = Offers(None)
    with contextlib.closing(offers):
        offers.add(Found("cellar", "10.0.0.9", 1))
        assert offers.first.site == "cellar"
