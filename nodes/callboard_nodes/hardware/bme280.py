"""BME280: temperature, humidity and pressure as three sensors, through Adafruit's driver."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from callboard_nodes.hardware.buses import I2C, blinka, get_bus
from callboard_nodes.hardware.device import on_bus
from callboard_nodes.hardware.simulated import Bme280Chip, plug_if_simulated
from callboard_nodes.hardware.tables import I2CTable, between
from callboard_nodes.things import Sensor, sensor

__all__ = ["Table", "things"]

#: Quantity → unit and range of the chip (Bosch BST-BME280-DS002, table 1 to 3).
_QUANTITIES: dict[str, tuple[str, float, float]] = {
    "temperature": ("°C", -40, 85),
    "humidity": ("%", 0, 100),
    "pressure": ("hPa", 300, 1100),
}


class Table(I2CTable):
    """A ``[[sensor]]`` with ``driver = "bme280"``."""

    address: Annotated[int, between(0x76, 0x77)] = Field(default=0x77, description="0x76 with SDO at ground")


def things(table: Table) -> list[Sensor]:
    """Return the three sensors of one chip."""
    bus = get_bus(table.bus)
    plug_if_simulated(bus, table.address, Bme280Chip)
    chip = on_bus(table.driver, bus, table.address, lambda i2c: _open(i2c, table.address))

    def reader(quantity: str) -> Any:
        return lambda: round(float(chip.use(lambda driver: getattr(driver, quantity))), 2)

    return [
        sensor(reader(name), **table.sensor(name, unit=unit, minimum=low, maximum=high))
        for name, (unit, low, high) in _QUANTITIES.items()
    ]


def _open(i2c: I2C, address: int) -> Any:
    return blinka("adafruit_bme280.basic").Adafruit_BME280_I2C(i2c, address)
