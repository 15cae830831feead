"""Where the board is that a node has joined. Addresses are hints, whoever tells them: only its authority proves it."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import NamedTuple

from callboard_core.addresses import join_address, split_address
from callboard_core.discovery import Found
from callboard_core.errors import CallboardError, Unavailable
from callboard_core.link import Credential, Endpoint
from callboard_nodes.enrolment.https import NotTheBoard, explain_tls
from callboard_nodes.enrolment.store import Enrolment, Store

__all__ = ["Place", "Whereabouts"]

_log = logging.getLogger("callboard.enrolment")

#: Seconds to reach an address, and for its handshake.
_REACH = 2.0
#: Seconds after which a connection to an address counts as having worked.
_SETTLED = 15.0
#: Addresses that are remembered.
_MOST = 8


class Place(NamedTuple):
    """Where the board is, or may be."""

    host: str
    mqtt_port: int
    https_port: int

    @property
    def endpoint(self) -> Endpoint:
        """Where MQTT is."""
        return Endpoint(self.host, self.mqtt_port, tls=True)

    @property
    def url(self) -> str:
        """Where the HTTP API is."""
        return f"https://{self.address}"

    @property
    def address(self) -> str:
        """The HTTP API's ``host:port``."""
        return join_address(self.host, self.https_port)


#: Looks for boards of a site.
Search = Callable[[str], Iterable[Found]]


class Whereabouts:
    """Finds the board of an enrolment anew before every connect.

    The address that worked last is taken as it is; when that did not help, all that are known are tried, and then what
    discovery tells, each by a TLS handshake in which the board has to prove itself.

    Args:
        store: the enrolment, which is read anew each time.
        search: yields the boards that answer to a search for a site.
        hint: an address that somebody gave, tried first.
    """

    def __init__(self, store: Store, search: Search, hint: Endpoint | None = None) -> None:
        self._store, self._search, self._hint = store, search, hint
        self._given = float("-inf")
        self._failures = 0
        self._place: Place | None = None

    @property
    def enrolled(self) -> bool:
        """True if there is an enrolment."""
        return self._store.path.exists()

    def enrolment(self) -> Enrolment:
        """Return the enrolment.

        Raises:
            Unavailable: there is none any more.
            Failed: it is damaged.
        """
        found = self._store.read()
        if found is None:
            raise Unavailable(
                f"there is no enrolment in {self._store.path} any more; join the board again "
                "(`callboard node --join CODE`)"
            )
        return found

    def endpoint(self) -> Endpoint:
        """Return where to connect.

        Raises:
            Unavailable: the board was not found; the message says where it was looked for.
        """
        enrolment = self.enrolment()
        failed = monotonic() - self._given < _SETTLED
        self._failures = self._failures + 1 if failed else 0
        try:
            self._place = self._look(enrolment) if failed else self._last(enrolment)
        finally:
            self._given = monotonic()
        return self._place.endpoint

    def url(self) -> str:
        """Return where the HTTP API is, beside the broker."""
        return self._last(self.enrolment()).url

    def address(self) -> str:
        """Return the HTTP API's ``host:port``."""
        return self._last(self.enrolment()).address

    def context(self) -> ssl.SSLContext:
        """Return what connects to the broker.

        Every second attempt goes without the certificate: one that has expired, or that a board restored from a
        backup does not know, must not keep out a node that has its password.
        """
        return self.enrolment().context(certified=self._failures % 2 == 0)

    def web_context(self) -> ssl.SSLContext:
        """Return what connects to the HTTP API, where the password says who asks."""
        return self.enrolment().context()

    def credential(self) -> Credential:
        """Return what to log in with."""
        return self.enrolment().credential

    def _last(self, enrolment: Enrolment) -> Place:
        return self._place or next(self._known(enrolment))

    # -- looking -----------------------------------------------------------------------------------------------

    def _known(self, enrolment: Enrolment) -> Iterator[Place]:
        record = enrolment.record
        if self._hint is not None:
            yield Place(self._hint.host, self._hint.port, record.http_port)
        for address in record.addresses:
            host, port = split_address(address)
            yield Place(host, record.mqtt_port, port)

    def _look(self, enrolment: Enrolment) -> Place:
        context, tried = enrolment.context(), []
        for place in self._candidates(enrolment):
            try:
                _prove(place, context)
            except CallboardError as error:
                tried.append(error.message)
                _log.log(
                    logging.WARNING if isinstance(error, NotTheBoard) else logging.DEBUG, "%s", error.message
                )
            else:
                self._remember(enrolment, place)
                return place
        raise Unavailable(
            f"the board of site {enrolment.record.site!r} is not found: {'; '.join(tried) or 'no address is known'}"
        )

    def _candidates(self, enrolment: Enrolment) -> Iterator[Place]:
        """Every place to try, each once: what is known, then what answers to a search."""
        seen = set()
        for place in self._known(enrolment):
            seen.add(place)
            yield place
        try:
            for found in self._search(enrolment.record.site):
                place = _place_of(found, enrolment)
                if place not in seen:
                    seen.add(place)
                    yield place
        except CallboardError as error:
            _log.debug("no search for the board: %s", error)

    def _remember(self, enrolment: Enrolment, place: Place) -> None:
        """Have the next start begin where the board is now."""
        record = enrolment.record
        others = [address for address in record.addresses if address != place.address]
        addresses = [place.address, *others][:_MOST]
        if (addresses, place.mqtt_port) == (record.addresses, record.mqtt_port):
            return
        told = {"addresses": addresses, "mqtt_port": place.mqtt_port, "http_port": place.https_port}
        try:
            self._store.note(record.model_copy(update=told))
        except OSError as error:
            _log.warning("where the board is now is not remembered: %s", error)


def _place_of(found: Found, enrolment: Enrolment) -> Place:
    record = enrolment.record
    return Place(found.host, found.mqtts or record.mqtt_port, found.https or record.http_port)


def _prove(place: Place, context: ssl.SSLContext) -> None:
    """Return only if the board is there.

    Raises:
        NotTheBoard: somebody else is.
        Unavailable: nobody answers, or the clock is wrong.
    """
    where = f"{place.host}:{place.mqtt_port}"
    try:
        with (
            socket.create_connection((place.host, place.mqtt_port), timeout=_REACH) as raw,
            context.wrap_socket(raw, server_hostname=place.host),
        ):
            return
    except ssl.SSLError as error:
        raise explain_tls(where, error) from None
    except OSError as error:
        raise Unavailable(f"{where} does not answer: {error.strerror or error}") from None
