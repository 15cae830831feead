"""The few sensors of a machine without ``/proc`` (macOS, Windows), through psutil where it is installed."""

from __future__ import annotations

import importlib
import logging
import time
from typing import Any

from callboard_nodes.things import Sensor, sensor

__all__ = ["sensors"]

_log = logging.getLogger(__name__)


def sensors() -> list[Sensor]:
    """Return CPU, memory, disk and uptime as psutil reads them; nothing without psutil."""
    try:
        psutil: Any = importlib.import_module("psutil")
    except ImportError:
        _log.warning("no sensors of this machine: it has no /proc; install psutil")
        return []
    share: dict[str, Any] = {"unit": "%", "minimum": 0, "maximum": 100, "tags": ["system"]}
    return [
        sensor(lambda: psutil.cpu_percent(None), name="cpu", label="CPU", every=5, **share),
        sensor(lambda: psutil.virtual_memory().percent, name="memory", label="Memory", every=5, **share),
        sensor(lambda: psutil.disk_usage("/").percent, name="disk", label="Disk", every=60, **share),
        sensor(
            lambda: int(time.time() - psutil.boot_time()),
            name="uptime",
            label="Uptime",
            unit="s",
            every=60,
            tags=["system"],
        ),
    ]
