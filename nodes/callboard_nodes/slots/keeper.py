"""What outlives a restart of the node: which slots people have put out of work, and why."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callboard_nodes.slots.slot import Kept

__all__ = ["Keeper"]

_log = logging.getLogger("callboard.slots")


class Keeper:
    """One small file, replaced as a whole.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._all: dict[str, dict[str, Any]] = self._load()

    def get(self, name: str) -> Kept:
        """Return what was kept of a slot."""
        found = self._all.get(name, {})
        state = found.get("state")
        return Kept(state, found.get("reason")) if state in {"disabled", "asleep"} else Kept()

    def put(self, name: str, kept: Kept) -> None:
        """Keep it; a disk that refuses is told in the log."""
        if kept == self.get(name):
            return
        self._all[name] = {"state": kept.state, "reason": kept.reason}
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(self._all), "utf-8")
            fresh.replace(self._path)
        except OSError as error:
            _log.warning("that slot %s is %s cannot be kept: %s", name, kept.state or "open", error)

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return {key: dict(value) for key, value in found.items()} if isinstance(found, Mapping) else {}
