"""How a node is run: until a signal ends it, or in a thread beside other work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol

from callboard_core.errors import Unavailable

__all__ = ["NodeThread", "until_signal"]

_log = logging.getLogger("callboard.node")


class Servable(Protocol):
    """What can be run."""

    id: str

    async def serve(self, *, ready: Callable[[], object]) -> None:
        """Run until cancelled."""

    def why_not_connected(self, waited: float) -> str:
        """Say what keeps it from the board."""


async def until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work``; SIGTERM and SIGINT cancel it, and that is a proper end."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    asked = False

    def ask() -> None:
        nonlocal asked
        asked = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    try:
        await task
    except asyncio.CancelledError:
        if not asked:
            raise


class NodeThread:
    """A node on an event loop in a thread of its own."""

    def __init__(self, node: Servable) -> None:
        self._node = node
        self._ready: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name=f"node-{node.id}", daemon=True)
        self._begun = threading.Event()
        self._thread.start()
        self._begun.wait()

    def wait_ready(self, timeout: float) -> None:
        """Wait until the node is on the board; see :meth:`Node.start`."""
        try:
            self._ready.result(timeout)
        except TimeoutError:
            raise Unavailable(self._node.why_not_connected(timeout)) from None

    def stop(self) -> None:
        """Stop the node and wait for its end."""
        if self._loop is not None and self._task is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it ended by itself just now
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            _log.debug("node %s was stopped", self._node.id)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the start
            if self._ready.done():
                _log.error("node %s has ended: %s", self._node.id, error)
            else:
                self._ready.set_exception(error)
        finally:
            self._begun.set()

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._begun.set()
        await self._node.serve(ready=lambda: self._ready.set_result(None))
