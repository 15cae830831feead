"""The board's HTTP API as the command line uses it. Nothing but the standard library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from callboard_console.cli.context import Access, connect, elsewhere, find_board, find_credential
from callboard_core.errors import CallboardError, TimedOut, Unavailable, error_from_code

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPResponse

    from callboard_core.artifacts import HttpArtifacts
    from callboard_core.link import Credential, Link
    from callboard_core.settings import Settings

__all__ = ["BoardApi", "open_board", "open_board_and_link", "path"]

#: Seconds the board has to answer.
_TIMEOUT = 30.0
_BLOCK = 256 * 1024


def path(*parts: object) -> str:
    """Return the path of something below the API, its parts quoted."""
    from urllib.parse import quote

    return "/api/v1/" + "/".join(quote(str(part), safe="") for part in parts)


@dataclass(frozen=True)
class BoardApi:
    """Requests on behalf of one user.

    Every method raises the error that the board answers with, Unavailable when it cannot be reached, and TimedOut
    when it does not answer.
    """

    url: str
    credential: Credential
    tls: ssl.SSLContext | None = None

    def get(self, where: str, **query: Any) -> Any:
        """Return what is there."""
        return self.send("GET", where, query=query)

    def post(self, where: str, body: Any) -> Any:
        """Send something, and return the answer."""
        return self.send("POST", where, body)

    def send(self, method: str, where: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """Send a request; returns the answer's JSON, None if it has no body."""
        import json

        with self._answer(method, where, body, query) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def blocks(self, where: str, **query: Any) -> Iterator[bytes]:
        """Yield what is there, block by block."""
        with self._answer("GET", where, None, query) as answer:
            while block := answer.read(_BLOCK):
                yield block

    def artifacts(self) -> HttpArtifacts:
        """Return what sends and fetches files."""
        from callboard_core.artifacts import HttpArtifacts

        return HttpArtifacts(self.url, self.credential, tls=self.tls)

    @contextmanager
    def _answer(
        self, method: str, where: str, body: Any, query: Mapping[str, Any] | None
    ) -> Iterator[HTTPResponse]:
        import http.client
        from urllib.parse import urlsplit

        base = urlsplit(self.url)
        host = base.hostname or ""
        connection = (
            http.client.HTTPSConnection(host, base.port, timeout=_TIMEOUT, context=self.tls)
            if base.scheme == "https"
            else http.client.HTTPConnection(host, base.port, timeout=_TIMEOUT)
        )
        try:
            connection.request(method, base.path.rstrip("/") + where + _query(query), *self._content(body))
            answer = connection.getresponse()
            if answer.status >= 400:  # noqa: PLR2004 - client and server errors
                raise _error(answer.status, answer.read())
            yield answer
        except TimeoutError:
            raise TimedOut(
                f"{self.url} did not answer within {_TIMEOUT:g} s; look whether it was done"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            what = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(f"the board's HTTP API at {self.url} does not answer: {what}") from None
        finally:
            connection.close()

    def _content(self, body: Any) -> tuple[bytes | None, dict[str, str]]:
        import json
        from base64 import b64encode

        both = f"{self.credential.username}:{self.credential.password}".encode()
        headers = {"Authorization": f"Basic {b64encode(both).decode('ascii')}"}
        if body is None:
            return None, headers
        return json.dumps(body).encode(), {**headers, "Content-Type": "application/json"}


def _query(query: Mapping[str, Any] | None) -> str:
    from urllib.parse import urlencode

    given = {name: value for name, value in (query or {}).items() if value is not None}
    return "?" + urlencode(given, doseq=True) if given else ""


def _error(status: int, body: bytes) -> CallboardError:
    import json

    try:
        told = json.loads(body)["error"]
        return error_from_code(told["code"], told["message"])
    except (ValueError, KeyError, TypeError):
        return error_from_code(
            "failed", f"the board answered {status}: {body[:200].decode(errors='replace')}"
        )


@contextmanager
def open_board(access: Access, role: str) -> Iterator[BoardApi]:
    """Find the board's HTTP API and the password of a user of ``role``.

    Raises:
        NotFound: no board, or no password for it.
        Unavailable: the board does not answer.
    """
    settings = access.settings()
    place = _place(settings)
    if place is not None:
        yield BoardApi(place[0], find_credential(access, settings, role, find_board(settings)), place[1])
        return
    with open_board_and_link(access, role) as (api, _):
        yield api


@contextmanager
def open_board_and_link(access: Access, role: str) -> Iterator[tuple[BoardApi, Link]]:
    """The same, and a connection to the broker, by which an API on another machine is found."""
    from callboard_core.board_http import BoardHttp

    settings = access.settings()
    with connect(access, role) as link:
        credential = find_credential(access, settings, role, find_board(settings))
        url, tls = _place(settings) or (BoardHttp(link)(), None)
        yield BoardApi(url, credential, tls), link


def _place(settings: Settings) -> tuple[str, ssl.SSLContext | None] | None:
    """Where the API of the board is that runs here or that is known, and what proves it; None if its card has to tell."""
    from callboard_core.runtime import read_runtime

    runtime = read_runtime(settings.state) if not settings.node.board else None
    if runtime is not None:
        return runtime.http.url, None
    known = elsewhere(settings)
    if known is not None:
        return settings.node.http or known.url(find_board(settings).host), known.context()
    return (settings.node.http, None) if settings.node.http else None
