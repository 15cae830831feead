"""Simulated hardware, down to the registers: a bus with chips that unmodified drivers read, and GPIO pins.

Use it in tests, or on a machine without hardware with ``bus = "simulated"`` in a sensor's table. Register maps and
formulas are those of the chips' data sheets.
"""

from __future__ import annotations

import errno
import math
import os
import struct
import time
from collections.abc import Callable
from typing import Any, Protocol

__all__ = [
    "Ads1115Chip",
    "Bme280Chip",
    "Chip",
    "Mcp9808Chip",
    "Quantity",
    "SimulatedBus",
    "SimulatedPin",
    "plug_if_simulated",
    "simulated_pin",
    "wave",
]

#: A fixed value or something that gives it when asked.
Quantity = float | Callable[[], float]


def wave(mean: float, swing: float, period: float = 600.0) -> Callable[[], float]:
    """Return a quantity that swings around ``mean`` by ``swing`` once per ``period`` seconds."""
    return lambda: mean + swing * math.sin(2 * math.pi * time.time() / period)


_ROOM = wave(21.0, 2.0)
_DAMP = wave(45.0, 5.0)
_AIR = wave(1013.0, 3.0)
_VOLTS = wave(1.5, 0.5)


def _now(quantity: Quantity) -> float:
    return quantity() if callable(quantity) else quantity


class Chip(Protocol):
    """What hangs on the bus: takes the bytes written to it and gives the bytes read from it."""

    def write(self, data: bytes) -> None:
        """Take a write, first byte first."""

    def read(self, count: int) -> bytes:
        """Give ``count`` bytes from where the last write pointed."""


class SimulatedBus:
    """An I²C bus as Blinka's drivers see one. Who does not answer raises ``OSError(121)``, as on Linux."""

    def __init__(self) -> None:
        self._chips: dict[int, Chip] = {}
        self._locked = False

    def plug(self, address: int, chip: Chip) -> None:
        """Put a chip on the bus."""
        self._chips[address] = chip

    def unplug(self, address: int) -> Chip:
        """Take a chip off the bus and return it."""
        return self._chips.pop(address)

    def try_lock(self) -> bool:
        """Take the bus if it is free."""
        if self._locked:
            return False
        self._locked = True
        return True

    def unlock(self) -> None:
        """Give the bus back."""
        self._locked = False

    def scan(self) -> list[int]:
        """Return the addresses that answer."""
        return sorted(self._chips)

    def writeto(self, address: int, buffer: Any, *, start: int = 0, end: int | None = None) -> None:
        """Write ``buffer[start:end]``."""
        self._chip(address).write(bytes(buffer[start:end]))

    def readfrom_into(self, address: int, buffer: Any, *, start: int = 0, end: int | None = None) -> None:
        """Fill ``buffer[start:end]``."""
        end = len(buffer) if end is None else end
        buffer[start:end] = self._chip(address).read(end - start)

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
        self.writeto(address, buffer_out, start=out_start, end=out_end)
        self.readfrom_into(address, buffer_in, start=in_start, end=in_end)

    def _chip(self, address: int) -> Chip:
        if address not in self._chips:
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
        return self._chips[address]


class _WordChip:
    """A chip with 16-bit registers, the high byte first, chosen by a pointer."""

    def __init__(self) -> None:
        self._pointer = 0

    def write(self, data: bytes) -> None:
        if data:
            self._pointer = data[0]
        if len(data) > 1:
            self.store(self._pointer, int.from_bytes(data[1:3], "big"))

    def read(self, count: int) -> bytes:
        return self.load(self._pointer).to_bytes(2, "big")[:count]

    def store(self, register: int, word: int) -> None:
        raise NotImplementedError

    def load(self, register: int) -> int:
        raise NotImplementedError


class Mcp9808Chip(_WordChip):
    """A MCP9808 thermometer (Microchip DS25095): steps of 1/16 °C."""

    _TEMPERATURE, _MANUFACTURER, _DEVICE = 0x05, 0x06, 0x07

    def __init__(self, temperature: Quantity = _ROOM) -> None:
        super().__init__()
        self.temperature = temperature
        self._words = {self._MANUFACTURER: 0x0054, self._DEVICE: 0x0400}

    def store(self, register: int, word: int) -> None:
        """Take a limit or the configuration."""
        self._words[register] = word

    def load(self, register: int) -> int:
        """Give a register; the ambient temperature is 13-bit two's complement."""
        if register == self._TEMPERATURE:
            return round(_now(self.temperature) * 16) & 0x1FFF
        return self._words.get(register, 0)


class Ads1115Chip(_WordChip):
    """An ADS1115 converter (Texas Instruments SBAS444): four inputs, in volts against ground."""

    _CONVERSION, _CONFIG = 0, 1
    #: Full scale in volts by the configuration's gain bits (table 8-3).
    _RANGE = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256)
    #: Positive and negative input by the configuration's multiplexer bits; ground is ``None``.
    _INPUTS = ((0, 1), (0, 3), (1, 3), (2, 3), (0, None), (1, None), (2, None), (3, None))

    def __init__(self, *volts: Quantity) -> None:
        super().__init__()
        self.volts: list[Quantity] = [*volts, *[_VOLTS] * (4 - len(volts))]
        self._words = {self._CONFIG: 0x8583}

    def store(self, register: int, word: int) -> None:
        """Take the configuration; a conversion is done at once."""
        self._words[register] = word | 0x8000 if register == self._CONFIG else word

    def load(self, register: int) -> int:
        """Give a register; a conversion is 16-bit two's complement, cut off at full scale."""
        if register != self._CONVERSION:
            return self._words.get(register, 0)
        config = self._words[self._CONFIG]
        positive, negative = self._INPUTS[config >> 12 & 7]
        volts = _now(self.volts[positive]) - (0.0 if negative is None else _now(self.volts[negative]))
        counts = round(volts / self._RANGE[config >> 9 & 7] * 32768)
        return max(-32768, min(32767, counts)) & 0xFFFF


