"""How a caller gets onto a lane: connects, makes sure whom it has reached, and says who it is. Waits."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from time import monotonic

from callboard_core.cards import Lane
from callboard_core.errors import Unauthorized, Unavailable
from callboard_core.lane import frames
from callboard_core.lane.certificate import client_context, is_pinned
from callboard_core.lane.frames import Decoder, Hello, Kind, Welcome
from callboard_core.lane.line import TICK
from callboard_core.lane.wires import Plain, Tls, Wire, peer_user
from callboard_core.messages import ErrorBody, parse

__all__ = ["open_lane"]

#: Seconds to reach one address, and to be let in.
CONNECT, GREETING = 2.0, 5.0


def open_lane(
    lane: Lane, *, near: bool, caller: str, prove: Callable[[], Hello]
) -> tuple[Wire, Decoder, Welcome]:
    """Connect to a worker's process.

    Args:
        lane: what its card says.
        near: whether it is on this host, so that the Unix socket leads to it.
        caller: our client id.
        prove: gets a ticket; asked for one only when the other side is known to be the right one.

    Raises:
        OSError, Unavailable: it cannot be reached.
        Unauthorized: it is somebody else, or does not let us in.
    """
    wire, known = _connect(lane, near=near)
    try:
        return wire, *_greet(wire, Hello(caller=caller) if known else prove())
    except BaseException:
        wire.close()
        raise


def _connect(lane: Lane, *, near: bool) -> tuple[Wire, bool]:
    """Returns also whether the other side knows by itself who we are."""
    if near:
        try:
            return _connect_here(lane)
        except OSError:  # the same machine, and another network of it: a container
            if not lane.port:
                raise
    return _connect_there(lane), False


def _connect_here(lane: Lane) -> tuple[Wire, bool]:
    """Over the Unix socket; also returns whether the kernel vouches for us there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT)
        sock.connect(f"\0{lane.unix}")
        user = peer_user(sock)
    except BaseException:
        sock.close()
        raise
    if user not in {os.geteuid(), 0}:
        sock.close()
        raise Unauthorized("another user's process listens there")
    return Plain(sock, TICK), os.geteuid() in {user, 0}


def _connect_there(lane: Lane) -> Wire:
    problem: Exception = Unavailable("the card names no address")
    for host in lane.hosts:
        try:
            return _connect_to(host, lane.port or 0, lane.fingerprint or "")
        except OSError as error:
            problem = error
    raise problem


def _connect_to(host: str, port: int, fingerprint: str) -> Wire:
    sock = socket.create_connection((host, port), timeout=CONNECT)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured: ssl.SSLSocket = client_context().wrap_socket(sock)
    except BaseException:
        sock.close()
        raise
    if not is_pinned(secured.getpeercert(binary_form=True), fingerprint):
        secured.close()
        raise Unauthorized("its certificate is not the one on the card")
    return Tls(secured)


def _greet(wire: Wire, hello: Hello) -> tuple[Decoder, Welcome]:
    decoder, deadline = Decoder(), monotonic() + GREETING
    frame = frames.encode(Kind.HELLO, hello.encode())
    if wire.write(frame) != len(frame):
        raise Unavailable("it takes nothing")
    while not (found := decoder.feed(_read(wire, deadline))):
        pass
    [(kind, body), *_] = found
    if kind is Kind.REFUSED:
        raise parse(ErrorBody, body).to_exception()
    if kind is not Kind.WELCOME:
        raise Unauthorized(f"it answers with {kind.name}")
    decoder.limit = frames.LIMIT
    return decoder, parse(Welcome, body)


def _read(wire: Wire, deadline: float) -> bytes:
    data = wire.read(max(0.0, deadline - monotonic()))
    if data is None:
        raise Unavailable("it does not answer")
    if not data:
        raise Unavailable("it has closed the connection")
    return data
