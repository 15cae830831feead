"""Listening on TCP: the socket, how a listener is reached from its own machine, and what to say when it cannot be had."""

from __future__ import annotations

import errno
import ipaddress
import socket

from callboard_core.errors import BadRequest, CallboardError, Conflict, Failed, Forbidden
from callboard_core.processes import port_holder

__all__ = ["explain", "is_loopback", "listen", "port_taken", "reachable"]

#: A listener on all addresses is reached on this one from the machine itself.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can listen on ``host``, or connect to a listener on it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def reachable(bind: str) -> str:
    """Return the address by which this machine reaches a listener on ``bind``."""
    return _EVERYWHERE.get(bind, bind)


def listen(bind: str, port: int, *, what: str, flag: str, backlog: int = 256) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    Args:
        bind: an address of this machine.
        port: TCP port.
        what: who wants to listen, for the message.
        flag: the option that chooses another port, for the message.
        backlog: connections that may wait to be accepted.

    Raises:
        CallboardError: as :func:`explain` says.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Its connections inherit this (Linux, tcp(7)); asyncio forgets it for sockets made without a protocol number,
        # and then an answer in two parts waits 40 ms for the acknowledgement of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((bind, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise explain(error, bind, port, what=what, flag=flag) from error
    return listener


def explain(error: OSError, bind: str, port: int, *, what: str, flag: str) -> CallboardError:
    """Return what to tell people when listening failed.

    A taken port is a ``Conflict`` that names the holder, a port for root only ``Forbidden``, a foreign address
    a ``BadRequest``, anything else ``Failed``.
    """
    if error.errno == errno.EADDRINUSE:
        return port_taken(port, what=what, flag=flag)
    if error.errno == errno.EACCES:
        return Forbidden(f"port {port} ({what}) is only for root; choose one above 1023 with {flag}")
    if error.errno in {errno.EADDRNOTAVAIL, errno.EINVAL} or isinstance(error, socket.gaierror):
        return BadRequest(f"{bind} is no address of this machine ({what}); see `ip -brief address`")
    return Failed(f"{what} cannot listen on {bind}:{port}: {error.strerror or error}")


def port_taken(port: int, *, what: str, flag: str) -> Conflict:
    """Return the error for a port that somebody holds, naming who, if that can be known."""
    holder = port_holder(port) or "another process"
    return Conflict(
        f"port {port} ({what}) is taken by {holder}; stop it, or choose another with {flag} (0 is any free one)"
    )
