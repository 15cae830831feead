"""Logging in and out: the login page and the cookie."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from html import escape
from secrets import compare_digest, token_urlsafe
from string import Template
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from callboard_console.web.assets import STATIC, asset
from callboard_console.web.client import Api
from callboard_console.web.gate import same_origin, token_of
from callboard_console.web.sessions import COOKIE, LIFETIME, Attempts, Session, Sessions
from callboard_core.errors import CallboardError, Unauthorized, Unavailable
from callboard_core.link import Credential, Link

__all__ = ["Login", "local_path"]

#: A login form is a few hundred bytes.
_FORM_LIMIT = 8192


class Login:
    """The routes that need no session."""

    def __init__(
        self,
        *,
        site: str,
        http_url: str,
        sessions: Sessions,
        open_link: Callable[[Credential], Link],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._site = site
        self._http_url = http_url
        self._sessions = sessions
        self._open_link = open_link
        self._clock = clock
        self._attempts = Attempts(clock)

    def routes(self) -> list[BaseRoute]:
        """Return the routes to put in front of the console's own."""
        return [
            Route("/login", self.form, methods=["GET"]),
            Route("/login", self.submit, methods=["POST"]),
            Route("/logout", self.leave, methods=["POST"]),
            Route("/assets/{name}", asset, methods=["GET"]),
            Route("/healthz", _healthz, methods=["GET"]),
        ]

    async def form(self, request: Request) -> Response:
        """Show the login page, or go on to the console when there is a session already."""
        target = local_path(request.query_params.get("next"))
        if self._sessions.get(token_of(request.headers.get("cookie", ""))) is not None:
            return RedirectResponse(target, status_code=303)
        return self._page(target)

    async def submit(self, request: Request) -> Response:
        """Check the credential with the board and start a session."""
        form = await _form(request)
        target = local_path(form.get("next"))
        username, password = form.get("username", "").strip(), form.get("password", "")
        address = request.client.host if request.client else ""
        if not same_origin(request.headers):
            return self._page(target, "This form was sent from another site.", username, 403)
        if (wait := self._attempts.wait(address)) > 0:
            return self._page(target, f"Too many attempts. Try again in {wait:.0f} s.", username, 429)
        try:
            session = await asyncio.to_thread(self._open, username, password, address)
        except Unauthorized:
            self._attempts.failed(address)
            return self._page(target, "That name and password do not match.", username, 401)
        except Unavailable:
            return self._page(target, f"The board at {self._http_url} does not answer.", username, 503)
        except CallboardError as error:
            return self._page(target, str(error), username, error.http_status)
        self._sessions.add(session)
        return self._welcome(target, session, encrypted=_is_encrypted(request))

    async def leave(self, request: Request) -> Response:
        """End the session and show the login page."""
        token = token_of(request.headers.get("cookie", ""))
        session = self._sessions.get(token)
        form = await _form(request)
        if session is None or token is None or not same_origin(request.headers):
            return RedirectResponse("/login", status_code=303)
        if not compare_digest(form.get("leaving", ""), session.leaving):
            return PlainTextResponse("log out from the console's own page\n", status_code=403)
        await asyncio.to_thread(self._sessions.remove, token)
        answer = RedirectResponse("/login", status_code=303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=_is_encrypted(request))
        return answer

    def _open(self, username: str, password: str, address: str) -> Session:
        if not username or not password:
            raise Unauthorized("name and password are needed")
        api = Api(self._http_url, username, password, asked_from=address)
        grant = api.login()
        return Session(
            token=token_urlsafe(32),
            username=grant.username,
            role=grant.role,
            rights=grant.rights,
            expires=min(grant.expires, self._clock() + LIFETIME),
            credential=Credential(username, password),
            api=api,
            open_link=self._open_link,
        )

    def _welcome(self, target: str, session: Session, *, encrypted: bool) -> Response:
        answer = RedirectResponse(target, status_code=303)
        answer.set_cookie(
            COOKIE,
            session.token,
            max_age=int(session.expires - self._clock()),
            httponly=True,
            samesite="lax",
            secure=encrypted,  # such a cookie never travels in clear
        )
        return answer

    def _page(self, target: str, error: str = "", username: str = "", status: int = 200) -> Response:
        template = Template((STATIC / "login.html").read_text(encoding="utf-8"))
        shown = {"site": self._site, "next": target, "error": error, "username": username}
        page = template.substitute({key: escape(text) for key, text in shown.items()})
        return HTMLResponse(page, status_code=status, headers={"Cache-Control": "no-store"})


def local_path(path: str | None) -> str:
    """Return ``path`` if it stays on this site, else the first page."""
    if path is None or not path.startswith("/") or path.startswith(("//", "/\\", "/login", "/logout")):
        return "/"
    return path if path.isprintable() else "/"


def _is_encrypted(request: Request) -> bool:
    return request.url.scheme == "https"


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_LIMIT:
            return {}
    return {key: found[0] for key, found in parse_qs(body.decode("utf-8", "replace")).items()}
