"""How large a request may be; the answer to a larger one looks like every other error."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callboard_broker.http.errors import answer
from callboard_core.errors import BadRequest, CallboardError, TooLarge

__all__ = ["BodyLimit"]


#: How many times the limit is read, and thrown away, of a body that is too large.
_SWALLOWED = 8


class BodyLimit:
    """Refuses by Content-Length before anything is kept, and cuts off a body that does not say its length.

    Paths that begin with ``streamed`` look after the size of what they are sent themselves.
    """

    def __init__(self, app: ASGIApp, limit: int, streamed: str | None = None) -> None:
        self._app = app
        self._limit = limit
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is small enough."""
        if scope["type"] != "http" or (self._streamed and scope["path"].startswith(self._streamed)):
            await self._app(scope, receive, send)
        elif (error := self._check(scope)) is not None:
            await self._swallow(receive)
            await answer(error, {"Connection": "close"})(scope, receive, send)
        else:
            await self._app(scope, self._counting(receive), send)

    async def _swallow(self, receive: Receive) -> None:
        """Take in what is still being sent, within bounds.

        A connection that is closed with data unread is reset, and the client never sees the answer.
        """
        left = _SWALLOWED * self._limit
        more = True
        while more and left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            more = message.get("more_body", False)

    def _check(self, scope: Scope) -> CallboardError | None:
        text = Headers(scope=scope).get("content-length", "0")
        if not text.isdecimal():
            return BadRequest(f"Content-Length: {text!r} is not a number")
        return self._too_large(int(text)) if int(text) > self._limit else None

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(f"a body of {size} bytes or more is over the limit of {self._limit}")

    def _counting(self, receive: Receive) -> Receive:
        read = 0

        async def count() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                if message.get("more_body", False):  # else nothing more comes, and waiting would never end
                    await self._swallow(receive)
                # The one exception that the framework's parser of bodies lets pass.
                raise HTTPException(
                    TooLarge.http_status, self._too_large(read).message, {"Connection": "close"}
                )
            return message

        return count
