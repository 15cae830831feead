"""callboard_broker.http.errors: the status is HTTP's, the body always ours."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from callboard_broker.http.errors import install
from callboard_broker.http.shortcut import Shortcut


class Body(BaseModel):
    name: str


def ask(method: str, path: str, **more: Any) -> tuple[int, dict[str, str], httpx.Headers]:
    app = FastAPI()
    install(app)

    @app.post("/things")
    async def add(body: Body) -> str:
        return body.name

    @app.get("/fails/{status}")
    async def fails(status: int) -> None:
        raise HTTPException(status, "so it is")

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://board") as client:
            return await client.request(method, path, **more)

    answer = asyncio.run(request())
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    return answer.status_code, body["error"], answer.headers


def test_a_wrong_method_is_405_and_names_the_right_one():
    status, error, headers = ask("GET", "/things")
    assert (status, headers["Allow"]) == (405, "POST")
    assert error == {"code": "bad_request", "message": "GET is not possible here; use POST"}


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "bad_request"), (401, "unauthorized"), (403, "forbidden"), (404, "not_found"), (409, "conflict"),
     (413, "too_large"), (415, "bad_request"), (429, "overloaded"), (500, "failed"), (503, "overloaded")],
)  # fmt: skip
def test_a_status_of_http_is_kept_and_has_the_code_that_fits(status: int, code: str):
    assert ask("GET", f"/fails/{status}")[:2] == (status, {"code": code, "message": "so it is"})


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the request has no body; send a JSON object"), (b"{", "the body is not valid JSON: "),
     (b"{}", "name: Field required"), (b"[]", "the body: ")],
)  # fmt: skip
def test_a_body_that_will_not_do_is_told_what_it_lacks(content: bytes, message: str):
    status, error, _ = ask("POST", "/things", content=content, headers={"content-type": "application/json"})
    assert (status, error["code"]) == (400, "bad_request")
    assert error["message"].startswith(message)


def test_a_call_of_a_service_that_nobody_has_foreseen_fails_like_everything_else():
    app = FastAPI()
    app.state.services = "none that answer"

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(Shortcut(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://board") as client:
            return await client.get("/api/v1/services/texture")

    answer = asyncio.run(request())
    assert answer.status_code == 500
    message = "AssertionError in the board; its log has the details"
    assert answer.json() == {"error": {"code": "failed", "message": message}}
