"""The node's side of discovery: ask, and take the first board of the wanted site, or look at all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from callboard_core.discovery.mdns import Browser
from callboard_core.discovery.offers import Offers
from callboard_core.discovery.udp import Asker
from callboard_core.discovery.wire import DEFAULT_PORT, Found
from callboard_core.errors import Unavailable

__all__ = ["find_board", "find_boards"]

#: Seconds for the UDP answer before multicast DNS joins in. An answer takes a few milliseconds; loading zeroconf
#: costs 5.6 MB and more time than that, for nothing when the answer has come.
_HEAD_START = 0.15


def find_board(
    site: str | None = "callboard", timeout: float = 5.0, *, port: int = DEFAULT_PORT, mdns: bool = True
) -> Found:
    """Find the board of a site.

    Args:
        site: which one; ``None`` takes any.
        timeout: seconds to look for it.
        port: UDP port of the query.
        mdns: whether to look by multicast DNS as well.

    Raises:
        Unavailable: no board of the site has answered; the message names the boards that have.
    """
    with _search(site, timeout, port, mdns) as (offers, found):
        first = next(found, None)
        if first is None:
            raise Unavailable(_nobody(offers, timeout))
    return first


def find_boards(
    site: str | None = "callboard", timeout: float = 5.0, *, port: int = DEFAULT_PORT, mdns: bool = True
) -> Iterator[Found]:
    """Yield every board of a site that answers, as the answers come; arguments as for :func:`find_board`.

    For who can tell the right one: close the iterator then, and the search ends.
    """
    with _search(site, timeout, port, mdns) as (_, found):
        yield from found


@contextmanager
def _search(
    site: str | None, timeout: float, port: int, mdns: bool
) -> Iterator[tuple[Offers, Iterator[Found]]]:
    until = time.monotonic() + timeout
    with closing(Offers(site)) as offers, closing(Asker(offers, port=port)) as asker:
        browser = Browser(offers)
        try:
            yield offers, _answers(offers, asker, browser if mdns else None, until)
        finally:
            browser.stop()


def _answers(offers: Offers, asker: Asker, browser: Browser | None, until: float) -> Iterator[Found]:
    if browser is not None:
        asker.wait(min(until, time.monotonic() + _HEAD_START))
        if offers.first is None:
            browser.start()
            browser = None
    while asker.wait(until) is not None and (found := offers.take()) is not None:
        yield found
        if browser is not None:  # the first answer was not enough
            browser.start()
            browser = None


def _nobody(offers: Offers, timeout: float) -> str:
    wanted = "no board" if offers.site is None else f"no board of site {offers.site!r}"
    others = sorted(f"{found.site!r} at {found.mqtt_url}" for found in offers.others)
    seen = f" (others did: {', '.join(others)})" if others else ""
    ignored = f" ({offers.ignored} answers were not usable)" if offers.ignored else ""
    return (
        f"{wanted} answered within {timeout:g} s{seen}{ignored}; start one with `callboard up`, name the "
        "state folder of the one that runs here (--state), or give its address (--board mqtt://host:1883)"
    )
