"""The node's side of discovery: ask, and take the first board of the wanted site."""

from __future__ import annotations

import time
from contextlib import closing

from callboard_core.discovery.mdns import Browser
from callboard_core.discovery.offers import Offers
from callboard_core.discovery.udp import Asker
from callboard_core.discovery.wire import DEFAULT_PORT, Found
from callboard_core.errors import Unavailable

__all__ = ["find_board"]

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
    start = time.monotonic()
    with closing(Offers(site)) as offers, closing(Asker(offers, port=port)) as asker:
        browser = Browser(offers)
        found = asker.wait(start + min(timeout, _HEAD_START if mdns else timeout))
        if found is None and mdns:
            browser.start()
            found = asker.wait(start + timeout)
        browser.stop()
        if found is None:
            raise Unavailable(_nobody(offers, timeout))
    return found


def _nobody(offers: Offers, timeout: float) -> str:
    wanted = "no board" if offers.site is None else f"no board of site {offers.site!r}"
    others = sorted(f"{found.site!r} at {found.mqtt_url}" for found in offers.others)
    seen = f" (others did: {', '.join(others)})" if others else ""
    ignored = f" ({offers.ignored} answers were not usable)" if offers.ignored else ""
    return (
        f"{wanted} answered within {timeout:g} s{seen}{ignored}; start one with `callboard up`, or give its address "
        "(--board mqtt://host:1883)"
    )
