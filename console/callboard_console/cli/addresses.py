"""Addresses: which listeners only this machine reaches, and the URL of one. Pure."""

from __future__ import annotations

from callboard_core.listening import is_loopback, reachable

__all__ = ["is_local", "url"]


def is_local(bind: str) -> bool:
    """Tell whether only this machine can connect to a listener on ``bind``."""
    return is_loopback(bind)


def url(bind: str, port: int) -> str:
    """Return the HTTP URL of a listener, as this machine reaches it."""
    host = reachable(bind)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
