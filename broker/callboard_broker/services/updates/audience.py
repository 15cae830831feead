"""Who may fetch what was pushed to nodes: settings and files may hold secrets, releases hold none."""

from __future__ import annotations

from collections.abc import Callable

from callboard_core.updates import Manifest

__all__ = ["Audience"]


class Audience:
    """Safe from any thread.

    Args:
        has_own_user: tells whether a node logs in as a user of its own, which has the node's name.
    """

    def __init__(self, has_own_user: Callable[[str], bool]) -> None:
        self._has_own_user = has_own_user
        self._nodes: dict[str, list[list[str]]] = {}

    def add(self, manifest: Manifest) -> None:
        """Note what was published."""
        if manifest.kind != "release":
            for one in manifest.files:
                self._nodes.setdefault(one.sha256, []).append(manifest.nodes)

    def concerns(self, sha256: str) -> bool:
        """Tell whether this content was pushed."""
        return sha256 in self._nodes

    def includes(self, sha256: str, user: str) -> bool:
        """Tell whether this content was pushed to a node that logs in as ``user``, or to all.

        Nodes that share a user are told apart by nothing but the hash, which only the node that is meant is sent.
        """
        return any(
            not nodes or user in nodes or (not self._has_own_user(user) and self._shares_a_user(nodes))
            for nodes in self._nodes.get(sha256, ())
        )

    def _shares_a_user(self, nodes: list[str]) -> bool:
        return not all(map(self._has_own_user, nodes))
