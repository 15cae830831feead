"""The board's side of discovery: UDP answers and the multicast DNS service, started and stopped together."""

from __future__ import annotations

from callboard_core.discovery.mdns import Publisher
from callboard_core.discovery.udp import Responder
from callboard_core.discovery.wire import DEFAULT_PORT, Board

__all__ = ["Advertiser"]


class Advertiser:
    """Lets nodes find a board.

    Args:
        site: the board's site.
        mqtt_port: where its broker listens.
        http_url: its HTTP API; a host of ``0.0.0.0`` stands for whichever address the asker reached.
        bind: the address the broker is bound to; a board on loopback is found from this machine only.
        port: UDP port of the query, the same on every machine.
        mdns: whether to publish over multicast DNS as well.
        version: Callboard's version on the board.
        mqtts: port of MQTT over TLS, at the same addresses; None where there is none.
        https: port of the HTTP API over TLS.
    """

    def __init__(
        self,
        *,
        site: str,
        mqtt_port: int,
        http_url: str | None = None,
        bind: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        mdns: bool = True,
        version: str = "",
        mqtts: int | None = None,
        https: int | None = None,
    ) -> None:
        board = Board(site, mqtt_port, http_url, version, mqtts, https)
        self._responder = Responder(board, bind=bind, port=port)
        self._publisher = Publisher(board, bind=bind) if mdns else None

    @property
    def answered(self) -> int:
        """UDP queries answered so far."""
        return self._responder.answered

    @property
    def ignored(self) -> int:
        """Datagrams ignored so far because they were no query."""
        return self._responder.ignored

    def start(self) -> None:
        """Answer from now on; the multicast DNS service follows about half a second later.

        Raises:
            Conflict: another program holds the UDP port.
            BadRequest: ``bind`` is not an IPv4 address of this machine.
        """
        self._responder.start()
        if self._publisher is not None:
            self._publisher.start()

    def stop(self) -> None:
        """Withdraw everything; returns when done."""
        self._responder.stop()
        if self._publisher is not None:
            self._publisher.stop()
