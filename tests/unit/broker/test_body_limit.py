"""callboard_broker.http.limits: a body that is too large is refused, whichever way it comes."""

import asyncio
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from callboard_broker.http.errors import http
from callboard_broker.http.limits import BodyLimit

LIMIT = 10


async def reads_everything(scope: Any, receive: Any, send: Any) -> None:
    request = Request(scope, receive)
    try:
        await request.body()
    except HTTPException as error:
        await (await http(request, error))(scope, receive, send)


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"x" * 6, b"x" * 6, b"x"]])
def test_a_body_of_unknown_length_is_refused_without_waiting_for_more_than_it_has(pieces: list[bytes]):
    sent: list[Any] = []
    coming = [{"type": "http.request", "body": one, "more_body": True} for one in pieces]
    coming[-1]["more_body"] = False

    async def receive() -> Any:
        assert coming, "nothing more comes until the client hangs up, which waits for the answer"
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(BodyLimit(reads_everything, limit=LIMIT)(scope, receive, send))
    assert sent[0]["status"] == 413
    assert b"too_large" in sent[1]["body"]
    assert not coming
