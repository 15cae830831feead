"""Multicast DNS: publish a board as a DNS-SD service, and look for such services.

zeroconf binds to the addresses it is given once, so each side looks for changes of this machine's networks and
opens it anew. zeroconf is imported when used: it takes longer to load than a UDP answer takes to come.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from callboard_core.discovery.networks import advertised, own_networks
from callboard_core.discovery.offers import Offers
from callboard_core.discovery.wire import Board, Found, Txt, nearest
from callboard_core.errors import CallboardError

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, ServiceStateChange, Zeroconf

__all__ = ["SERVICE", "Browser", "Publisher"]

log = logging.getLogger(__name__)

SERVICE = "_callboard._tcp.local."

#: Seconds between two looks at the machine's networks: while publishing, and while somebody waits.
_PUBLISHER_PAUSE = 5.0
_BROWSER_PAUSE = 1.0
#: Longest time in milliseconds to wait for the details of a service that was seen.
_DETAILS_MS = 500


#: Uses an open zeroconf; pushes on the stack what must be undone before it is closed.
_Opened = Callable[["Zeroconf", list[str], ExitStack], None]


class _Watch:
    """A thread that keeps zeroconf open on the addresses of the moment."""

    def __init__(self, addresses: Callable[[], list[str]], opened: _Opened, pause: float) -> None:
        self._addresses = addresses
        self._opened = opened
        self._pause = pause
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="discovery-mdns", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take the services back and close; returns when done (0.3 s after publishing)."""
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        current: list[str] = []
        stack = ExitStack()
        while not self._done.is_set():
            wanted = self._addresses()
            if wanted != current:
                stack.close()
                current = wanted if self._open(wanted, stack) else []
            self._done.wait(self._pause)
        stack.close()

    def _open(self, addresses: list[str], stack: ExitStack) -> bool:
        from zeroconf import Error, IPVersion, Zeroconf  # noqa: PLC0415 - slow to import

        try:
            zeroconf = Zeroconf(interfaces=list(addresses), ip_version=IPVersion.V4Only)
            stack.callback(zeroconf.close)
            self._opened(zeroconf, addresses, stack)
        except (OSError, Error) as error:
            log.debug("no multicast DNS on %s: %r", ", ".join(addresses), error)
            stack.close()
            return False
        return True


class Publisher:
    """Publishes a board until it is stopped."""

    def __init__(self, board: Board, *, bind: str) -> None:
        self._board = board
        # Unique, so that boards of one site or one host never take each other's name.
        self._name = f"callboard-{board.site}-{secrets.token_hex(4)}"
        self._watch = _Watch(lambda: advertised(bind, own_networks()), self._register, _PUBLISHER_PAUSE)

    def start(self) -> None:
        """Begin to publish; returns at once."""
        self._watch.start()

    def stop(self) -> None:
        """Withdraw the service; returns when done."""
        self._watch.stop()

    def _register(self, zeroconf: Zeroconf, addresses: list[str], _stack: ExitStack) -> None:
        # The name is unique, so nobody needs to be asked whether it is free; that would take 1.2 s more.
        zeroconf.register_service(self._info(addresses), cooperating_responders=True)

    def _info(self, addresses: list[str]) -> ServiceInfo:
        from zeroconf import ServiceInfo  # noqa: PLC0415 - slow to import

        board = self._board
        txt = Txt(
            site=board.site,
            http=board.http_url,
            version=board.version,
            mqtts=board.mqtts,
            https=board.https,
        )
        told = {key: str(value) for key, value in txt.model_dump(exclude_none=True).items()}
        return ServiceInfo(
            SERVICE,
            f"{self._name}.{SERVICE}",
            addresses=[socket.inet_aton(address) for address in addresses],
            port=board.mqtt_port,
            properties={**told, "mqtt": str(board.mqtt_port)},
            server=f"{self._name}.local.",
        )


class Browser:
    """Looks for boards until it is stopped; what it finds goes to ``offers``."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers
        self._watch = _Watch(lambda: [str(own.ip) for own in own_networks()], self._browse, _BROWSER_PAUSE)

    def start(self) -> None:
        """Begin to look; returns at once."""
        self._watch.start()

    def stop(self) -> None:
        """Stop looking; returns when done."""
        self._watch.stop()

    def _browse(self, zeroconf: Zeroconf, _addresses: list[str], stack: ExitStack) -> None:
        from zeroconf import ServiceBrowser  # noqa: PLC0415 - slow to import

        # Closing zeroconf leaves the browser's thread behind.
        stack.callback(ServiceBrowser(zeroconf, SERVICE, handlers=[self._seen]).cancel)

    def _seen(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        from zeroconf import Error, ServiceStateChange  # noqa: PLC0415 - slow to import

        if state_change is ServiceStateChange.Removed:
            return
        try:
            info = zeroconf.get_service_info(service_type, name, timeout=_DETAILS_MS)
            found = None if info is None else _read(info)
        except (CallboardError, Error, ValueError) as error:
            log.debug("ignored the service %s: %s", name, error)
            found = None
        if found is None:
            self._offers.refuse()
        else:
            self._offers.add(found)


def _read(info: ServiceInfo) -> Found | None:
    host = nearest(info.parsed_addresses(), own_networks())
    if host is None:
        return None
    return Found.from_service(Txt.of(info.decoded_properties), host, info.port or 0)
