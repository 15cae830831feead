"""callboard_core.board_http."""

import pytest

from callboard_core import board_http
from callboard_core.board_http import http_url
from callboard_core.cards import NodeCard
from callboard_core.errors import Forbidden, Unavailable


@pytest.mark.parametrize(
    ("told", "broker", "url"),
    [
        ("http://0.0.0.0:8470", "10.0.0.5", "http://10.0.0.5:8470"),
        ("http://[::]:8470", "fe80::1", "http://[fe80::1]:8470"),
        ("http://127.0.0.1:8470", "127.0.0.1", "http://127.0.0.1:8470"),
        ("http://127.0.0.1:8470", "board.lan", "http://board.lan:8470"),
        ("https://board.example/callboard", "board.example", "https://board.example/callboard"),
        ("http://192.168.1.2:80", "192.168.1.2", "http://192.168.1.2:80"),
    ],
)
def test_the_boards_http_is_where_its_card_says_or_where_the_broker_is(told, broker, url):
    assert http_url(NodeCard(name="board", epoch=1, version="1", http=told), broker) == url


def test_a_password_goes_to_no_other_machine_than_the_brokers(monkeypatch):
    card = NodeCard(name="board", epoch=1, version="1", http="http://192.0.2.7:8470")
    for broker in ("10.0.0.5", "127.0.0.1"):
        with pytest.raises(Forbidden, match=r"node\.http"):
            http_url(card, broker)
    monkeypatch.setattr(
        board_http, "_addresses", lambda host: {"192.0.2.7"} if host != "10.0.0.5" else {"10.0.0.5"}
    )
    assert http_url(card, "board.lan") == "http://192.0.2.7:8470"  # another name of the same machine
    with pytest.raises(Forbidden):
        http_url(card, "10.0.0.5")


def test_a_board_of_this_machine_may_listen_on_its_address_in_the_network(monkeypatch):
    monkeypatch.setattr(board_http, "_addresses", lambda host: {host})
    card = NodeCard(name="board", epoch=1, version="1", http="http://127.0.0.2:8470")
    monkeypatch.setattr(board_http, "is_loopback", lambda host: host == "127.0.0.1")
    assert http_url(card, "127.0.0.1") == "http://127.0.0.2:8470"


def test_an_old_board_does_not_say_where_its_http_is():
    with pytest.raises(Unavailable, match="update the board"):
        http_url(NodeCard(name="board", epoch=1, version="1"), "x")
