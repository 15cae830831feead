"""CPU: share of time that was not idle, and the clock frequency."""

from __future__ import annotations

from pathlib import Path

from callboard_nodes.things import Sensor, sensor

__all__ = ["CpuLoad", "frequency", "sensors"]

#: Fields of ``/proc/stat`` (proc(5)): user nice system idle iowait irq softirq steal guest guest_nice.
#: Guest time is contained in user time already.
_IDLE, _IOWAIT, _COUNTED = 3, 4, 8


class CpuLoad:
    """Per cent of all cores' time that was busy since the previous call; nothing at the first."""

    def __init__(self, proc: Path) -> None:
        self._stat = proc / "stat"
        self._before: tuple[int, int] | None = None

    def __call__(self) -> float | None:
        """Read once more."""
        with self._stat.open(encoding="ascii") as file:
            busy, total = parse_stat(file.readline())
        before, self._before = self._before, (busy, total)
        if before is None or total <= before[1]:
            return None
        share = (busy - before[0]) / (total - before[1])
        return round(100 * min(max(share, 0.0), 1.0), 1)


def parse_stat(line: str) -> tuple[int, int]:
    """Return busy and total ticks of the ``cpu`` line of ``/proc/stat``."""
    ticks = [int(field) for field in line.split()[1 : 1 + _COUNTED]]
    total = sum(ticks)
    return total - ticks[_IDLE] - ticks[_IOWAIT], total


def frequency(sys: Path) -> float:
    """Return the mean clock of all cores in MHz.

    Raises:
        OSError: the kernel does not say.
    """
    files = _frequency_files(sys)
    if not files:
        raise OSError("no cpufreq in sysfs")
    return round(sum(int(file.read_text("ascii")) for file in files) / len(files) / 1000)


def sensors(proc: Path, sys: Path) -> list[Sensor]:
    """Return the CPU's sensors."""
    found = [
        sensor(
            CpuLoad(proc),
            name="cpu",
            label="CPU",
            unit="%",
            every=5,
            minimum=0,
            maximum=100,
            description="share of time the cores were busy",
            tags=["system"],
        )
    ]
    if _frequency_files(sys):
        found.append(
            sensor(
                lambda: frequency(sys),
                name="cpu-frequency",
                label="CPU clock",
                unit="MHz",
                every=10,
                tags=["system"],
            )
        )
    return found


def _frequency_files(sys: Path) -> list[Path]:
    return sorted(sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
