"""MCP9808: a thermometer, through Adafruit's driver."""

from __future__ import annotations

from typing import Annotated, Any

from callboard_nodes.hardware.buses import I2C, blinka, get_bus
from callboard_nodes.hardware.device import on_bus
from callboard_nodes.hardware.simulated import Mcp9808Chip, plug_if_simulated
from callboard_nodes.hardware.tables import I2CTable, OneQuantity, between
from callboard_nodes.things import Sensor, sensor

__all__ = ["Table", "things"]


class Table(I2CTable, OneQuantity):
    """A ``[[sensor]]`` with ``driver = "mcp9808"``."""

    address: Annotated[int, between(0x18, 0x1F)] = 0x18


def things(table: Table) -> list[Sensor]:
    """Return the sensor of one chip."""
    bus = get_bus(table.bus)
    plug_if_simulated(bus, table.address, Mcp9808Chip)
    chip = on_bus(table.driver, bus, table.address, lambda i2c: _open(i2c, table.address))

    def temperature() -> float:
        return float(chip.use(lambda driver: driver.temperature))

    return [sensor(temperature, **table.sensor(unit="°C", minimum=-40, maximum=125))]


def _open(i2c: I2C, address: int) -> Any:
    return blinka("adafruit_mcp9808").MCP9808(i2c, address)
