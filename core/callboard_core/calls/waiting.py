"""Waiting for a future where one is: blocking in a thread, awaiting on an event loop."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["on_loop", "wait_here"]


def wait_here(future: Future[Any]) -> Any:
    """Return the future's result; on an event loop's thread, something to await it with.

    A call must never stop an event loop, so there ``await`` is needed, and elsewhere it is not possible.
    """
    loop = _running_loop()
    if loop is None:
        return future.result()
    return sys.modules["asyncio"].wrap_future(future, loop=loop)


def on_loop() -> bool:
    """Tell whether this is an event loop's thread, where nothing may block."""
    return _running_loop() is not None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    # Who has no loop need not pay for importing asyncio.
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - public by documentation
