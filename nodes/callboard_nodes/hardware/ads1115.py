"""ADS1115: an analogue input in volts, or scaled to another unit, through Adafruit's driver."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from callboard_nodes.hardware.buses import I2C, blinka, get_bus
from callboard_nodes.hardware.device import on_bus
from callboard_nodes.hardware.simulated import Ads1115Chip, plug_if_simulated
from callboard_nodes.hardware.tables import I2CTable, OneQuantity, between
from callboard_nodes.things import Sensor, sensor

__all__ = ["Table", "things"]


class Table(I2CTable, OneQuantity):
    """A ``[[sensor]]`` with ``driver = "ads1115"``: one channel. Several tables may share a chip."""

    address: Annotated[int, between(0x48, 0x4B)] = 0x48
    channel: Annotated[int, Field(ge=0, le=3)] = 0
    gain: Literal[1, 2, 4, 8, 16] = Field(default=1, description="1 reads up to ±4.096 V, 2 up to ±2.048 V …")
    scale: float = Field(default=1.0, description="the volts are multiplied by this")
    offset: float = Field(default=0.0, description="and this is added")
    unit: str = "V"


def things(table: Table) -> list[Sensor]:
    """Return the sensor of one channel."""
    bus = get_bus(table.bus)
    plug_if_simulated(bus, table.address, Ads1115Chip)
    chip = on_bus(table.driver, bus, table.address, lambda i2c: _open(i2c, table))

    def value() -> float:
        return round(float(chip.use(lambda channel: channel.voltage)) * table.scale + table.offset, 6)

    return [sensor(value, **table.sensor(unit=table.unit))]


def _open(i2c: I2C, table: Table) -> Any:
    library = blinka("adafruit_ads1x15")
    return library.AnalogIn(library.ADS1115(i2c, gain=table.gain, address=table.address), table.channel)
