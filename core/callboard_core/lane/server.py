"""Where a worker's process listens for callers: an abstract Unix socket, and a TCP port under TLS if it is wanted."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Protocol

from pydantic import JsonValue

from callboard_core import topics
from callboard_core.calls.envelopes import Asked
from callboard_core.cards import Lane
from callboard_core.errors import BadRequest, CallboardError, Unavailable
from callboard_core.jobs import Request
from callboard_core.lane.certificate import server_context
from callboard_core.lane.connection import HANDSHAKE, SILENCE, Connection, Work
from callboard_core.lane.frames import Hello
from callboard_core.lane.tickets import LIFETIME, Tickets
from callboard_core.lane.wires import Plain, Tls, Wire, same_user
from callboard_core.runners import Pool
from callboard_core.topics import Kind

__all__ = ["LEASE", "LaneServer"]

_log = logging.getLogger("callboard.lane")

#: Seconds for which a ticket admits; a caller that may not command any more is out within.
LEASE = 4.5
#: Connections at a time, and those among them that have not said yet who they are.
CONNECTIONS, STRANGERS = 512, 64
#: Seconds of work from which on a function does not run on the thread that reads its caller's connection.
BRISK = 0.001
#: Times in a row that it may take five times as long before that is taken for its pace.
STRIKES = 2
#: Seconds after which another thread reads while one is at work.
HAND_OVER = 0.01
#: Seconds between two looks at the connections while calls come, and while none do.
_LOOK, _IDLE = 0.1, 1.0
_NEWEST = 0.2


class Takes(Protocol):
    """What is needed of a callee."""

    def take(
        self,
        call: Asked,
        kind: Kind,
        name: str,
        arrived: float,
        answer: Callable[[bytes], None],
        *,
        run: Callable[[Work], bool] | None = None,
    ) -> None:
        """Take a call."""


class _Pace:
    """How long a worker's function takes, on average."""

    __slots__ = ("mean", "slow")

    def __init__(self) -> None:
        self.mean = 2 * BRISK  # not known yet
        self.slow = 0

    def time(self, work: Work) -> None:
        """Do something and take its time."""
        began = monotonic()
        work()
        self.note(monotonic() - began)

    def note(self, took: float) -> None:
        """Take in that it has taken so many seconds. A machine that is busy elsewhere makes nothing slow."""
        if took <= 5 * BRISK:
            self.slow = 0
            self.mean += _NEWEST * (min(took, BRISK) - self.mean)
        elif self.slow < STRIKES:
            self.slow += 1
        else:
            self.mean = took


