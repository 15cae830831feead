"""A GPIO pin that is read: a boolean sensor that reports when it changes."""

from __future__ import annotations

from pydantic import Field

from callboard_nodes.hardware.pins import PinBus, PinName, Pull, pin
from callboard_nodes.hardware.tables import SensorTable
from callboard_nodes.things import Sensor, sensor

__all__ = ["Table", "things"]


class Table(SensorTable):
    """A ``[[sensor]]`` with ``driver = "gpio"``."""

    pin: PinName = Field(description='e.g. "D17", or 17')
    bus: PinBus = "board"
    pull: Pull | None = Field(default=None, description='"up" or "down"')
    invert: bool = Field(default=False, description="a low pin is true")
    every: float = Field(default=0.1, gt=0, description="seconds between readings")
    deadband: float | None = Field(default=0, ge=0, description="0 reports changes only")


def things(table: Table) -> list[Sensor]:
    """Return the sensor of one pin."""
    device = pin(table.pin, bus=table.bus, output=False, pull=table.pull)

    def level() -> bool:
        return bool(device.use(lambda opened: opened.value)) != table.invert

    return [sensor(level, type="boolean", **table.sensor())]
