"""The road of a link's pools: over a lane where one is open, through the broker otherwise, and opening lanes meanwhile."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import Any

from pydantic import JsonValue

from callboard_core.calls.envelopes import encode_call
from callboard_core.calls.place import here
from callboard_core.calls.roads import Broker, NotSent, Result, address_of
from callboard_core.cards import Lane, WorkerCard
from callboard_core.errors import CallboardError, Unavailable
from callboard_core.lane import opening
from callboard_core.lane.frames import Hello
from callboard_core.lane.line import Answered, Line, Sent
from callboard_core.lane.reactor import Reactor, available
from callboard_core.lane.tickets import proof_of
from callboard_core.link.calls import new_id
from callboard_core.link.link import Link
from callboard_core.messages import Call
from callboard_core.topics import Address, Kind, Leaf
from callboard_core.view import Entry, Key

__all__ = ["Lanes"]

_log = logging.getLogger("callboard.lane")

#: Lanes open at a time, and being opened.
MOST, OPENING = 128, 8
#: Seconds before a lane that could not be opened is tried again; doubled each time up to the second number.
REST, LONGEST_REST = 5.0, 80.0
#: Seconds for which calls follow, through the broker, a message without an answer that went that way.
IN_ORDER = 1.0
#: Seconds for a ticket to come.
_TICKET = 5.0

_by_link: weakref.WeakKeyDictionary[Link, Lanes] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class Lanes:
    """A :class:`~callboard_core.calls.roads.Road`. Thread-safe; :meth:`of` gives the one that a link's pools share.

    The first call to a process goes through the broker, and a lane to it is opened meanwhile. When a lane ends, what was
    not answered is asked for again through the broker: a worker remembers which calls it has had, whichever way they came.
    """

    def __init__(self, link: Link) -> None:
        self._link: Link = weakref.proxy(link)
        self._broker = Broker(self._link)
        self._client = link.client_id
        self._reply_to = link.reply_topic
        self._lines: dict[str, Line] = {}  # by the lane's id
        self._opening: set[str] = set()
        self._rests: dict[str, tuple[float, float]] = {}  # until when, and how long
        self._told: dict[Key, float] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._reactor = Reactor(f"{link.client_id}-lanes", self._renew)
        link.on_stop(self.close)

    @classmethod
    def of(cls, link: Link) -> Lanes | None:
        """Return the link's, made when first asked for; None if the link, or the system, has none."""
        if not (link.direct and available()):
            return None
        with _lock:
            if link not in _by_link:
                _by_link[link] = cls(link)
            return _by_link[link]

    def open_to(self, entry: Entry) -> bool:
        """Tell whether calls to a worker go over a lane now."""
        return self._line(entry) is not None

    # -- the road --------------------------------------------------------------------------------------------

    def call(
        self,
        entry: Entry,
        args: Mapping[str, Any],
        *,
        timeout: float,
        call_id: str,
        on_progress: Callable[[float], None] | None,
    ) -> Future[JsonValue]:
        """See :class:`~callboard_core.calls.roads.Road`."""
        line = self._line(entry)
        if line is not None and not line.full and not (self._told and self._follows(entry.key)):
            answer: Future[Any] = Future()
            sent = Sent(call_id, entry, args, monotonic() + timeout, timeout, on_progress, answer)
            if self._send(line, sent):
                return answer
        return self._broker.call(entry, args, timeout=timeout, call_id=call_id, on_progress=on_progress)

    def ask(
        self, entry: Entry, args: Mapping[str, Any], *, timeout: float, call_id: str
    ) -> Future[JsonValue] | Result:
        """See :class:`~callboard_core.calls.roads.Road`."""
        line = self._line(entry)
        if line is None or line.busy or (self._told and self._follows(entry.key)):
            return self.call(entry, args, timeout=timeout, call_id=call_id, on_progress=None)
        sent = Sent(call_id, entry, args, monotonic() + timeout, timeout)
        try:
            envelope = self._envelope(sent)
        except CallboardError as error:
            return _failed(error)
        if not line.ask(sent, entry.name.encode(), envelope):
            return self.call(entry, args, timeout=timeout, call_id=call_id, on_progress=None)
        return sent.result or sent.future or self._go_on(line, sent)

    def tell(self, entry: Entry, args: Mapping[str, Any], *, timeout: float) -> Future[None]:
        """See :class:`~callboard_core.calls.roads.Road`; the broker takes it, so that the sender knows."""
        now = self._told[entry.key] = monotonic()
        if len(self._told) > MOST:
            self._told = {key: at for key, at in self._told.items() if now - at < IN_ORDER}
        return self._broker.tell(entry, args, timeout=timeout)

    def cancel(self, entry: Entry, call_id: str) -> None:
        """See :class:`~callboard_core.calls.roads.Road`."""
        line = self._line(entry)
        if line is None:
            self._broker.cancel(entry, call_id)
        else:
            call = Call(id=new_id(), reply_to=self._reply_to, cancel=call_id)
            line.send_cancel(entry.name.encode(), call.encode())

    def ask_again(self, entry: Entry, call_id: str, instance: str) -> None:
        """See :class:`~callboard_core.calls.roads.Road`; nothing is lost on a lane while it is open."""
        self._broker.ask_again(entry, call_id, instance)

    def close(self) -> None:
        """Close every lane; calls without an answer fail."""
        with self._lock:
            self._closed = True
            lines = list(self._lines.values())
        for line in lines:
            line.close()
        self._reactor.stop()

    # -- one call --------------------------------------------------------------------------------------------

    def _send(self, line: Line, sent: Sent) -> bool:
        try:
            envelope = self._envelope(sent)
        except CallboardError as error:
            sent.fail(error)
            return True
        sent.timer = self._link.later(sent.timeout, partial(line.expire, sent.id))
        gone = line.call(sent, sent.entry.name.encode(), envelope)
        if not gone:
            sent.timer.cancel()
        return gone

    def _envelope(self, sent: Sent) -> bytes:
        return encode_call(sent.id, self._reply_to, sent.args, now=time.time(), timeout=sent.timeout)

    def _go_on(self, line: Line, sent: Sent) -> Future[Any] | Result:
        """Wait longer for a call that was not answered at once."""
        answer = Answered(line, sent)
        if line.keep(sent, answer):
            return answer
        found = sent.result or sent.future
        if found is not None:
            return found
        sent.future = answer
        self._ask_broker(line, sent, "it was lost")
        return answer

    def _follows(self, key: Key) -> bool:
        """Tell whether a call would overtake what went through the broker to the same worker just before."""
        at = self._told.get(key)
        if at is None:
            return False
        if monotonic() - at < IN_ORDER:
            return True
        self._told.pop(key, None)
        return False

    def _line(self, entry: Entry) -> Line | None:
        card = entry.card
        lane = card.lane if isinstance(card, WorkerCard) else None
        if lane is None:
            return None
        line = self._lines.get(lane.id)
        if line is None:
            self._consider(entry, lane)
        return line

    def _on_lost(self, lane: Lane, line: Line, reason: str, unanswered: list[Sent]) -> None:
        self._reactor.remove(line)
        with self._lock:
            if self._lines.get(lane.id) is line:
                del self._lines[lane.id]
        for sent in unanswered:
            if sent.timer is not None:
                sent.timer.cancel()
            self._ask_broker(line, sent, reason)

    def _ask_broker(self, line: Line, sent: Sent, reason: str) -> None:
        """Ask for an answer through the broker; the same process must not begin the call twice, and no other at all."""
        left = sent.deadline - monotonic()
        if self._closed or left <= 0:
            sent.fail(Unavailable("the link was stopped") if self._closed else sent.late())
            return
        address = address_of(self._link.site, sent.entry)
        again = self._link.call(
            address,
            sent.args,
            timeout=left,
            call_id=sent.id,
            on_progress=sent.on_progress,
            fetch=False,
            again=line.instance,
        )
        again.add_done_callback(partial(_hand_on, sent, reason))

    # -- opening ---------------------------------------------------------------------------------------------

    def _consider(self, entry: Entry, lane: Lane) -> None:
        """Open a lane in the background, if it is worth trying."""
        near = isinstance(entry.card, WorkerCard) and entry.card.host == here().host and lane.unix is not None
        if not (near or lane.port):
            return
        with self._lock:
            until, _ = self._rests.get(lane.id, (0.0, 0.0))
            known = lane.id in self._opening or lane.id in self._lines
            if (
                self._closed
                or known
                or len(self._opening) >= OPENING
                or until > monotonic()
                or len(self._lines) >= MOST
            ):
                return
            self._opening.add(lane.id)
        name = f"{self._client}-lane-opens"
        threading.Thread(target=self._open, args=(entry, lane, near), name=name, daemon=True).start()

    def _open(self, entry: Entry, lane: Lane, near: bool) -> None:
        try:
            wire, decoder, welcome = opening.open_lane(
                lane, near=near, caller=self._client, prove=partial(self._prove, entry.node)
            )
        except (OSError, ValueError, CallboardError, ReferenceError) as error:
            _log.debug("no lane to %s, so calls go through the broker: %s", entry.node, error)
            self._rest(lane.id)
            return
        line = Line(wire, decoder, welcome, self._reactor, partial(self._on_lost, lane))
        line.node = entry.node
        with self._lock:
            self._opening.discard(lane.id)
            self._rests.pop(lane.id, None)
            if not self._closed:
                self._reactor.add(line)
                self._lines[lane.id] = line
                return
        line.close()

    def _rest(self, lane_id: str) -> None:
        with self._lock:
            self._opening.discard(lane_id)
            _, before = self._rests.get(lane_id, (0.0, REST / 2))
            rest = min(2 * before, LONGEST_REST)
            self._rests[lane_id] = (monotonic() + rest, rest)
            while len(self._rests) > MOST:
                del self._rests[next(iter(self._rests))]

    def _prove(self, node: str) -> Hello:
        secret = secrets.token_urlsafe(32)
        return self._hello(secret, self._ask_ticket(node, secret).result())

    def _ask_ticket(self, node: str, secret: str) -> Future[JsonValue]:
        address = Address(self._link.site, node, Leaf.COMMAND, Kind.ACTION, "lane")
        return self._link.call(address, {"proof": proof_of(secret)}, timeout=_TICKET)

    def _hello(self, secret: str, answer: JsonValue) -> Hello:
        ticket = answer.get("ticket") if isinstance(answer, dict) else None
        if not isinstance(ticket, str):
            raise Unavailable("the answer holds no ticket")
        return Hello(caller=self._client, ticket=ticket, secret=secret)

    def _renew(self, line: Line) -> None:
        """Show another ticket on a lane that is open."""
        secret = secrets.token_urlsafe(32)
        self._ask_ticket(line.node, secret).add_done_callback(partial(self._renewed, line, secret))

    def _renewed(self, line: Line, secret: str, answer: Future[JsonValue]) -> None:
        try:
            line.renew(self._hello(secret, answer.result()))
        except CallboardError as error:
            _log.debug("no new ticket for %s: %s", line.node, error)


def _hand_on(sent: Sent, reason: str, answer: Future[Any]) -> None:
    error = answer.exception()
    if isinstance(error, NotSent):
        error = Unavailable(f"the lane was lost ({reason}), and there is no connection to the broker")
    if error is None:
        sent.succeed(answer.result())
    else:
        sent.fail(error)


def _failed(error: CallboardError) -> Future[JsonValue]:
    future: Future[JsonValue] = Future()
    future.set_exception(error)
    return future
