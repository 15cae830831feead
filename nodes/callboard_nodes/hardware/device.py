"""A device that may be unplugged: opened when needed, given up when it fails, opened again later."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from callboard_core.errors import CallboardError, Unavailable
from callboard_nodes.hardware.buses import I2C, Bus

__all__ = ["RETRY", "Device", "on_bus"]

#: Least seconds between two attempts to open a device.
RETRY = 1.0
#: The device file itself has gone, not only a chip on the bus.
_GONE = frozenset({errno.ENODEV, errno.EBADF, errno.ENXIO})

T = TypeVar("T")
R = TypeVar("R")


class Device(Generic[T]):
    """Keeps a driver's object as long as it works.

    A chip that was without power has lost its settings, so after any failure the driver starts afresh.

    Args:
        what: how messages call it, e.g. ``bme280 at 0x76 on /dev/i2c-1``.
        opener: makes the driver's object.
        lock: held while the device is opened or used.
    """

    def __init__(
        self,
        what: str,
        opener: Callable[[], T],
        *,
        lock: threading.Lock,
        gone: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._opener, self._lock, self._gone, self._clock = what, opener, lock, gone, clock
        self._device: T | None = None
        self._failed: tuple[float, CallboardError] | None = None

    def use(self, work: Callable[[T], R]) -> R:
        """Run ``work`` with the device, opening it first if need be.

        Raises:
            Unavailable: it does not answer; the message says which and where.
        """
        with self._lock:
            device = self._opened()
            try:
                return work(device)
            except Exception as error:
                self._device = None
                raise self._explained(error) from error

    def _opened(self) -> T:
        if self._device is not None:
            return self._device
        if self._failed is not None and self._clock() < self._failed[0]:
            raise self._failed[1]
        try:
            self._device = self._opener()
        except Exception as error:
            found = self._explained(error)
            self._failed = self._clock() + RETRY, found
            raise found from error
        self._failed = None
        return self._device

    def _explained(self, error: Exception) -> CallboardError:
        if isinstance(error, CallboardError):
            return error
        if isinstance(error, OSError) and error.errno in _GONE:
            self._gone()
        return Unavailable(
            f"{self._what} does not answer ({type(error).__name__}: {error}); check its wiring"
        )


def on_bus(driver: str, bus: Bus, address: int, opener: Callable[[I2C], T]) -> Device[T]:
    """Return the device of a chip on a bus.

    Args:
        driver: what to call the chip.
        bus: where it is.
        address: its 7-bit address, for messages.
        opener: makes the driver's object on the open bus.
    """
    what = f"{driver} at {address:#04x} on {bus.name}"
    return Device(what, lambda: opener(bus.i2c()), lock=bus.lock, gone=bus.forget)
