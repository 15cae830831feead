"""How calls travel to a worker: the road a pool sends them on, and the usual one, through the broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import JsonValue

from callboard_core.errors import CallboardError, Unavailable
from callboard_core.link.link import Link
from callboard_core.topics import Address, Kind, Leaf
from callboard_core.view import Entry

__all__ = ["Broker", "Driven", "NotSent", "Result", "Road", "address_of", "road_of"]


class NotSent(Unavailable):
    """A call that surely has not reached anybody; it may be given to another member whatever it does."""


@dataclass(slots=True, eq=False)
class Result:
    """What a call has come to that was answered at once and has succeeded; it is whole."""

    value: Any


class Driven(Future[Any]):
    """An answer that comes sooner if whoever waits for it drives it."""

    def drive(self, until: Future[Any]) -> None:
        """Wait for the answer, until it is there or ``until`` is done; may return sooner, never after the time-out."""
        raise NotImplementedError


class Road(Protocol):
    """Sends calls. Nothing here waits; all methods may be called from any thread."""

    def call(
        self,
        entry: Entry,
        args: Mapping[str, Any],
        *,
        timeout: float,
        call_id: str,
        on_progress: Callable[[float], None] | None,
    ) -> Future[JsonValue]:
        """Call a worker.

        Returns:
            A future of the answer, which for a result larger than a message is the reference to where it is kept.
            It fails with :class:`NotSent` if the call surely was not sent, with ``TimedOut`` after
            ``timeout`` seconds at the latest, with ``Unavailable`` when the connection to the worker is lost, or
            with the worker's error.
        """

    def ask(
        self, entry: Entry, args: Mapping[str, Any], *, timeout: float, call_id: str
    ) -> Future[JsonValue] | Result:
        """Call a worker on behalf of the calling thread, which waits for the answer.

        Returns:
            The result if it came at once, or as :meth:`call`; what is then :class:`Driven` must be driven, because
            nobody else keeps its time.
        """

    def tell(self, entry: Entry, args: Mapping[str, Any], *, timeout: float) -> Future[None]:
        """Send a call that is not answered; the future is done when it is under way."""

    def cancel(self, entry: Entry, call_id: str) -> None:
        """Ask the worker to interrupt a call."""

    def ask_again(self, entry: Entry, call_id: str, instance: str) -> None:
        """Ask what became of a call that is under way, for its answer may have been lost with a connection.

        Args:
            entry: the worker that has it.
            call_id: which one; a call that is not on this road is left alone.
            instance: of the worker's process when it got the call; no other one may begin it.
        """


class Broker:
    """Through the broker, over a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def call(
        self,
        entry: Entry,
        args: Mapping[str, Any],
        *,
        timeout: float,
        call_id: str,
        on_progress: Callable[[float], None] | None,
    ) -> Future[JsonValue]:
        """See :class:`Road`."""
        if not self._link.connected:
            unsent: Future[JsonValue] = Future()
            unsent.set_exception(NotSent("not connected to the broker"))
            return unsent
        address = address_of(self._link.site, entry)
        return self._link.call(
            address, args, timeout=timeout, call_id=call_id, on_progress=on_progress, fetch=False
        )

    def ask(
        self, entry: Entry, args: Mapping[str, Any], *, timeout: float, call_id: str
    ) -> Future[JsonValue] | Result:
        """See :class:`Road`."""
        return self.call(entry, args, timeout=timeout, call_id=call_id, on_progress=None)

    def tell(self, entry: Entry, args: Mapping[str, Any], *, timeout: float) -> Future[None]:
        """See :class:`Road`."""
        try:
            return self._link.tell(address_of(self._link.site, entry), args, timeout=timeout)
        except CallboardError as error:
            unsent: Future[None] = Future()
            unsent.set_exception(error)
            return unsent

    def cancel(self, entry: Entry, call_id: str) -> None:
        """See :class:`Road`."""
        self._link.cancel(address_of(self._link.site, entry), call_id)

    def ask_again(self, entry: Entry, call_id: str, instance: str) -> None:
        """See :class:`Road`."""
        self._link.ask_again(address_of(self._link.site, entry), call_id, instance)


def road_of(link: Link) -> Road:
    """The road that pools of a link take unless they are given another."""
    from callboard_core.lane.lanes import Lanes  # noqa: PLC0415 - which takes the broker's road, too

    return Lanes.of(link) or Broker(link)


def address_of(site: str, entry: Entry) -> Address:
    """Where a worker is called."""
    return Address(site, entry.node, Leaf.COMMAND, Kind.WORKER, entry.name)
