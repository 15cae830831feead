"""GPIO pins through Blinka's ``digitalio``, or simulated ones."""

from __future__ import annotations

import threading
from typing import Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator

from callboard_core.errors import Unavailable
from callboard_nodes.hardware.buses import blinka
from callboard_nodes.hardware.device import Device
from callboard_nodes.hardware.simulated import simulated_pin

__all__ = ["Pin", "PinBus", "PinName", "pin"]


class Pin(Protocol):
    """What is used of a ``digitalio.DigitalInOut``."""

    value: bool


def _pin_name(value: object) -> object:
    return f"D{value}" if isinstance(value, int) and not isinstance(value, bool) else value


#: A pin's name on the board, ``"D17"``; the number 17 means the same.
PinName = Annotated[str, BeforeValidator(_pin_name)]
PinBus = Literal["board", "simulated"]
Pull = Literal["up", "down"]


def pin(name: str, *, bus: PinBus, output: bool, pull: Pull | None = None) -> Device[Pin]:
    """Return a pin as a device that is opened on first use.

    Args:
        name: as the board calls it.
        bus: ``board`` for a real pin.
        output: drive it; otherwise it is read.
        pull: the pull resistor of an input.
    """
    what = f"pin {name} of {'the board' if bus == 'board' else 'the simulated pins'}"
    if bus == "simulated":
        return Device(what, lambda: simulated_pin(name), lock=threading.Lock())
    return Device(what, lambda: _open(name, output=output, pull=pull), lock=threading.Lock())


def _open(name: str, *, output: bool, pull: Pull | None) -> Any:
    board, digitalio = blinka("board"), blinka("digitalio")
    if not hasattr(board, name) or digitalio.Pin is None:
        raise Unavailable(
            f'this machine ({board.board_id}) has no pin {name}; see dir(board), or use bus = "simulated" to try without'
        )
    opened = digitalio.DigitalInOut(getattr(board, name))
    if output:
        opened.switch_to_output()
    else:
        opened.switch_to_input(pull=getattr(digitalio.Pull, pull.upper()) if pull else None)
    return opened
