"""Events: what happens, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from callboard_broker.http.context import Reader, Services, Use
from callboard_broker.services.feed import Listener

__all__ = ["router"]

router = APIRouter(tags=["events"])

Name = Literal["status", "card", "state", "event"]
_ALL: tuple[Name, ...] = ("status", "card", "state", "event")
#: Seconds of silence after which a comment is sent, so that a dead connection is noticed.
_HEARTBEAT = 15.0


@router.get(
    "/events",
    summary="What happens",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    _person: Reader,
    use: Use,
    types: Annotated[list[Name], Query(description="which events; all if missing")] = list(_ALL),  # noqa: B006 - FastAPI copies it
) -> StreamingResponse:
    """Stream ``status``, ``card``, ``state`` and ``event`` events, each with JSON data.

    A listener that does not keep up is let go: read the whole picture again and reconnect.
    """
    listener = use.feed.listen(frozenset(types))
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(use, listener), media_type="text/event-stream", headers=headers)


async def _stream(use: Services, listener: Listener) -> AsyncIterator[bytes]:
    try:
        yield b": listening\n\n"
        async for happening in listener.events(_HEARTBEAT):
            if happening is None:
                yield b": still here\n\n"
            else:
                yield b"event: %b\ndata: %b\n\n" % (happening.name.encode(), happening.data)
    finally:
        use.feed.leave(listener)
