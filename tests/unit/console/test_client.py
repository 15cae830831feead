"""The HTTP client against a board's answers."""

import pytest

from callboard_console.web.client import Api
from callboard_core.errors import Unauthorized, Unavailable
from support.console import NOW, PASSWORDS, FakeBoard


@pytest.fixture
def board():
    with FakeBoard() as running:
        yield running


@pytest.fixture
def api(board):
    return Api(board.url, "viewer", PASSWORDS["viewer"])


def test_a_login_gives_a_token_and_a_role(api):
    grant = api.login()
    assert (grant.username, grant.role) == ("viewer", "viewer")
    assert grant.token not in repr(grant)


def test_a_wrong_password_is_unauthorized(board):
    with pytest.raises(Unauthorized, match="wrong name or password"):
        Api(board.url, "viewer", "guess").login()


def test_questions_log_in_by_themselves(api):
    assert api.nodes() == []
    assert api.refused()["count"] == 1
    assert len(api.statuses("a", NOW - 10, NOW)) == 5
    assert api.history("a", "sensor", "x", NOW - 10, NOW)["unit"] == "%"


def test_a_board_that_forgot_the_token_is_asked_for_a_new_one(api, board):
    api.nodes()
    board.tokens.clear()
    assert api.nodes() == []


def test_names_are_quoted_in_the_path(api, board):
    api.statuses("a/../b", 0, 1)
    assert "/a%2F..%2Fb/" in board.requests[-1]


def test_logging_out_gives_the_token_back(api, board):
    api.login()
    api.logout()
    api.logout()
    assert board.tokens == {}


def test_a_board_that_is_away_is_unavailable(board):
    api = Api("http://127.0.0.1:9", "viewer", "x", timeout=0.5)
    with pytest.raises(Unavailable, match="does not answer"):
        api.nodes()
