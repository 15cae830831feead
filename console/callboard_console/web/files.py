"""Pictures, videos and archives of the farm, handed on from the board to a browser that is logged in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPResponse

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from callboard_console.web.farm import FILES
from callboard_console.web.gate import token_of
from callboard_console.web.sessions import Sessions
from callboard_core.errors import CallboardError

__all__ = ["Files"]

#: What may be asked for below ``/api/v1/``; nothing else of the board is reached through here.
_KNOWN = re.compile(
    r"jobs/[0-9]{1,18}/(?:files\.zip|video|last|frames/-?[0-9]{1,9}/(?:image|thumbnail)|attempts/[\w.-]{1,100}/log)"
)
_HANDED_ON = ("content-type", "content-length", "content-disposition", "etag")
_BLOCK = 64 * 1024


class Files:
    """The route; the gate lets nobody through who is not logged in."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def routes(self) -> list[BaseRoute]:
        """Return the routes to put in front of the console's own."""
        return [Route(f"/{FILES}/{{path:path}}", self.file, methods=["GET"])]

    async def file(self, request: Request) -> Response:
        """Stream one file."""
        path = request.path_params["path"]
        session = self._sessions.get(token_of(request.headers.get("cookie", "")))
        if session is None:
            return PlainTextResponse("log in first\n", status_code=401)
        if not _KNOWN.fullmatch(path):
            return PlainTextResponse("no such file\n", status_code=404)
        try:
            what = request.query_params.get("what")
            answer = await run_in_threadpool(session.api.open, f"/api/v1/{path}", what=what)
        except CallboardError as error:
            return PlainTextResponse(f"{error}\n", status_code=error.http_status)
        headers = {name: value for name in _HANDED_ON if (value := answer.headers.get(name))}
        # A picture of a frame is made anew when the frame is: browsers ask again, and are told when it is the same.
        return StreamingResponse(
            iterate_in_threadpool(_blocks(answer)), headers=headers | {"Cache-Control": "no-cache"}
        )


def _blocks(answer: HTTPResponse) -> Iterator[bytes]:
    with closing(answer):
        while block := answer.read(_BLOCK):
            yield block
