"""What this machine renders on: cores, memory, and NVIDIA cards through their own library if it is installed."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Machine", "machine", "nvidia"]

_log = logging.getLogger("callboard.slots")

#: Longest name of a device (NVML_DEVICE_NAME_V2_BUFFER_SIZE in nvml.h).
_NAME = 96


@dataclass(frozen=True, slots=True)
class Machine:
    """``memory`` is in bytes; None where nobody says."""

    cores: int
    memory: int | None
    platform: str
    devices: tuple[str, ...]


def machine(proc: Path = Path("/proc")) -> Machine:
    """Return what this machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    platform = "windows" if sys.platform == "win32" else sys.platform
    return Machine(cores, memory(proc), platform, nvidia())


def memory(proc: Path) -> int | None:
    """Bytes of the machine's memory, from ``/proc/meminfo`` (proc(5))."""
    try:
        lines = (proc / "meminfo").read_text("ascii").splitlines()
        total = next(line for line in lines if line.startswith("MemTotal:"))
        return int(total.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


class _Memory(ctypes.Structure):
    """``nvmlMemory_t`` of nvml.h."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def nvidia(library: str = "libnvidia-ml.so.1") -> tuple[str, ...]:
    """Return the names of the NVIDIA cards with their memory, such as ``NVIDIA L4 (23 GiB)``; none without a driver."""
    try:
        return _cards(ctypes.CDLL(library))
    except OSError:
        return ()
    except AttributeError as error:
        _log.info("%s is no library of NVIDIA's that we know (%s); no cards are announced", library, error)
        return ()


def _cards(nvml: Any) -> tuple[str, ...]:
    if nvml.nvmlInit_v2() != 0:
        _log.info("an NVIDIA driver is installed and does not answer; no cards are announced")
        return ()
    try:
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return ()
        return tuple(filter(None, (_card(nvml, index) for index in range(count.value))))
    finally:
        nvml.nvmlShutdown()


def _card(nvml: Any, index: int) -> str:
    handle, name, room = ctypes.c_void_p(), ctypes.create_string_buffer(_NAME), _Memory()
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
        return ""
    if nvml.nvmlDeviceGetName(handle, name, _NAME) != 0:
        return ""
    found = name.value.decode("utf-8", "replace")
    if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(room)) == 0:
        found += f" ({round(room.total / 2**30)} GiB)"
    return found
