"""I²C buses: the board's own, ``/dev/i2c-N``, or a simulated one. Blinka is imported when a real bus is first used."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from callboard_core.errors import BadRequest, Unavailable
from callboard_nodes.hardware.simulated import SimulatedBus

__all__ = ["I2C", "Bus", "blinka", "get_bus"]


class I2C(Protocol):
    """What Adafruit's drivers need of a bus."""

    def try_lock(self) -> bool:
        """Take the bus if it is free."""

    def unlock(self) -> None:
        """Give the bus back."""

    def scan(self) -> list[int]:
        """Return the addresses that answer."""

    def writeto(self, address: int, buffer: Any, *, start: int = 0, end: int | None = None) -> None:
        """Write ``buffer[start:end]``."""

    def readfrom_into(self, address: int, buffer: Any, *, start: int = 0, end: int | None = None) -> None:
        """Fill ``buffer[start:end]``."""

    def writeto_then_readfrom(
        self,
        address: int,
        buffer_out: Any,
        buffer_in: Any,
        *,
        out_start: int = 0,
        out_end: int | None = None,
        in_start: int = 0,
        in_end: int | None = None,
    ) -> None:
        """Write, then read without giving up the bus."""


@dataclass
class Bus:
    """A bus that is opened on first use.

    Adafruit's drivers spin while a bus is locked, so whoever uses a bus holds ``lock`` meanwhile.
    """

    name: str
    opener: Callable[[], I2C]
    simulated: SimulatedBus | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    _open: I2C | None = None

    def i2c(self) -> I2C:
        """Return the open bus.

        Raises:
            Unavailable: it cannot be opened; the message says what to do.
        """
        if self._open is None:
            self._open = self.opener()
        return self._open

    def forget(self) -> None:
        """Open the bus anew next time (its device has gone)."""
        self._open = None


_buses: dict[str, Bus] = {}


def get_bus(name: str | int) -> Bus:
    """Return the bus of that name; each exists once per process.

    Raises:
        BadRequest: there cannot be such a bus.
    """
    text = str(name).removeprefix("/dev/").removeprefix("i2c-")
    if text not in _buses:
        _buses[text] = _make(text)
    return _buses[text]


def _make(name: str) -> Bus:
    if name == "board":
        return Bus("board.I2C()", _open_board)
    if name == "simulated":
        simulated = SimulatedBus()
        return Bus("the simulated bus", lambda: simulated, simulated)
    if name.isdecimal():
        return Bus(f"/dev/i2c-{name}", lambda: _open_device(int(name)))
    raise BadRequest(
        f'bus: {name!r} is not one of "board", a number such as 1 for /dev/i2c-1, or "simulated"'
    )


def blinka(module: str) -> Any:
    """Import a module of Blinka or a driver.

    Raises:
        Unavailable: it is not installed, or Blinka does not know this machine; the message says what to do.
    """
    # Without this Blinka asks on the terminal whether it may install packages.
    os.environ.setdefault("BLINKA_SKIP_DEPENDENCY_CHECK", "1")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed: run pip install 'callboard[pi]'") from error
    except (ImportError, NotImplementedError, RuntimeError, OSError) as error:
        raise Unavailable(f"Blinka does not work on this machine ({error}); {_INSTEAD}") from error


_INSTEAD = 'use bus = 1 for /dev/i2c-1, or bus = "simulated" to try without hardware'
_SWITCH_ON = "switch I2C on (dtparam=i2c_arm=on in config.txt, module i2c-dev) and restart"


def _open_board() -> I2C:
    board = blinka("board")
    if not hasattr(board, "I2C"):
        raise Unavailable(f"this machine ({board.board_id}) has no I2C bus of its own; {_INSTEAD}")
    try:
        opened: I2C = board.I2C()
    except PermissionError as error:
        raise _not_allowed("the I2C bus") from error
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        raise Unavailable(
            f"the board's I2C bus cannot be opened ({_first_line(error)}); {_SWITCH_ON}"
        ) from error
    return opened


def _open_device(number: int) -> I2C:
    device = f"/dev/i2c-{number}"
    extended = blinka("adafruit_extended_bus")
    try:
        opened: I2C = extended.ExtendedI2C(number)
    except PermissionError as error:
        raise _not_allowed(device) from error
    except ValueError as error:
        raise Unavailable(f"there is no {device}; {_SWITCH_ON}, or name another bus") from error
    except (RuntimeError, ImportError, OSError) as error:
        raise Unavailable(f"{device} cannot be opened ({_first_line(error)}); {_SWITCH_ON}") from error
    return opened


def _not_allowed(device: str) -> Unavailable:
    return Unavailable(f"no permission for {device}: add this user to the group i2c and log in again")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
