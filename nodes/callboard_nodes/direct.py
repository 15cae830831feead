"""A node's direct lane: where it listens, by its settings and by how it reaches the broker."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable

from callboard_core.callee import Callee
from callboard_core.cards import Lane
from callboard_core.discovery.networks import own_networks
from callboard_core.errors import CallboardError
from callboard_core.lane.server import LaneServer
from callboard_core.link import Link
from callboard_core.settings import LaneSettings
from callboard_core.topics import Kind

__all__ = ["Direct"]

_log = logging.getLogger("callboard.node")


class Direct:
    """Listens from the first worker on: at once for callers on this host, and once connected for those on others.

    Args:
        link: the node's connection.
        callee: runs the calls.
        settings: whether and where.
        instance: the node's.
        changed: called when the cards should tell something else.
    """

    def __init__(
        self,
        link: Link,
        callee: Callee,
        settings: LaneSettings,
        *,
        instance: str,
        changed: Callable[[], object],
    ) -> None:
        self._link, self._callee, self._settings = link, callee, settings
        self._instance, self._changed = instance, changed
        self._server: LaneServer | None = None
        self._lock = threading.Lock()
        self._bound = ""
        self._closed = False
        link.direct = settings.enabled

    def lane(self) -> Lane | None:
        """What the cards tell; listens from the first question on."""
        with self._lock:
            if not self._settings.enabled or self._closed:
                return None
            if self._server is None:
                self._server = self._listen()
            return self._server.lane

    def close(self) -> None:
        """Listen no more."""
        with self._lock:
            self._closed = True
            server = self._server
        if server is not None:
            server.close()

    def _listen(self) -> LaneServer:
        server = LaneServer(
            self._callee,
            node=self._callee.node,
            site=self._link.site,
            instance=self._instance,
            post=lambda topic, payload: self._link.post(topic, payload, qos=1, expires_in=60.0),
            online=lambda: self._link.connected,
        )
        server.listen_here()
        self._callee.handle(Kind.ACTION, "lane", server.ticket, run="inline")
        if self._settings.bind:
            self._link.on_connect(self._listen_on_network)
        return server

    def _listen_on_network(self) -> None:
        """See to it that callers on other hosts can connect; a thread of its own, for a certificate takes time."""
        threading.Thread(target=self._reach_out, name=f"{self._callee.node}-lane-opens", daemon=True).start()

    def _reach_out(self) -> None:
        bind = self._settings.bind if self._settings.bind != "auto" else _own_address(self._link)
        with self._lock:
            server = self._server
            if server is None or self._closed or bind in {"", self._bound}:
                return
            self._bound = bind
        try:
            server.listen_on(bind, self._settings.port, _hosts(bind))
        except (CallboardError, OSError) as error:
            _log.warning("calls from other hosts go through the broker: %s", error)
            return
        self._changed()


def _own_address(link: Link) -> str:
    """This host's address on the way to the broker; empty if that does not leave the host."""
    endpoint = link.endpoint
    if endpoint is None:
        return ""
    try:
        [(family, kind, _, _, there), *_] = socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_DGRAM
        )
        with socket.socket(family, kind) as probe:
            probe.connect(there)  # sends nothing
            found = str(probe.getsockname()[0])
    except OSError as error:
        _log.debug("the way to the broker is not known: %s", error)
        return ""
    # Whoever reaches the broker by an address of this very host is on it.
    return "" if ipaddress.ip_address(found).is_loopback or found == there[0] else found


def _hosts(bind: str) -> list[str]:
    """Under which addresses a listener is reached."""
    if not ipaddress.ip_address(bind).is_unspecified:
        return [bind]
    return [str(own.ip) for own in own_networks() if not own.ip.is_loopback][:16]
