"""What every listener needs to let a client in, whatever it came through."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from callboard_broker.engine.embedded.guard import Guard
from callboard_broker.engine.embedded.turn import Turn
from callboard_broker.engine.embedded.unheard import Unheard
from callboard_broker.mqtt.hub import Hub

__all__ = ["Door"]


@dataclass(frozen=True, slots=True)
class Door:
    """The hub behind, the turn that writes, the guard in front, and who has fallen silent."""

    hub: Hub
    turn: Turn
    guard: Guard
    unheard: Unheard = field(default_factory=Unheard)

    def enter(self, address: str) -> bool:
        """Tell whether one more socket from ``address`` is welcome."""
        return self.guard.enter(address, asyncio.get_running_loop().time())

    def leave(self, address: str) -> None:
        """A socket that entered is closed."""
        self.guard.leave(address)
