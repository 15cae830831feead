"""Waiting for a future where one is: blocking in a thread, awaiting on an event loop."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["running_loop", "wait_here"]


def wait_here(future: Future[Any]) -> Any:
    """Return the future's result; on an event loop's thread, something to await it with.

    A call must never stop an event loop, so there ``await`` is needed, and elsewhere it is not possible.
    """
    loop = running_loop()
    if loop is None:
        return future.result()
    return sys.modules["asyncio"].wrap_future(future, loop=loop)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop whose thread this is, where nothing may block; None where there is none."""
    # Who has no loop need not pay for importing asyncio.
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - public by documentation
