"""The board's authority at work: kept in order, its certificate following the machine's addresses, and rotated."""

from __future__ import annotations

import logging
from collections.abc import Callable

from callboard_broker.access.authority import Authority
from callboard_broker.access.names import lan_hosts, server_names
from callboard_core.addresses import join_address
from callboard_core.errors import Conflict
from callboard_core.settings import Settings
from callboard_core.trust.enrolment import BoardFacts, Reach

__all__ = ["Keys"]

_log = logging.getLogger(__name__)


class Keys:
    """The authority, and what machines are told about where the board is.

    Args:
        authority: the board's.
        settings: where the encrypted listeners are.
        names: by what the board is known now.
    """

    def __init__(
        self, authority: Authority, settings: Settings, names: Callable[[list[str]], list[str]] = server_names
    ) -> None:
        self.authority = authority
        self._settings = settings
        self._names = names
        self._known: list[str] = []

    def check_open(self) -> None:
        """Return only if other machines can reach this board.

        Raises:
            Conflict: they cannot.
        """
        if not self._settings.lan.enabled:
            raise Conflict("no other machine can reach this board; start it with `callboard up --lan`")
        if self._settings.mqtt.engine.startswith(("mqtt://", "mqtts://")):
            raise Conflict(
                f"the broker {self._settings.mqtt.engine} is not this board's own: "
                "make the credentials of nodes there"
            )

    def reach(self) -> Reach:
        """Return where the encrypted listeners are.

        Raises:
            Conflict: there are none.
        """
        lan = self._settings.lan
        if not lan.enabled:
            raise Conflict("no other machine can reach this board; start it with `callboard up --lan`")
        ours = not self._settings.mqtt.engine.startswith(("mqtt://", "mqtts://"))
        return Reach(
            site=self._settings.site, mqtt_port=lan.mqtt_port if ours else None, http_port=lan.http_port
        )

    def addresses(self) -> list[str]:
        """Return where the board answers HTTPS, as ``host:port``, the best first."""
        return [join_address(host, self._settings.lan.http_port) for host in lan_hosts(self._settings.lan)]

    def facts(self) -> BoardFacts:
        """Return what a machine that is let in must know."""
        return BoardFacts(
            bundle=self.authority.bundle,
            update_key=self.authority.update_key,
            mqtt_port=self._settings.lan.mqtt_port,
            http_port=self._settings.lan.http_port,
            addresses=self.addresses(),
        )

    def names(self) -> list[str]:
        """Return by what the board is known now."""
        return self._names(self._settings.lan.names)

    def tend(self) -> None:
        """Make the server's certificate anew if the machine's names or addresses changed; call it now and then."""
        names = self.names()
        if names != self._known:
            if self.authority.ensure(names) and self._known:
                _log.info("this machine's addresses changed; its certificate was made anew")
            self._known = names
