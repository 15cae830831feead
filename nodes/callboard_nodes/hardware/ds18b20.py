"""DS18B20: a thermometer on a 1-wire bus, as the kernel's w1-therm module shows it."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Annotated

from pydantic import Field

from callboard_core.errors import Unavailable
from callboard_nodes.hardware.device import Device
from callboard_nodes.hardware.tables import OneQuantity
from callboard_nodes.things import Sensor, sensor

__all__ = ["Table", "read", "things"]

_SWITCH_ON = "switch 1-wire on (dtoverlay=w1-gpio in config.txt) and check the wiring"


class Table(OneQuantity):
    """A ``[[sensor]]`` with ``driver = "ds18b20"``."""

    address: Annotated[str, Field(pattern=r"^28-[0-9a-f]{12}$")] | None = Field(
        default=None, description="e.g. 28-0316a2795b1f; not needed when there is only one"
    )
    root: Path = Field(
        default=Path("/sys/bus/w1/devices"), description="where the kernel lists 1-wire devices"
    )


def things(table: Table) -> list[Sensor]:
    """Return the sensor of one probe."""
    what = f"ds18b20 {table.address or ''}".strip()
    probe = Device(what, lambda: _find(table), lock=threading.Lock())

    def temperature() -> float:
        return probe.use(read)

    return [sensor(temperature, **table.sensor(unit="°C", minimum=-55, maximum=125))]


def read(folder: Path) -> float:
    """Return the °C of the probe whose folder this is; measuring takes up to 0.75 s.

    Raises:
        OSError: the probe does not answer, or what it sent was garbled.
    """
    direct = folder / "temperature"  # since Linux 5.10
    if direct.exists():
        text = direct.read_text("ascii").strip()
        if not text:
            raise OSError("the probe sent nothing")
        return int(text) / 1000
    text = (folder / "w1_slave").read_text("ascii")
    found = re.search(r"YES\n.*t=(-?\d+)", text)
    if found is None:
        raise OSError("the probe's answer has a wrong checksum")
    return int(found[1]) / 1000


def _find(table: Table) -> Path:
    probes = sorted(table.root.glob("28-*")) if table.address is None else [table.root / table.address]
    if not probes or not probes[0].exists():
        raise Unavailable(
            f"no ds18b20 {table.address or ''} in {table.root}; {_SWITCH_ON}".replace("  ", " ")
        )
    if len(probes) > 1:
        names = ", ".join(probe.name for probe in probes)
        raise Unavailable(f"there are several ds18b20 ({names}); set address to one of them")
    return probes[0]
