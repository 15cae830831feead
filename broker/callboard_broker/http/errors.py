"""Every error as ``{"error": {"code", "message"}}`` with the status its code maps to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from callboard_core.errors import (
    BadRequest,
    CallboardError,
    Conflict,
    Failed,
    Forbidden,
    NotFound,
    Overloaded,
    TooLarge,
    Unauthorized,
)
from callboard_core.messages import ErrorBody

__all__ = ["ErrorAnswer", "answer", "http", "install", "unexpected"]

_log = logging.getLogger(__name__)

_OF_STATUS: dict[int, type[CallboardError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: Overloaded,
    503: Overloaded,
}
_NOT_ALLOWED = 405
#: Parts of a location that say where a field is, not how it is called.
_PLACES = {"body", "query", "path", "header", "cookie"}


class ErrorAnswer(BaseModel):
    """What every failed request answers."""

    error: ErrorBody


def answer(
    error: CallboardError, headers: Mapping[str, str] | None = None, status: int | None = None
) -> JSONResponse:
    """Return the response for an error; ``status`` where HTTP knows it better than the error's code."""
    told = ErrorBody(code=error.code, message=error.message, type=error.type, traceback=error.traceback)
    return JSONResponse(
        ErrorAnswer(error=told).model_dump(exclude_none=True),
        status or error.http_status,
        {**_headers(error), **(headers or {})},
    )


def _headers(error: CallboardError) -> dict[str, str]:
    match error:
        case Unauthorized():
            return {"WWW-Authenticate": 'Basic realm="Callboard", charset="UTF-8"'}
        case Overloaded():
            return {"Retry-After": "1"}
    return {}


def install(app: FastAPI) -> None:
    """Have the application answer all errors this way."""
    app.add_exception_handler(CallboardError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CallboardError)  # noqa: S101 - what it is registered for
    return answer(error)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
    return answer(BadRequest(_sentence(error.errors())))


async def http(request: Request, error: Exception) -> JSONResponse:
    """Answer what the framework raised."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    kind = _OF_STATUS.get(error.status_code, BadRequest if error.status_code < 500 else Failed)  # noqa: PLR2004
    detail = str(error.detail)
    if error.status_code == _NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"{request.method} is not possible here; use {allowed}"
    return answer(kind(detail), error.headers, error.status_code)


async def unexpected(request: Request, error: Exception) -> JSONResponse:
    """Answer, and log, what nobody has foreseen."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(Failed(f"{type(error).__name__} in the board; its log has the details"))


def _sentence(problems: Sequence[Any]) -> str:
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"] if part not in _PLACES)
    what = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return f"the body is not valid JSON: {what}"
    if key:
        return f"{key}: {what}"
    if first["type"] == "missing":
        return "the request has no body; send a JSON object"
    return f"the body: {what}"
