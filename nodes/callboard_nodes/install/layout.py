"""Where everything of an installed node lies, under any root. Nothing but paths: no I/O, and the standard library only.

Two virtual environments, ``a`` and ``b``, lie side by side; ``current`` points to the one that runs. What the node's own
user may write is its state; everything else belongs to root.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["INSTALLED", "NODE", "ROLLBACK", "SLOTS", "UPDATE", "USER", "Layout", "Slot"]

Slot = Literal["a", "b"]
SLOTS: tuple[Slot, Slot] = ("a", "b")
#: Names the root folder under which a node is installed; set by its unit.
INSTALLED = "CALLBOARD_INSTALLED"
#: The user and the group that the node runs as.
USER = "callboard"
#: The units, without their endings.
NODE, UPDATE, ROLLBACK = "callboard-node", "callboard-update", "callboard-rollback"


@dataclass(frozen=True)
class Layout:
    """The paths of a node that is installed under ``root``; all are absolute if it is."""

    root: Path = Path("/")

    @property
    def home(self) -> Path:
        """What only root writes: the environments and what updating them needs."""
        return self.root / "opt" / "callboard"

    def slot(self, name: Slot) -> Path:
        """One of the two environments."""
        return self.home / name

    @property
    def current(self) -> Path:
        """The link to the environment that runs; it holds the slot's bare name, so that it is right under any root."""
        return self.home / "current"

    @property
    def program(self) -> Path:
        """The ``callboard`` command of the environment that runs."""
        return self.current / "bin" / "callboard"

    @property
    def rollback(self) -> Path:
        """The program that undoes an update; outside of the environments."""
        return self.home / "rollback.py"

    @property
    def journal(self) -> Path:
        """How far an update is, for whoever goes on after a power cut."""
        return self.home / "update" / "journal.json"

    @property
    def history(self) -> Path:
        """How updates ended, one JSON object a line."""
        return self.home / "update" / "history.jsonl"

    @property
    def pins(self) -> Path:
        """The key that updates must be signed with, as root knows it, and the newest numbers that were well."""
        return self.home / "update" / "pins.json"

    @property
    def wheels(self) -> Path:
        """What the environments are made from."""
        return self.home / "wheels"

    @property
    def etc(self) -> Path:
        """Configuration."""
        return self.root / "etc" / "callboard"

    @property
    def config(self) -> Path:
        """The settings file (``CALLBOARD_CONFIG``)."""
        return self.etc / "callboard.toml"

    @property
    def join(self) -> Path:
        """A join code that has not been used yet; the node empties it once it has joined."""
        return self.etc / "join"

    @property
    def state(self) -> Path:
        """What the node's user writes (``CALLBOARD_STATE``)."""
        return self.root / "var" / "lib" / "callboard"

    @property
    def inbox(self) -> Path:
        """Where the node puts an update that it has fetched."""
        return self.state / "update"

    @property
    def request(self) -> Path:
        """An update that is complete; its appearance starts root's part."""
        return self.inbox / "request.json"

    @property
    def power(self) -> Path:
        """Where the node leaves the order to reboot or to shut down, which only root can carry out."""
        return self.inbox / "power"

    @property
    def health(self) -> Path:
        """Written by a node that has been well for long enough."""
        return self.inbox / "healthy.json"

    @property
    def units(self) -> Path:
        """Where systemd finds units that an administrator installed."""
        return self.root / "etc" / "systemd" / "system"

    @property
    def modules(self) -> Path:
        """The kernel's modules that a card's first start wants for its buses."""
        return self.root / "etc" / "modules-load.d" / "callboard.conf"

    def unit(self, name: str) -> Path:
        """The file of a unit, such as ``callboard-node.service``."""
        return self.units / name

    def inside(self, path: Path) -> str:
        """Return a path as the installed machine sees it.

        Raises:
            ValueError: it does not lie under the root.
        """
        return "/" + path.relative_to(self.root).as_posix()
