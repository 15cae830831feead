"""The board's HTTP API as the console uses it: log in, history, statuses, refused messages, nodes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

from callboard_core.errors import CallboardError, Unauthorized, Unavailable, error_from_code

__all__ = ["Api", "Grant", "Query"]

#: Seconds the board has to answer; a page waits no longer than this.
TIMEOUT = 5.0

# The board is reached directly; a proxy meant for the internet must not see its tokens.
_OPENER = build_opener(ProxyHandler({}))


_part = partial(quote, safe="")

#: A value of a query parameter; several values are several parameters, None is none.
Query = str | float | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login gave: a bearer token, who it stands for, and when it ends (Unix seconds)."""

    username: str
    role: str
    token: str
    expires: float
    rights: frozenset[str] | None = None

    def __repr__(self) -> str:
        return f"Grant(username={self.username!r}, role={self.role!r})"


_T = TypeVar("_T")


class Api:
    """The API on behalf of one user. Logs in again by itself when the board forgot the token.

    Every method raises :class:`Unavailable` when the board does not answer within ``timeout`` seconds, and
    the board's own error otherwise.

    Args:
        url: where the board's HTTP answers.
        username: who asks.
        password: in clear.
        asked_from: address of the person's browser, so that the board slows down whoever guesses passwords there
            and not everybody who uses the console.
        timeout: seconds.
    """

    def __init__(
        self, url: str, username: str, password: str, *, asked_from: str = "", timeout: float = TIMEOUT
    ) -> None:
        self.url = url.rstrip("/")
        self._asked_from = asked_from
        self._username = username
        self._password = password
        self._timeout = timeout
        self._grant: Grant | None = None
        self._lock = threading.Lock()

    def login(self) -> Grant:
        """Exchange username and password for a token.

        Raises:
            Unauthorized: the pair is wrong.
        """
        body = {"username": self._username, "password": self._password}
        answer = self._send("POST", "/api/v1/session", body=body, token=None)
        rights = frozenset(answer["rights"]) if "rights" in answer else None
        grant = Grant(answer["username"], answer["role"], answer["token"], float(answer["expires"]), rights)
        with self._lock:
            self._grant = grant
        return grant

    def logout(self) -> None:
        """Give the token back. A board that is away has forgotten it by the time it returns."""
        with self._lock:
            grant, self._grant = self._grant, None
        if grant is None:
            return
        try:
            self._send("DELETE", "/api/v1/session", token=grant.token)
        except CallboardError:
            return

    def role(self) -> str:
        """Return the role that the board gives this user now.

        Raises:
            Unauthorized: the user is disabled, gone, or has another password.
        """
        return str(self.get("/api/v1/me")["role"])

    def nodes(self) -> list[dict[str, Any]]:
        """Return what the registry knows of every node."""
        return list(self.get("/api/v1/nodes")["items"])

    def statuses(self, node: str, start: float, end: float) -> list[dict[str, Any]]:
        """Return the changes of a node's status between two Unix times: ``t``, ``status``, ``epoch``."""
        path = f"/api/v1/nodes/{_part(node)}/statuses"
        return list(self.get(path, start=start, end=end)["items"])

    def history(
        self, node: str, kind: str, name: str, start: float, end: float, *, points: int = 500
    ) -> dict[str, Any]:
        """Return a series between two Unix times, thinned by the board to at most ``points`` points."""
        path = f"/api/v1/history/{_part(node)}/{_part(kind)}/{_part(name)}"
        return self.get(path, start=start, end=end, points=points)

    def refused(self) -> dict[str, Any]:
        """Return ``count`` and the last refused messages (``items``)."""
        return self.get("/api/v1/refused")

    def get(self, path: str, **query: Query) -> dict[str, Any]:
        """Return what the board answers to a question: a JSON object."""
        asked = _asked(path, query)
        return self._as_user(lambda token: self._send("GET", asked, token=token))

    def post(
        self, path: str, body: Mapping[str, Any], *, method: str = "POST", **query: Query
    ) -> dict[str, Any]:
        """Have the board do something; returns what it answers."""
        asked = _asked(path, query)
        return self._as_user(lambda token: self._send(method, asked, token=token, body=body))

    def open(self, path: str, **query: Query) -> HTTPResponse:
        """Open one of the board's files; whoever asks reads and closes it."""
        asked = _asked(path, query)
        return self._as_user(lambda token: self._open("GET", asked, token=token))

    def _as_user(self, ask: Callable[[str], _T]) -> _T:
        with self._lock:
            grant = self._grant
        if grant is not None:
            try:
                return ask(grant.token)
            except Unauthorized:
                pass  # the board was restarted or the token ran out: ask for a new one below
        return ask(self.login().token)

    def _send(
        self, method: str, path: str, *, token: str | None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            with self._open(method, path, token=token, body=body) as answer:
                return _object(answer.read())
        except (OSError, HTTPException) as error:
            raise self._silent(error) from error

    def _open(
        self, method: str, path: str, *, token: str | None, body: Mapping[str, Any] | None = None
    ) -> HTTPResponse:
        headers = {"Accept": "application/json"}
        if self._asked_from:
            headers["X-Forwarded-For"] = self._asked_from
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = Request(self.url + path, data=data, headers=headers, method=method)  # noqa: S310 - our own URL
        try:
            answer: HTTPResponse = _OPENER.open(request, timeout=self._timeout)
        except HTTPError as error:
            with error:
                raise _error(error) from None
        except (OSError, HTTPException) as error:
            raise self._silent(error) from error
        return answer

    def _silent(self, error: Exception) -> Unavailable:
        return Unavailable(f"the board's HTTP at {self.url} does not answer: {error}")


def _asked(path: str, query: Mapping[str, Query]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _object(raw: bytes) -> dict[str, Any]:
    found = json.loads(raw) if raw.strip() else {}
    return found if isinstance(found, dict) else {}


def _error(error: HTTPError) -> CallboardError:
    try:
        body = json.loads(error.read())["error"]
        return error_from_code(str(body["code"]), str(body["message"]))
    except (ValueError, KeyError, TypeError, OSError):
        code = "unauthorized" if error.code == 401 else "unavailable" if error.code >= 500 else "bad_request"  # noqa: PLR2004
        return error_from_code(code, f"the board answered {error.code} {error.reason}")
