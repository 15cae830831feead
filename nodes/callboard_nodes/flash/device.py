"""Opening a block device to overwrite it: alone, and only if it still is the one that was confirmed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from callboard_core.errors import BadRequest, Conflict
from callboard_nodes.flash.facts import Device, read_device
from callboard_nodes.flash.safety import check_same

__all__ = ["device_of", "overwriting"]

#: Linux: size of a block device in bytes, and reading its partition table anew (linux/fs.h).
_BLKGETSIZE64, _BLKRRPART = 0x8008_1272, 0x125F


def device_of(path: Path) -> Device:
    """Return the facts of a device by its path.

    Raises:
        BadRequest: it is no whole disk.
    """
    name = path.resolve().name
    found = read_device(name)
    if found is None:
        raise BadRequest(
            f"{path} is not a whole card or stick; `callboard flash --list` shows those there are"
        )
    return found


@contextlib.contextmanager
def overwriting(
    path: Path, expected: Device, read: Callable[[str], Device | None] = read_device
) -> Iterator[int]:
    """Open a device for reading and writing, for nobody else beside us.

    Args:
        path: the device.
        expected: as it was confirmed.
        read: reads the facts again once it is open, so that nothing can be exchanged any more.

    Raises:
        Conflict: it is in use, or is another one by now.
        PermissionError: only root may.
    """
    try:
        # O_EXCL without O_CREAT: fails while anything of the device is mounted or otherwise in use (open(2)).
        descriptor = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Conflict(f"{path} is in use; unmount what is on it") from None
        raise
    try:
        check_same(expected, read(expected.name))
        _check_open(descriptor, path, expected)
        yield descriptor
        os.fsync(descriptor)
        with contextlib.suppress(OSError):  # who looks at the card now does so anew anyway
            fcntl.ioctl(descriptor, _BLKRRPART)
    finally:
        os.close(descriptor)


def _check_open(descriptor: int, path: Path, expected: Device) -> None:
    """Check that what is open is what the facts are of: the same number, the same size."""
    status = os.fstat(descriptor)
    if not stat.S_ISBLK(status.st_mode):
        raise BadRequest(f"{path} is not a device")
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    (size,) = struct.unpack("Q", fcntl.ioctl(descriptor, _BLKGETSIZE64, bytes(8)))
    if (number, size) != (expected.number, expected.size):
        raise Conflict(
            f"{path} is not the device {expected.number} of {expected.size} bytes any more; begin anew"
        )
