"""Addresses: which listeners only this machine reaches, and the URL of one. Pure."""

from __future__ import annotations

from callboard_core.processes import is_loopback

__all__ = ["is_local", "url"]

#: A listener on all addresses is reached on this one from the machine itself.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def is_local(bind: str) -> bool:
    """Tell whether only this machine can connect to a listener on ``bind``."""
    return is_loopback(bind)


def url(bind: str, port: int) -> str:
    """Return the HTTP URL of a listener, as this machine reaches it."""
    host = _EVERYWHERE.get(bind, bind)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
