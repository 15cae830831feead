"""The gate in front of the console: whoever has no session sees the login page and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callboard_console.web.assets import PATHS
from callboard_console.web.sessions import COOKIE, Sessions

__all__ = ["HEADERS", "Gate", "same_origin", "token_of"]

#: Paths that answer without a session: the login page, what it is drawn with, and the health check.
OPEN = PATHS | {"/login", "/healthz"}

#: Sent with every answer. The policy also keeps the page from fetching anything from another host.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; "
        "frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

#: Close code for a websocket that is refused before it is accepted (the client sees HTTP 403), or whose session is over.
_POLICY_VIOLATION = 1008
#: Seconds between two looks whether an open websocket's session still lives, and that its page then has to leave by itself.
_LOOK, _LEAVE = 1.0, 1.5


def token_of(cookie_header: str) -> str | None:
    """Return the session token of a ``Cookie`` header."""
    try:
        morsel = SimpleCookie(cookie_header).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None else None


def same_origin(headers: Headers) -> bool:
    """Tell whether a request comes from our own pages (or from a program, which sends no origin)."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


class Gate:
    """ASGI middleware: lets sessions through, sends browsers to the login page, refuses everything else."""

    def __init__(self, app: ASGIApp, *, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self._app if self._may_pass(scope) else _refusal(scope)
        await app(scope, receive, guarded)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if self._session(headers) and same_origin(headers) and "origin" in headers:
            await self._while_it_lasts(headers, scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})

    async def _while_it_lasts(self, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a websocket, and close it when its session is over: whoever holds it open must not go on through it."""
        closed = False

        async def guarded(message: Message) -> None:
            if not closed:
                await send(message)

        serving = asyncio.ensure_future(self._app(scope, receive, guarded))
        try:
            while not serving.done() and self._session(headers):
                await asyncio.wait([serving], timeout=_LOOK)
            await asyncio.wait([serving], timeout=_LEAVE)
            if serving.done():
                return await serving
            closed = True
            with suppress(OSError):  # the client has gone in the meantime
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        finally:
            serving.cancel()
            await asyncio.wait([serving])

    def _may_pass(self, scope: Scope) -> bool:
        path = scope["path"]
        return path in OPEN or self._session(Headers(scope=scope))

    def _session(self, headers: Headers) -> bool:
        return self._sessions.get(token_of(headers.get("cookie", ""))) is not None


def _refusal(scope: Scope) -> Response:
    wants_page = "text/html" in Headers(scope=scope).get("accept", "")
    if scope["method"] not in {"GET", "HEAD"} or not wants_page:
        return PlainTextResponse("log in first\n", status_code=401)
    asked = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
    target = "/login" if asked == "/" else f"/login?next={quote(asked, safe='')}"
    return RedirectResponse(target, status_code=303)
