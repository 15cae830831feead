"""Callboard's public API. What is named here is loaded when it is first used, so that importing it costs nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callboard_core.callee import Request
    from callboard_core.calls.artifacts import ArtifactRef
    from callboard_core.calls.pool import Pool
    from callboard_core.calls.proxy import Proxy
    from callboard_core.directory import Available, Changed, Directory, Dropped
    from callboard_core.errors import CallboardError
    from callboard_core.link import AsyncLink, Credential, Endpoint, Link
    from callboard_core.messages import Severity
    from callboard_nodes.agents import Agent
    from callboard_nodes.client import Client, connect
    from callboard_nodes.declared import after, attribute, every, method, on
    from callboard_nodes.events import Heard
    from callboard_nodes.node import Node

__all__ = [
    "Agent",
    "ArtifactRef",
    "AsyncLink",
    "Available",
    "CallboardError",
    "Changed",
    "Client",
    "Credential",
    "Directory",
    "Dropped",
    "Endpoint",
    "Heard",
    "Link",
    "Node",
    "Pool",
    "Proxy",
    "Request",
    "Severity",
    "after",
    "attribute",
    "connect",
    "every",
    "method",
    "on",
]

_HOMES = {
    "Agent": "callboard_nodes.agents",
    "ArtifactRef": "callboard_core.calls.artifacts",
    "AsyncLink": "callboard_core.link",
    "Available": "callboard_core.directory",
    "CallboardError": "callboard_core.errors",
    "Changed": "callboard_core.directory",
    "Client": "callboard_nodes.client",
    "Credential": "callboard_core.link",
    "Directory": "callboard_core.directory",
    "Dropped": "callboard_core.directory",
    "Endpoint": "callboard_core.link",
    "Heard": "callboard_nodes.events",
    "Link": "callboard_core.link",
    "Node": "callboard_nodes.node",
    "Pool": "callboard_core.calls.pool",
    "Proxy": "callboard_core.calls.proxy",
    "Request": "callboard_core.callee",
    "Severity": "callboard_core.messages",
    "after": "callboard_nodes.declared",
    "attribute": "callboard_nodes.declared",
    "connect": "callboard_nodes.client",
    "every": "callboard_nodes.declared",
    "method": "callboard_nodes.declared",
    "on": "callboard_nodes.declared",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'callboard' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
