"""A GPIO pin that is driven: a boolean control."""

from __future__ import annotations

from pydantic import Field

from callboard_nodes.hardware.pins import Pin, PinBus, PinName, pin
from callboard_nodes.hardware.tables import Common
from callboard_nodes.things import Control, control

__all__ = ["Table", "things"]


class Table(Common):
    """A ``[[control]]`` with ``driver = "gpio"``."""

    pin: PinName = Field(description='e.g. "D17", or 17')
    bus: PinBus = "board"
    invert: bool = Field(default=False, description="true drives the pin low")
    initial: bool = Field(default=False, description="the value at the very first start")
    persist: bool = Field(default=True, description="apply the last value again at every start")


def things(table: Table) -> list[Control]:
    """Return the control of one pin."""
    device = pin(table.pin, bus=table.bus, output=True)

    def drive(opened: Pin, value: bool) -> None:
        opened.value = value != table.invert

    def switch(value: bool) -> None:
        device.use(lambda opened: drive(opened, value))

    settings = table.card()
    return [control(switch, type="boolean", initial=table.initial, persist=table.persist, **settings)]