class Bme280Chip:
    """A BME280 (Bosch BST-BME280-DS002): °C, % relative humidity and hPa."""

    # Calibration in the order of the registers 0x88…: T1 T2 T3, P1…P9; then H1 and H2…H6 (table 16).
    _CHIP_ID, _CTRL_MEAS = 0xD0, 0xF4
    _T = (27504, 26435, -1000)
    _P = (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
    _H = (75, 370, 0, 313, 50, 30)

    def __init__(
        self,
        temperature: Quantity = _ROOM,
        humidity: Quantity = _DAMP,
        pressure: Quantity = _AIR,
    ) -> None:
        self.temperature, self.humidity, self.pressure = temperature, humidity, pressure
        self._pointer = 0
        self._registers = bytearray(256)
        self._registers[self._CHIP_ID] = 0x60
        struct.pack_into("<HhhHhhhhhhhh", self._registers, 0x88, *self._T, *self._P)
        h1, h2, h3, h4, h5, h6 = self._H
        self._registers[0xA1] = h1
        # H4 and H5 are 12 bits each and share the byte at 0xE5.
        packed = (h4 >> 4, (h4 & 0xF) | (h5 & 0xF) << 4, h5 >> 4)
        struct.pack_into("<hBbBbb", self._registers, 0xE1, h2, h3, *packed, h6)

    def write(self, data: bytes) -> None:
        """Take the pointer and, in pairs, register contents; a forced measurement is done at once."""
        if not data:
            return
        self._pointer = data[0]
        for register, content in zip(data[0::2], data[1::2], strict=False):
            self._registers[register] = content
            if register == self._CTRL_MEAS and content & 0b11:
                self._measure()

    def read(self, count: int) -> bytes:
        """Give successive registers."""
        found = bytes(self._registers[self._pointer : self._pointer + count])
        self._pointer += count
        return found

    def _measure(self) -> None:
        raw_t = _bisect(lambda raw: self._fine(raw) / 5120, _now(self.temperature), bits=20)
        fine = self._fine(raw_t)
        raw_p = _bisect(lambda raw: -self._pascal(raw, fine), -100 * _now(self.pressure), bits=20)
        raw_h = _bisect(lambda raw: self._percent(raw, fine), _now(self.humidity), bits=16)
        for register, raw in ((0xF7, raw_p), (0xFA, raw_t)):
            self._registers[register : register + 3] = (raw << 4).to_bytes(3, "big")
        self._registers[0xFD:0xFF] = raw_h.to_bytes(2, "big")

    # The three formulas are the data sheet's (4.2.3 and appendix A, floating point).

    def _fine(self, raw: float) -> float:
        t1, t2, t3 = self._T
        return (raw / 16384 - t1 / 1024) * t2 + (raw / 131072 - t1 / 8192) ** 2 * t3

    def _pascal(self, raw: float, fine: float) -> float:
        p1, p2, p3, p4, p5, p6, p7, p8, p9 = self._P
        offset = fine / 2 - 64000
        slope = (1 + (p3 * offset**2 / 524288 + p2 * offset) / 524288 / 32768) * p1
        base = (offset**2 * p6 / 32768 + offset * p5 * 2) / 4 + p4 * 65536
        found = (1048576 - raw - base / 4096) * 6250 / slope
        return found + (p9 * found**2 / 2147483648 + found * p8 / 32768 + p7) / 16

    def _percent(self, raw: float, fine: float) -> float:
        h1, h2, h3, h4, h5, h6 = self._H
        offset = fine - 76800
        gain = h2 / 65536 * (1 + h6 / 67108864 * offset * (1 + h3 / 67108864 * offset))
        found = (raw - (h4 * 64 + h5 / 16384 * offset)) * gain
        return found * (1 - h1 * found / 524288)


def _bisect(rising: Callable[[float], float], wanted: float, *, bits: int) -> int:
    """Return the raw reading for which a rising function comes closest to ``wanted`` from below."""
    low, high = 0, 2**bits - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if rising(middle) <= wanted else (low, middle - 1)
    return low


def plug_if_simulated(bus: _MaybeSimulated, address: int, make: Callable[[], Chip]) -> None:
    """Put a chip on the simulated bus, unless there is one at that address already; leave a real bus alone."""
    if bus.simulated is not None and address not in bus.simulated.scan():
        bus.simulated.plug(address, make())


class _MaybeSimulated(Protocol):
    simulated: SimulatedBus | None


class SimulatedPin:
    """A GPIO pin: ``value`` is what it is driven to or, for an input, what hangs on it."""

    def __init__(self) -> None:
        self.value = False

    def deinit(self) -> None:
        """Let go of the pin; a simulated one has nothing to give back."""


_pins: dict[str, SimulatedPin] = {}


def simulated_pin(name: str) -> SimulatedPin:
    """Return the simulated pin of that name; each exists once per process."""
    return _pins.setdefault(name, SimulatedPin())
