"""Processes of a node's own in which workers' functions run, so that they share no interpreter lock."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from callboard_core.errors import CallboardError, Failed
from callboard_core.jobs import Cancellation

__all__ = ["Children", "is_child"]

#: Fresh interpreters: a fork would copy threads' locks in whatever state they are.
_SPAWN = multiprocessing.get_context("spawn")
#: How they are called, from before they import the program they belong to.
_NAME = "callboard-worker"
#: Seconds to wait for a child to end by itself.
_PATIENCE = 1.0


def is_child() -> bool:
    """Tell whether this is such a process, which imports a node's program for a function and is no node itself."""
    return multiprocessing.current_process().name == _NAME


class Children:
    """Up to ``size`` processes that run one function: one from the start, the others when needed; then kept.

    A call that is cancelled or takes too long ends its process; a fresh one takes its place.

    Args:
        function: a function of a module, so that the other process can import it.
        size: how many processes.
    """

    def __init__(self, function: Callable[..., Any], size: int) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._size = size
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()
        self._closed = False
        self._replace()

    def call(self, arguments: Mapping[str, Any], cancelled: Cancellation) -> Any:
        """Run the function in a process and wait for it.

        Raises:
            Failed: the function raised (``type`` and ``traceback`` are its), or its process ended.
        """
        child = self._take()
        lease = _Lease(child)
        cancelled.then(lease.kill)
        try:
            return child.call(arguments)
        finally:
            lease.end()
            self._put(child)

    def close(self) -> None:
        """End all processes; what they work on fails."""
        with self._lock:
            self._closed = True
            children, self._idle = list(self._all), []
            self._all.clear()
        for child in children:
            child.kill()
        for child in children:
            child.join()

    def _take(self) -> _Child:
        with self._lock:
            if self._closed:
                raise Failed("the worker was stopped")
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
                self._all.discard(child)
            child = _Child(self._function)
            self._all.add(child)
            return child

    def _put(self, child: _Child) -> None:
        with self._lock:
            keep = child.alive and not self._closed and len(self._idle) < self._size
            if keep:
                self._idle.append(child)
            else:
                self._all.discard(child)
        if not keep:
            child.kill()
            child.join()
            self._replace()

    def _replace(self) -> None:
        """Have a process ready for the next call: a fresh interpreter takes its time."""
        with self._lock:
            if not self._closed and not self._idle:
                child = _Child(self._function)
                self._all.add(child)
                self._idle.append(child)


class _Lease:
    """A call's hold on its process: the process is killed for it while it has it, and not once another has it."""

    def __init__(self, child: _Child) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = child

    def kill(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.kill()

    def end(self) -> None:
        with self._lock:
            self._child = None


class _Child:
    """One process and the pipe to it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process: BaseProcess = _SPAWN.Process(
            name=_NAME, target=_serve, args=(theirs, function), daemon=True
        )
        self._killed = False
        self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        return not self._killed and self._process.is_alive()

    def call(self, arguments: Mapping[str, Any]) -> Any:
        try:
            self._pipe.send(dict(arguments))
            ok, outcome = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(_PATIENCE)
            code = self._process.exitcode
            raise Failed(
                f"the worker's process ended while it worked on the call (exit code {code})"
            ) from error
        if ok:
            return outcome
        raise _rebuilt(*outcome)

    def kill(self) -> None:
        self._killed = True
        self._process.kill()

    def join(self) -> None:
        self._process.join(_PATIENCE)
        self._pipe.close()


def _rebuilt(kind: str, text: str, trace: str) -> CallboardError:
    error = Failed(f"{kind}: {text}")
    error.type, error.traceback = kind, trace
    return error


def _serve(pipe: Connection, function: Callable[..., Any]) -> None:
    """The other process: one call after the other, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the node ends us
    with contextlib.suppress(EOFError, OSError):
        while True:
            arguments = pipe.recv()
            pipe.send(_outcome(function, arguments))


def _outcome(function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[bool, Any]:
    import traceback  # noqa: PLC0415 - only when something fails

    try:
        return True, function(**arguments)
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        return False, (type(error).__name__, str(error), "".join(traceback.format_exception(error)))
