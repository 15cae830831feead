"""Errors that cross the wire, their stable codes and the HTTP status each one maps to."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ERRORS",
    "BadPayload",
    "BadRequest",
    "CallboardError",
    "Conflict",
    "Expired",
    "Failed",
    "Forbidden",
    "NotFound",
    "Overloaded",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "error_from_code",
]


class CallboardError(Exception):
    """Base of every error Callboard raises on purpose.

    Attributes:
        code: stable string, the same on MQTT, HTTP, CLI and in Python.
        http_status: the HTTP status the code maps to.
        message: one sentence that says what is wrong and what to do.
        type: when a callee's handler raised: the class of what it raised; None when the call was not begun.
        traceback: the handler's, if its card allows to tell it.
    """

    code: ClassVar[str] = "failed"
    http_status: ClassVar[int] = 500
    type: str | None = None
    traceback: str | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(CallboardError):
    """The request itself is wrong; repeating it unchanged cannot help."""

    code = "bad_request"
    http_status = 400


class BadPayload(BadRequest):
    """A payload that does not parse. ``key`` names the offending key (dotted), or is empty."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class Unauthorized(CallboardError):
    """No valid credential was given."""

    code = "unauthorized"
    http_status = 401


class Forbidden(CallboardError):
    """The credential is valid and does not allow this."""

    code = "forbidden"
    http_status = 403


class NotFound(CallboardError):
    """The thing addressed does not exist (any more)."""

    code = "not_found"
    http_status = 404


class Conflict(CallboardError):
    """Somebody else already holds the name, id or port that was asked for."""

    code = "conflict"
    http_status = 409


class Expired(CallboardError):
    """The call's validity ended before it could run."""

    code = "expired"
    http_status = 410


class TooLarge(CallboardError):
    """The payload is over the limit; bigger things go over HTTP as artifacts."""

    code = "too_large"
    http_status = 413


class Failed(CallboardError):
    """The callee raised; the message carries its exception's type and text."""


class Overloaded(CallboardError):
    """A bounded queue is full; try again later."""

    code = "overloaded"
    http_status = 503


class Unavailable(CallboardError):
    """Nobody can serve this at the moment (node offline, board not reachable)."""

    code = "unavailable"
    http_status = 503


class TimedOut(CallboardError):
    """No answer arrived within the caller's time-out."""

    code = "timeout"
    http_status = 504


ERRORS: dict[str, type[CallboardError]] = {
    kind.code: kind
    for kind in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        Conflict,
        Expired,
        TooLarge,
        Failed,
        Overloaded,
        Unavailable,
        TimedOut,
    )
}


def error_from_code(code: str, message: str) -> CallboardError:
    """Return the error that ``code`` stands for; an unknown code becomes :class:`Failed`."""
    return ERRORS.get(code, Failed)(message)
