"""This machine's IPv4 networks, and which addresses of them discovery uses.

Only ``own_networks`` looks at the machine; the rest is pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Interface

import ifaddr

from callboard_core.errors import BadRequest

__all__ = ["LOOPBACK", "advertised", "listening", "own_networks", "targets"]

LOOPBACK = IPv4Interface("127.0.0.1/8")
#: Networks of 2 or fewer addresses have no broadcast address (RFC 3021).
_LONGEST_PREFIX = 30


def own_networks() -> tuple[IPv4Interface, ...]:
    """Every IPv4 address of this machine with its network; loopback first, since it is nearest."""
    found = {
        IPv4Interface(f"{ip.ip}/{ip.network_prefix}")
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if ip.is_IPv4
    }
    return tuple(sorted(found, key=lambda own: (not own.is_loopback, own)))


def targets(networks: Iterable[IPv4Interface]) -> list[str]:
    """The broadcast addresses to which a query goes, each once.

    Directed ones: the limited broadcast 255.255.255.255 leaves by the default route only, if there is one.
    """
    return list(
        dict.fromkeys(_broadcast(own) for own in networks if own.network.prefixlen <= _LONGEST_PREFIX)
    )


def listening(bind: str, networks: Iterable[IPv4Interface]) -> str:
    """Where a board that is bound to ``bind`` listens for queries.

    That is the broadcast address of the same network, so that a board on loopback hears nobody else.

    Raises:
        BadRequest: ``bind`` is an IPv6 address other than ``::`` and ``::1``, or not an address.
    """
    address = _ipv4(bind)
    if address.is_unspecified:
        return "0.0.0.0"
    if address.is_loopback:
        return _broadcast(LOOPBACK)
    return next((_broadcast(own) for own in networks if own.ip == address), str(address))


def advertised(bind: str, networks: Iterable[IPv4Interface]) -> list[str]:
    """Addresses at which others reach a board bound to ``bind``; loopback only if there is nothing else.

    Raises:
        BadRequest: as :func:`listening`.
    """
    address = _ipv4(bind)
    if not address.is_unspecified:
        return [str(address)]
    outside = [str(own.ip) for own in networks if not own.is_loopback]
    return outside or [str(LOOPBACK.ip)]


def _broadcast(own: IPv4Interface) -> str:
    return str(own.network.broadcast_address)


def _ipv4(bind: str) -> ipaddress.IPv4Address:
    same = {"": "0.0.0.0", "::": "0.0.0.0", "::1": "127.0.0.1", "localhost": "127.0.0.1"}
    try:
        return ipaddress.IPv4Address(same.get(bind, bind))
    except ValueError:
        raise BadRequest(
            f"discovery needs an IPv4 address and the broker is bound to {bind!r}; bind it to one (mqtt.bind), "
            "or switch discovery off (discovery.enabled = false)"
        ) from None
