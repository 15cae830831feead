"""Memory: how much of it is in use."""

from __future__ import annotations

from pathlib import Path

from callboard_nodes.things import Sensor, sensor

__all__ = ["memory_used", "sensors"]


def memory_used(proc: Path) -> float:
    """Return the per cent of memory that a new program could not have (``MemAvailable`` of proc(5))."""
    lines = (line.partition(":") for line in (proc / "meminfo").read_text("ascii").splitlines())
    kilobytes = {key: int(rest.split()[0]) for key, _, rest in lines if rest.split()}
    total = kilobytes["MemTotal"]
    return round(100 * (total - kilobytes["MemAvailable"]) / total, 1)


def sensors(proc: Path, _sys: Path) -> list[Sensor]:
    """Return the memory's sensor."""
    return [
        sensor(
            lambda: memory_used(proc),
            name="memory",
            label="Memory",
            unit="%",
            every=5,
            minimum=0,
            maximum=100,
            normal={"high": 90},
            warning={"high": 97},
            description="share of memory in use",
            tags=["system"],
        )
    ]
