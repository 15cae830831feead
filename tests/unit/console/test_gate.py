"""The gate: without a session there is the login page and nothing else."""

import asyncio
import time

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from callboard_console.web.gate import HEADERS, Gate, token_of
from callboard_console.web.sessions import COOKIE, Sessions
from support.console import Asgi, session

BROWSER = {"accept": "text/html"}
HOST = {"origin": "http://testserver"}


async def page(_request):
    return PlainTextResponse("inside")


async def stream(websocket):
    await websocket.accept()


@pytest.fixture
def client():
    sessions = Sessions(time.time)
    sessions.add(session(token="abc"))
    routes = [
        *(Route(path, page) for path in ("/", "/node", "/login", "/loginx", "/healthz", "/assets/login.css")),
        Route("/{rest:path}", page),
        WebSocketRoute("/stream", stream),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Gate, sessions=sessions)])
    return Asgi(app)


def logged_in(client, token="abc"):
    client.cookies.set(COOKIE, token)
    return client


def test_a_browser_without_a_session_is_sent_to_the_login_page(client):
    answer = client.get("/", headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_the_page_that_was_asked_for_is_remembered(client):
    answer = client.get("/node?node=a%26b", headers=BROWSER)
    assert answer.headers["location"] == "/login?next=%2Fnode%3Fnode%3Da%2526b"


@pytest.mark.parametrize("request_", [("GET", {}), ("POST", BROWSER)])
def test_programs_are_told_to_log_in(client, request_):
    method, headers = request_
    assert client.request(method, "/", headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/login", "/healthz", "/assets/login.css"])
def test_the_login_page_and_the_health_check_are_open(client, path):
    assert client.get(path).text == "inside"


def test_a_path_that_only_begins_like_the_login_page_is_not_open(client):
    assert client.get("/loginx").status_code == 401


@pytest.mark.parametrize(
    "path", ["/assets//login.css", "/assets/", "/assets/login.css/", "/assets/x/login.css", "/assets/x.css"]
)
def test_what_only_lies_below_the_assets_is_not_open(client, path):
    assert client.get(path).status_code == 401


def test_a_session_opens_the_gate_and_a_made_up_token_does_not(client):
    assert logged_in(client).get("/").text == "inside"
    assert logged_in(client, "made-up").get("/").status_code == 401


def test_every_answer_carries_the_security_headers(client):
    for answer in (client.get("/", headers=BROWSER), client.get("/login")):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_a_websocket_needs_a_session(client):
    assert client.websocket("/stream", HOST) == ["websocket.close"]


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {}])
def test_a_websocket_from_another_site_or_from_nowhere_is_refused(client, headers):
    assert logged_in(client).websocket("/stream", headers) == ["websocket.close"]


def test_a_websocket_of_our_own_page_with_a_session_is_let_through(client):
    assert logged_in(client).websocket("/stream", HOST) == ["websocket.accept"]


def test_a_websocket_that_is_kept_open_is_closed_soon_after_its_session_is_over():
    sessions = Sessions(time.time)
    sessions.add(session(token="abc"))
    ended: list[str] = []

    async def clinging(websocket):
        await websocket.accept()
        sessions.remove("abc")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("served")

    app = Starlette(
        routes=[WebSocketRoute("/stream", clinging)], middleware=[Middleware(Gate, sessions=sessions)]
    )
    began = time.monotonic()
    assert logged_in(Asgi(app)).websocket("/stream", HOST) == ["websocket.accept", "websocket.close"]
    assert ended == ["served"]
    assert time.monotonic() - began < 20


def test_what_a_websocket_fails_with_is_not_hidden():
    sessions = Sessions(time.time)
    sessions.add(session(token="abc"))

    async def failing(_websocket):
        raise LookupError("nothing here")

    app = Starlette(
        routes=[WebSocketRoute("/stream", failing)], middleware=[Middleware(Gate, sessions=sessions)]
    )
    with pytest.raises(LookupError):
        logged_in(Asgi(app)).websocket("/stream", HOST)


def test_a_broken_cookie_header_is_no_session():
    assert token_of("a=b; =;;; \x01") is None
    assert token_of(f"x=1; {COOKIE}=abc") == "abc"
