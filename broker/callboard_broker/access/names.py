"""By which names and addresses a board is known, for its certificate and for join codes."""

from __future__ import annotations

import ipaddress
import platform
import re
from collections.abc import Iterable, Sequence

import ifaddr

from callboard_core.settings import Lan

__all__ = ["lan_hosts", "own_addresses", "server_names"]

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_LOOPBACK = ("127.0.0.1", "::1")


def own_addresses() -> list[str]:
    """Return every IP address of this machine but those of one link only (``fe80::``); IPv4 first."""
    found = {
        ipaddress.ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0])
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    }
    usable = [address for address in found if not address.is_link_local]
    return [str(address) for address in sorted(usable, key=lambda one: (one.version, int(one)))]


def lan_hosts(lan: Lan, addresses: Iterable[str] | None = None) -> list[str]:
    """Return by what other machines reach the encrypted listeners, the best first; loopback if there is nothing else.

    Args:
        lan: the settings.
        addresses: this machine's; looked up when None.
    """
    bound = ipaddress.ip_address(lan.bind)
    if not bound.is_unspecified:
        return [*lan.names, str(bound)]
    own = map(ipaddress.ip_address, own_addresses() if addresses is None else addresses)
    reached = [str(one) for one in own if not one.is_loopback and bound.version in {one.version, 6}]
    return [*lan.names, *reached] or ["127.0.0.1"]


def server_names(
    more: Sequence[str] = (), *, host: str = "", addresses: Iterable[str] | None = None
) -> list[str]:
    """Return all a board's certificate is for: loopback, the machine's name and addresses, and ``more``.

    Args:
        more: further names and addresses, by which it is reached through a router or a name server.
        host: the machine's name; its own when empty.
        addresses: the machine's; its own when None.
    """
    name = (host or platform.node()).lower()
    names = {"localhost", *_LOOPBACK, *(own_addresses() if addresses is None else addresses), *more}
    if _HOST_NAME.fullmatch(name):
        names |= {name, f"{name.split('.', maxsplit=1)[0]}.local"}
    return sorted(names)
