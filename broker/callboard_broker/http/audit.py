"""The audit log over HTTP: reading it, exporting it, and noting every request that changes something."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callboard_broker.http.context import Admin, Use
from callboard_broker.services.audit import Audit, AuditRecord, Request, Wanted
from callboard_core.errors import ERRORS

__all__ = ["Noting", "router"]

router = APIRouter(prefix="/audit", tags=["people"])

_COLUMNS = [field.name for field in fields(AuditRecord)]
#: Records read from the database at a time for an export.
_PAGE = 1000
_CODES = {kind.http_status: code for code, kind in reversed(ERRORS.items())}
_QUIET = frozenset({"GET", "HEAD", "OPTIONS"})
_SERVICES = "/api/v1/services/"
#: The largest id that a database holds.
_MOST = 2**63 - 1


def _plain(text: str | None) -> str | None:
    """PostgreSQL takes no NUL in a text."""
    if text is not None and "\0" in text:
        raise ValueError("should hold no NUL")
    return text


def filters(
    who: Annotated[
        str | None, AfterValidator(_plain), Query(max_length=200, description="a user name, exactly")
    ] = None,
    what: Annotated[
        str | None,
        AfterValidator(_plain),
        Query(max_length=100, description="a verb, such as command, or user for user.*"),
    ] = None,
    subject: Annotated[
        str | None, AfterValidator(_plain), Query(max_length=500, description="a part of what it was done to")
    ] = None,
    result: Annotated[
        str | None,
        AfterValidator(_plain),
        Query(max_length=100, description="ok, an error code, or failed for all errors"),
    ] = None,
    since: Annotated[float | None, Query(description="Unix seconds, inclusive")] = None,
    until: Annotated[float | None, Query(description="Unix seconds, exclusive")] = None,
) -> Wanted:
    """Return which records a request is about."""
    return Wanted(who, what, subject, result, since, until)


Filters = Annotated[Wanted, Depends(filters)]


class Entry(BaseModel):
    """Something that somebody did, or tried to."""

    id: int = Field(description="grows with time")
    t: float = Field(description="Unix seconds by the board's clock; of several alike, the last one's")
    who: str = Field(description="the user; in parentheses if only the message itself says so")
    origin: str = Field(description="address, and over MQTT the client id")
    what: str = Field(description="command, login, user.add, or an HTTP method")
    subject: str = Field(description="topic, path, name or id")
    result: str = Field(description="ok, an error code, or sent if nobody was to answer")
    detail: str
    count: int = Field(description="how many alike this stands for")


class Entries(BaseModel):
    """A page of the log."""

    items: list[Entry]
    next: int | None = Field(description="`before` (or `after`) of the next page; null if there may be none")


@router.get("", summary="Who did what")
def entries(
    _person: Admin,
    use: Use,
    wanted: Filters,
    before: Annotated[
        int | None, Query(ge=0, le=_MOST, description="newest first, ids below this one")
    ] = None,
    after: Annotated[
        int | None, Query(ge=0, le=_MOST, description="oldest first instead, ids above this one")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_PAGE)] = 100,
) -> Entries:
    """Return a page of the log, newest first."""
    found = use.audit.find(wanted, before=before, after=after, limit=limit)
    more = found[-1].id if len(found) == limit else None
    return Entries(items=[Entry(**asdict(record)) for record in found], next=more)


@router.get(
    "/export",
    summary="The log as a file",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}, "application/x-ndjson": {}}}},
)
def export(
    _person: Admin,
    use: Use,
    wanted: Filters,
    format: Annotated[Literal["csv", "jsonl"], Query()] = "csv",  # noqa: A002 - the name of the parameter
) -> StreamingResponse:
    """Stream everything that matches, oldest first, as CSV or as one JSON object per line."""
    pages = _pages(use.audit, wanted)
    kind, lines = ("text/csv", _csv(pages)) if format == "csv" else ("application/x-ndjson", _jsonl(pages))
    headers = {"Content-Disposition": f'attachment; filename="audit.{format}"', "Cache-Control": "no-store"}
    return StreamingResponse(lines, media_type=kind, headers=headers)


def _pages(audit: Audit, wanted: Wanted) -> Iterator[list[AuditRecord]]:
    after = 0
    while found := audit.find(wanted, after=after, limit=_PAGE):
        yield found
        after = found[-1].id


def _csv(pages: Iterator[list[AuditRecord]]) -> Iterator[str]:
    yield ",".join(_COLUMNS) + "\r\n"
    for page in pages:
        text = io.StringIO()
        csv.writer(text).writerows([_harmless(value) for value in asdict(record).values()] for record in page)
        yield text.getvalue()


def _harmless(value: object) -> object:
    """A spreadsheet must not take what a stranger wrote for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _jsonl(pages: Iterator[list[AuditRecord]]) -> Iterator[str]:
    for page in pages:
        yield "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in page)


class Noting:
    """Notes every request that changes something, or calls a service, unless what answers it has noted more."""

    def __init__(self, app: ASGIApp, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note what came of it."""
        if scope["type"] != "http" or not _matters(scope):
            await self._app(scope, receive, send)
            return
        status = [500]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        with self._audit.asked() as request:
            request.origin = scope["client"][0] if scope.get("client") else ""
            scope.setdefault("state", {})["audited"] = request
            try:
                await self._app(scope, receive, watched)
            finally:
                if not request.noted and not _is_nobodys(request, status[0]):
                    self._audit.note(request.who, scope["method"], scope["path"], result=_result(status[0]))


def _matters(scope: Scope) -> bool:
    return scope["method"] not in _QUIET or scope["path"].startswith(_SERVICES)


def _is_nobodys(request: Request, status: int) -> bool:
    """Whether a request stopped at the door: what was wrong with a password is noted there; the rest is noise."""
    return not request.who and status in {401, 404, 405}


def _result(status: int) -> str:
    return "ok" if status < 400 else _CODES.get(status, f"http {status}")  # noqa: PLR2004 - errors begin there
