"""Where a server answers, as ``host:port``. Pure."""

from __future__ import annotations

import ipaddress
import re

from callboard_core.errors import BadRequest

__all__ = ["join_address", "split_address"]

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_LARGEST_PORT = 65_535


def join_address(host: str, port: int) -> str:
    """Return ``host:port``; an IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port``; IP addresses come in their usual spelling.

    Raises:
        BadRequest: it is none.
    """
    host, _, digits = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    port = int(digits) if re.fullmatch(r"[0-9]{1,5}", digits) else 0
    wrong = BadRequest(f"address {address!r}: expected host:port, as in 192.168.1.2:8443")
    if not 0 < port <= _LARGEST_PORT:
        raise wrong
    try:
        return str(ipaddress.IPv6Address(bare) if bare != host else ipaddress.IPv4Address(bare)), port
    except ValueError:
        if bare != host or not _HOST_NAME.fullmatch(host):
            raise wrong from None
    return host.lower(), port
