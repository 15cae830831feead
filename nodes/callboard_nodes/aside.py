"""Work that waits for disks, networks or processors, in daemon threads: none of it may keep a node from stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from callboard_core.errors import Overloaded
from callboard_core.runners import Pool

__all__ = ["aside"]

_T = TypeVar("_T")

#: Pieces of work that may hang at a time.
_THREADS = 500
_POOL = Pool("aside", _THREADS)


async def aside(function: Callable[..., _T], *args: Any) -> _T:
    """Run a function in a thread and return what it returns; cancelling this does not stop it.

    Raises:
        Overloaded: all threads hang.
        Exception: what the function raises.
    """
    future: Future[_T] = Future()
    if not _POOL.run(partial(_settle, future, function, *args)):
        raise Overloaded(f"{_THREADS} pieces of work of this node hang")
    return await asyncio.wrap_future(future)


def _settle(future: Future[_T], function: Callable[..., _T], *args: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*args)
    except BaseException as error:  # noqa: BLE001 - it is the future's
        future.set_exception(error)
    else:
        future.set_result(result)
