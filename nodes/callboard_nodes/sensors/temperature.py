"""Temperatures the kernel knows of: thermal zones or, where there are none, hwmon chips."""

from __future__ import annotations

from pathlib import Path

from callboard_core.topics import slug
from callboard_nodes.things import Sensor, sensor

__all__ = ["read_millidegrees", "sensors", "sources"]


def read_millidegrees(file: Path) -> float:
    """Return °C from a sysfs file that holds thousandths of a degree."""
    return round(int(file.read_text("ascii")) / 1000, 1)


def sources(sys: Path) -> dict[str, Path]:
    """Return the files that hold a temperature, each under a name that tells its place."""
    zones = {zone / "type": zone / "temp" for zone in sorted(sys.glob("class/thermal/thermal_zone*"))}
    chips = {chip / "name": chip / "temp1_input" for chip in sorted(sys.glob("class/hwmon/hwmon*"))}
    found: dict[str, Path] = {}
    for label, file in (zones or chips).items():
        if not _readable(file):  # a zone whose device sleeps answers with an error
            continue
        name = f"temperature-{slug(label.read_text('ascii'))}"
        found[name if name not in found else f"{name}-{len(found) + 1}"] = file
    return found


def sensors(_proc: Path, sys: Path) -> list[Sensor]:
    """Return one sensor per temperature."""
    return [_sensor(name, file) for name, file in sources(sys).items()]


def _sensor(name: str, file: Path) -> Sensor:
    place = name.removeprefix("temperature-").replace("-", " ")
    return sensor(
        lambda: read_millidegrees(file),
        name=name,
        label=f"Temperature ({place})",
        unit="°C",
        every=10,
        # A Raspberry Pi slows down from 80 °C on (Raspberry Pi documentation, frequency management).
        normal={"high": 70},
        warning={"high": 80},
        tags=["system"],
    )


def _readable(file: Path) -> bool:
    try:
        read_millidegrees(file)
    except (OSError, ValueError):
        return False
    return True