class LaneServer:
    """Serves a node's workers on sockets. Thread-safe.

    Args:
        callee: runs the calls.
        node: the node's id.
        site: first level of topics.
        instance: the node's.
        post: sends a payload to a topic through the broker.
        online: tells whether there is a connection to the broker; without one no ticket can be had, so none falls due.
    """

    def __init__(
        self,
        callee: Takes,
        *,
        node: str,
        site: str,
        instance: str,
        post: Callable[[str, bytes], object],
        online: Callable[[], bool],
    ) -> None:
        self.instance = instance
        self._callee, self._node, self._site, self._post, self._online = callee, node, site, post, online
        self._lane = Lane(id=secrets.token_hex(8))
        self._tickets = Tickets()
        self._pool = Pool(f"{node}-lane", 1000)
        self._paces: dict[str, _Pace] = {}
        self._lock = threading.Lock()
        self._listeners: list[socket.socket] = []
        self._connections: set[Connection] = set()
        self._news, self._ends = threading.Event(), threading.Event()
        self._arriving = 0  # those whose TLS is not agreed on yet
        self._closed = False
        threading.Thread(target=self._watch, name=f"{node}-lane-watch", daemon=True).start()

    @property
    def lane(self) -> Lane:
        """What the cards tell of it."""
        return self._lane

    def listen_here(self) -> None:
        """Listen for callers on this host, where the system has what it takes."""
        if not hasattr(socket, "SO_PEERCRED"):
            return
        name = f"callboard/{self._node}/{self._lane.id}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"\0{name}")  # abstract: without a file, so nothing is left behind (unix(7))
        self._listen(listener, None)
        self._lane = self._lane.model_copy(update={"unix": name})

    def listen_on(self, bind: str, port: int, hosts: list[str]) -> None:
        """Listen for callers on the network.

        Args:
            bind: address to listen on.
            port: 0 for any free one.
            hosts: under which addresses it is reached.

        Raises:
            Unavailable: it cannot listen there, or there is no certificate.
        """
        context, fingerprint = server_context()
        family = socket.AF_INET6 if ipaddress.ip_address(bind).version == 6 else socket.AF_INET  # noqa: PLR2004
        try:
            listener = socket.create_server((bind, port), family=family, backlog=128)
        except OSError as error:
            raise Unavailable(f"the lane cannot listen on {bind} port {port}: {error}") from None
        self._stop_listening([one for one in self._listeners if one.family != socket.AF_UNIX])
        self._listen(listener, context)
        update = {"hosts": hosts, "port": listener.getsockname()[1], "fingerprint": fingerprint}
        self._lane = self._lane.model_copy(update=update)

    def ticket(self, request: Request) -> JsonValue:
        """Answer the action ``lane``: a ticket for whoever may send commands here.

        Raises:
            BadRequest: nobody waits for the answer, or there is no proof.
            Overloaded: too many tickets are out.
        """
        if request.caller is None:
            raise BadRequest("a ticket is for who waits for the answer; set reply_to")
        caller = topics.client_of(request.caller)
        with self._lock:
            ticket = self._tickets.issue(caller, request.args.get("proof"), monotonic())
        return {"ticket": ticket, "lifetime": LIFETIME}

    def close(self) -> None:
        """Listen no more; answers that are still to come go through the broker."""
        with self._lock:
            self._closed = True
            listeners, connections = list(self._listeners), list(self._connections)
        self._stop_listening(listeners)
        for connection in connections:
            connection.close()
        self._pool.stop()
        self._ends.set()
        self._news.set()

    # -- what connections need -------------------------------------------------------------------------------

    def reply_topic(self, caller: str) -> str:
        """Where a caller's answers go through the broker."""
        return topics.reply(self._site, topics.check_id(caller, "caller"))

    def admit(self, hello: Hello) -> bool:
        """Tell whether the ticket is good."""
        with self._lock:
            return self._tickets.redeem(hello.caller, hello.ticket, hello.secret, monotonic())

    def lease(self) -> float:
        """Seconds for which a ticket admits."""
        return LEASE

    def take(self, connection: Connection, call: Asked, worker: str) -> None:
        """Take a call; what is done quickly is done on the thread that read it."""
        if not self._news.is_set():
            self._news.set()
        pace = self._paces.get(worker)
        if pace is None:
            pace = self._paces.setdefault(worker, _Pace()) if len(self._paces) < CONNECTIONS else _Pace()
        run = (
            partial(self._run_here, connection, pace) if pace.mean < BRISK else partial(self._run_apart, pace)
        )
        self._callee.take(call, Kind.WORKER, worker, monotonic(), connection.answer, run=run)

    def post(self, caller: str, payload: bytes) -> None:
        """Send an answer through the broker."""
        try:
            self._post(self.reply_topic(caller), payload)
        except CallboardError as error:
            _log.debug("an answer to %s is lost: %s", caller, error)

    def ended(self, connection: Connection) -> None:
        """Forget a connection."""
        with self._lock:
            self._connections.discard(connection)

    # -- inside ----------------------------------------------------------------------------------------------

    def _run_here(self, connection: Connection, pace: _Pace, work: Work) -> bool:
        pace.note(connection.run(work))
        return True

    def _run_apart(self, pace: _Pace, work: Work) -> bool:
        return self._pool.run(partial(pace.time, work))

    def _listen(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        listener.listen(128)
        with self._lock:
            self._listeners.append(listener)
        name = f"{self._node}-lane-accept"
        threading.Thread(target=self._accept, args=(listener, context), name=name, daemon=True).start()

    def _stop_listening(self, listeners: list[socket.socket]) -> None:
        with self._lock:
            self._listeners = [one for one in self._listeners if one not in listeners]
        for listener in listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
            listener.close()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if listener not in self._listeners:
                    return
                _log.warning("no caller can connect for now: %s", error)  # out of file descriptors
                self._ends.wait(0.1)
                continue
            if not self._has_room():
                sock.close()
                continue
            with self._lock:
                self._arriving += 1
            name = f"{self._node}-lane-{sock.fileno()}"
            threading.Thread(target=self._serve, args=(sock, context), name=name, daemon=True).start()

    def _serve(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            trusted = same_user(sock)
            wire = _secure(sock, context)
        except (OSError, ValueError) as error:
            _log.debug("a stranger could not be understood: %s", error)
            sock.close()
            return
        finally:
            with self._lock:
                self._arriving -= 1
        connection = Connection(wire, self, trusted=trusted)
        with self._lock:
            if self._closed:
                wire.close()
                return
            self._connections.add(connection)
        connection.serve()

    def _has_room(self) -> bool:
        with self._lock:
            strangers = self._arriving + sum(not one.caller for one in self._connections)
            return len(self._connections) < CONNECTIONS and strangers < STRANGERS

    def _watch(self) -> None:
        """Look after connections whose thread is at work, or whose ticket's time is over."""
        while not self._closed:
            self._news.clear()
            with self._lock:
                connections = list(self._connections)
            now = monotonic()
            if sum(self._look_at(one, now) for one in connections):
                self._ends.wait(_LOOK)
            else:
                self._news.wait(_IDLE)
                self._ends.wait(_LOOK)  # nearly all work is done before it is looked at

    def _look_at(self, one: Connection, now: float) -> bool:
        """Look after a connection; tells whether it should soon be looked at again."""
        if one.until is not None and now > one.until and self._online():
            one.lose("its ticket's time is over")
        since = one.busy_since
        if since is not None and now - since > HAND_OVER:
            one.hand_over()
        return since is not None


def _secure(sock: socket.socket, context: ssl.SSLContext | None) -> Wire:
    if context is None:
        return Plain(sock, SILENCE)
    sock.settimeout(HANDSHAKE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Tls(context.wrap_socket(sock, server_side=True))
