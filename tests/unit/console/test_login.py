"""Logging in and out."""

import time

import pytest
from starlette.applications import Starlette

from callboard_console.web.login import Login, local_path
from callboard_console.web.sessions import COOKIE, LIFETIME, Sessions
from support.console import PASSWORDS, Asgi, FakeBoard, FakeLink


@pytest.fixture
def board():
    with FakeBoard() as running:
        yield running


@pytest.fixture
def sessions():
    return Sessions(time.time)


@pytest.fixture
def client(board, sessions):
    login = Login(site="stage", http_url=board.url, sessions=sessions, open_link=lambda _: FakeLink())
    return Asgi(Starlette(routes=login.routes()))


def submit(client, username="operator", password=PASSWORDS["operator"], next_="/", **headers):
    form = {"username": username, "password": password, "next": next_}
    return client.post("/login", data=form, headers=headers)


def test_the_page_names_the_site_and_needs_nothing_from_elsewhere(client):
    page = client.get("/login").text
    assert "stage" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_right_password_starts_a_session_with_a_careful_cookie(client, sessions):
    answer = submit(client, next_="/node?node=a")
    assert (answer.status_code, answer.headers["location"]) == (303, "/node?node=a")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    token = answer.cookies[COOKIE]
    assert len(token) > 40
    session = sessions.get(token)
    assert (session.username, session.role, session.may_command) == ("operator", "operator", True)
    assert session.expires <= time.time() + LIFETIME


def test_every_login_has_its_own_token(client):
    assert submit(client).cookies[COOKIE] != submit(client).cookies[COOKIE]


@pytest.mark.parametrize(("username", "password"), [("operator", "guess"), ("nobody", "x"), ("", "")])
def test_a_wrong_password_says_so_and_keeps_the_name(client, username, password):
    answer = submit(client, username, password)
    assert answer.status_code == 401
    assert "do not match" in answer.text
    assert f'value="{username}"' in answer.text
    assert "set-cookie" not in answer.headers


def test_a_name_with_markup_is_escaped(client):
    assert "<script>" not in submit(client, '"><script>alert(1)</script>', "x").text


def test_guessing_is_stopped_for_a_while(client):
    for _ in range(10):
        submit(client, password="guess")
    answer = submit(client)
    assert answer.status_code == 429
    assert "Try again in" in answer.text


def test_a_form_from_another_site_is_refused(client):
    assert submit(client, origin="http://evil.example").status_code == 403
    assert submit(client, origin="http://testserver").status_code == 303


def test_a_board_that_is_away_is_said_to_be_away(sessions):
    login = Login(site="s", http_url="http://127.0.0.1:9", sessions=sessions, open_link=lambda _: FakeLink())
    answer = submit(Asgi(Starlette(routes=login.routes())))
    assert answer.status_code == 503
    assert "does not answer" in answer.text


def test_whoever_is_logged_in_goes_straight_on(client):
    submit(client)
    assert client.get("/login?next=/topics").headers["location"] == "/topics"


def test_logging_out_ends_the_session_and_the_cookie(client, sessions, board):
    token = submit(client).cookies[COOKIE]
    answer = client.post("/logout", data={"leaving": sessions.get(token).leaving})
    assert answer.headers["location"] == "/login"
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert sessions.get(token) is None
    assert board.tokens == {}


def test_another_site_cannot_log_anybody_out(client, sessions):
    token = submit(client).cookies[COOKIE]
    assert client.post("/logout", data={"leaving": "guess"}).status_code == 403
    proof = {"leaving": sessions.get(token).leaving}
    client.post("/logout", data=proof, headers={"origin": "http://evil.example"})
    assert sessions.get(token) is not None


def test_logging_out_without_a_session_shows_the_login_page(client):
    assert client.post("/logout").headers["location"] == "/login"


def test_a_huge_form_is_not_read(client):
    assert submit(client, "x" * 100_000).status_code == 401


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        (None, "/"),
        ("/node?node=a", "/node?node=a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("http://evil.example", "/"),
        ("/login", "/"),
        ("/x\r\nSet-Cookie: a=b", "/"),
    ],
)
def test_after_the_login_one_stays_on_this_site(asked, target):
    assert local_path(asked) == target


@pytest.mark.parametrize(
    "name", ["live.js", "console.css", "login.css", "logo.svg", "favicon.svg", "source-sans.woff2"]
)
def test_the_consoles_own_files_are_served(client, name):
    answer = client.get(f"/assets/{name}")
    assert answer.status_code == 200
    assert answer.content


@pytest.mark.parametrize("name", ["login.html", "..%2fserver.py", "nothing.css", "_x.js"])
def test_nothing_else_is_served(client, name):
    assert client.get(f"/assets/{name}").status_code == 404


def test_the_health_check_answers(client):
    assert client.get("/healthz").text == "ok\n"


@pytest.mark.parametrize("name", ["a" * 5000 + ".css", "login.html", "..", "%00.css", "login.css.js", ".css"])
def test_an_asset_that_is_none_is_not_found_whatever_its_name(client, name):
    assert client.get(f"/assets/{name}").status_code == 404


def test_the_login_page_is_drawn_with_assets(client):
    answer = client.get("/assets/login.css")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/css")
