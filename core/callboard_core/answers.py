"""Errors, as they are answered: within bounds, and telling what a handler raised from what kept it from running."""

from __future__ import annotations

import traceback
from concurrent.futures import CancelledError

from callboard_core.errors import CallboardError
from callboard_core.messages import ErrorBody, Reply

__all__ = ["LONGEST_TEXT", "encode_error", "raised", "refused"]

#: Longest error text sent, in characters.
LONGEST_TEXT = 4096
#: Longest traceback sent, in characters; its end is what counts.
LONGEST_TRACEBACK = 16_384


def encode_error(call_id: str, body: ErrorBody) -> bytes:
    """Write an error."""
    return Reply(id=call_id, ok=False, error=body).encode()


def refused(error: CallboardError) -> ErrorBody:
    """Describe why a call was not begun; there is no ``type`` in it."""
    return ErrorBody(code=error.code, message=_clean(error.message))


def raised(error: BaseException, *, with_traceback: bool = False) -> ErrorBody:
    """Describe what a handler raised, even if its text cannot be made or encoded; ``type`` is its class."""
    kind = (isinstance(error, CallboardError) and error.type) or type(error).__name__
    if isinstance(error, CancelledError):
        return ErrorBody(code="failed", message="the call was cancelled", type="CancelledError")
    try:
        body = ErrorBody.of(error)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        body = ErrorBody(code="failed", message=f"{kind}: (its text raised {type(broken).__name__})")
    trace = _traceback(error) if with_traceback else None
    return body.model_copy(
        update={"message": _clean(body.message[:LONGEST_TEXT]), "type": kind, "traceback": trace}
    )


def _traceback(error: BaseException) -> str:
    told = (isinstance(error, CallboardError) and error.traceback) or "".join(
        traceback.format_exception(error)
    )
    return _clean(told[-LONGEST_TRACEBACK:])


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
