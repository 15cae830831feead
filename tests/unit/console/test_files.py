"""The board's files for browsers that are logged in: these, and nothing else of the board."""

import io
import time
from email.message import Message

import pytest
from starlette.applications import Starlette

from callboard_console.web.files import Files
from callboard_console.web.sessions import COOKIE, Sessions
from callboard_core.errors import NotFound
from support.console import Asgi, session


class Answer(io.BytesIO):
    headers = Message()
    headers["Content-Type"] = "image/jpeg"
    headers["Set-Cookie"] = "board=1"


@pytest.fixture
def asked():
    return []


@pytest.fixture
def client(asked):
    sessions, one = Sessions(time.time), session(role="viewer", token="abc")

    def open_(path, **query):
        if "999" in path:
            raise NotFound("there is no frame 999")
        asked.append((path, query))
        return Answer(b"picture" * 20_000)

    one.api.open = open_
    sessions.add(one)
    client = Asgi(Starlette(routes=Files(sessions).routes()))
    client.cookies.set(COOKIE, "abc")
    return client


def test_a_picture_is_handed_on_whole_with_its_type_and_nothing_of_the_boards_own(client, asked):
    answer = client.get("/board-files/jobs/7/frames/12/thumbnail")
    assert answer.content == b"picture" * 20_000
    assert answer.headers["content-type"] == "image/jpeg"
    assert "set-cookie" not in answer.headers
    assert asked == [("/api/v1/jobs/7/frames/12/thumbnail", {"what": None})]


@pytest.mark.parametrize(
    "path",
    [
        "session",
        "jobs/7",
        "jobs/7/files.zip/../../nodes",
        "jobs/7/frames/1/thumbnail/../../../../metrics",
        "artifacts/" + "a" * 64,
        "jobs/x/video",
        "jobs/7/attempts/..%2f..%2fme/log",
    ],
)
def test_nothing_else_of_the_board_is_reached(client, asked, path):
    assert client.get(f"/board-files/{path}").status_code == 404
    assert asked == []


def test_without_a_session_there_is_nothing(client, asked):
    client.cookies.clear()
    assert client.get("/board-files/jobs/7/video").status_code == 401
    assert asked == []


def test_what_the_board_refuses_is_told_with_its_status(client):
    answer = client.get("/board-files/jobs/7/frames/999/image")
    assert (answer.status_code, answer.text) == (404, "there is no frame 999\n")
