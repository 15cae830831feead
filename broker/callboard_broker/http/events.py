"""Events: what happens, as server-sent events."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from time import monotonic
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from callboard_broker.http.context import Reader, Services, Use
from callboard_broker.services.feed import Listener
from callboard_broker.services.logins import Person
from callboard_core.errors import Unauthorized

__all__ = ["router"]

router = APIRouter(tags=["events"])

Name = Literal["status", "card", "state", "event"]
_ALL: tuple[Name, ...] = ("status", "card", "state", "event")
#: Seconds of silence after which a comment is sent, so that a dead connection is noticed.
_HEARTBEAT = 15.0
#: Seconds between two looks whether the listener may still be here; a revoked one must be gone within 5.
_LOOK = 2.0

_log = logging.getLogger(__name__)


@router.get(
    "/events",
    summary="What happens",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    person: Reader,
    use: Use,
    types: Annotated[list[Name], Query(description="which events; all if missing")] = list(_ALL),  # noqa: B006 - FastAPI copies it
) -> StreamingResponse:
    """Stream ``status``, ``card``, ``state`` and ``event`` events, each with JSON data.

    A listener that does not keep up is let go: read the whole picture again and reconnect. So is one whose user was
    disabled or has a new password, or whose token has ended.
    """
    listener = use.feed.listen(frozenset(types))
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(use, listener, person), media_type="text/event-stream", headers=headers)


async def _stream(use: Services, listener: Listener, person: Person) -> AsyncIterator[bytes]:
    look_at, beat_at = monotonic() + _LOOK, monotonic() + _HEARTBEAT
    try:
        yield b": listening\n\n"
        async for happening in listener.events(_LOOK):
            now = monotonic()
            if now >= look_at:
                look_at = now + _LOOK
                use.logins.check(person)
            if happening is not None:
                beat_at = now + _HEARTBEAT
                yield b"event: %b\ndata: %b\n\n" % (happening.name.encode(), happening.data)
            elif now >= beat_at:
                beat_at = now + _HEARTBEAT
                yield b": still here\n\n"
    except Unauthorized as error:
        _log.warning("the events of %s end: %s", person.username, error.message)
    finally:
        use.feed.leave(listener)
