"""OpenEXR files: whether one is whole. After "OpenEXR File Layout" of the Academy Software Foundation."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from callboard_core.errors import CallboardError

__all__ = ["BadExr", "check"]

_MAGIC = b"\x76\x2f\x31\x01"
_TILED, _DEEP, _MULTIPART = 0x200, 0x800, 0x1000
#: Lines in a chunk, by the number of the compression: none, RLE, ZIPS, ZIP, PIZ, PXR24, B44, B44A, DWAA, DWAB.
_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)
_ZIPPED = frozenset({2, 3})
#: The type of a channel of 16 bits; the others have 32.
_HALF = 1
#: Bytes of one attribute or chunk; more is damage.
_LONGEST = 256 * 1024 * 1024
_MOST_CHUNKS = 2**24


class BadExr(CallboardError):
    """The file is no whole OpenEXR image."""


@dataclass(frozen=True, slots=True)
class _Part:
    size: tuple[int, int]
    chunks: int
    compression: int
    plain: int  # bytes of a whole chunk before compression; 0: not known


def check(path: Path) -> tuple[int, int]:
    """Check that every chunk is there, inside the file, and can be unpacked where that takes zlib only.

    Returns:
        Width and height of the image, in pixels.

    Raises:
        BadExr: it is damaged or not finished; the message says where.
        OSError: it cannot be read.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        try:
            return _check(file, length)
        except (struct.error, IndexError, KeyError, ValueError) as error:
            raise BadExr(f"{path.name} is no whole OpenEXR file: {error}") from None


def _check(file: BinaryIO, length: int) -> tuple[int, int]:
    if file.read(4) != _MAGIC:
        raise ValueError("it does not begin as one")
    (version,) = struct.unpack("<I", _read(file, 4))
    parts = list(_parts(file, version))
    for part in parts:
        offsets = struct.unpack(f"<{part.chunks}Q", _read(file, 8 * part.chunks))
        for number, offset in enumerate(offsets):
            place = file.tell()
            _check_chunk(file, offset, length, version, part, number)
            file.seek(place)
    return parts[0].size


def _parts(file: BinaryIO, version: int) -> Iterator[_Part]:
    while True:
        header = _attributes(file)
        if not header:
            return
        yield _part(header, version)
        if not version & _MULTIPART:
            return


def _attributes(file: BinaryIO) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    while name := _text(file):
        _text(file)  # its type
        (size,) = struct.unpack("<I", _read(file, 4))
        found[name] = _read(file, size)
    return found


def _part(header: dict[str, bytes], version: int) -> _Part:
    x0, y0, x1, y1 = struct.unpack("<4i", header["dataWindow"])
    left, top, right, bottom = struct.unpack("<4i", header["displayWindow"])
    width, height = x1 - x0 + 1, y1 - y0 + 1
    compression = header["compression"][0]
    if width < 1 or height < 1:
        raise ValueError("its data window is empty")
    if "chunkCount" in header:
        (chunks,) = struct.unpack("<i", header["chunkCount"])
    elif version & _TILED:
        chunks = _tiles(header["tiles"], width, height)
    else:
        lines = _LINES[compression]
        chunks = -(-height // lines)
    if not 0 < chunks <= _MOST_CHUNKS:
        raise ValueError(f"it claims to have {chunks} chunks")
    plain = 0 if version & _TILED else width * _LINES[compression] * _pixel(header["channels"])
    return _Part((right - left + 1, bottom - top + 1), chunks, compression, plain)


def _pixel(channels: bytes) -> int:
    """Bytes of one pixel in all channels; each ends its name with a zero, then come 16 bytes that begin with its type."""
    total = place = 0
    while channels[place]:
        place = channels.index(b"\0", place) + 1
        (kind,) = struct.unpack_from("<i", channels, place)
        total += 2 if kind == _HALF else 4
        place += 16
    return total


def _tiles(tiles: bytes, width: int, height: int) -> int:
    across: int
    down: int
    across, down, mode = struct.unpack("<IIB", tiles)
    if mode & 0xF:
        raise ValueError("it has several levels, which renders have not")
    return -(-width // across) * -(-height // down)


def _check_chunk(file: BinaryIO, offset: int, length: int, version: int, part: _Part, number: int) -> None:
    if not 0 < offset < length:
        raise ValueError(f"chunk {number} was never written")
    if version & _DEEP:
        return
    file.seek(offset)
    skipped = 4 * bool(version & _MULTIPART) + (16 if version & _TILED else 4)
    _read(file, skipped)  # number of the part, place of the chunk
    (size,) = struct.unpack("<I", _read(file, 4))
    data = _read(file, size)
    last = number == part.chunks - 1  # it may have fewer lines
    if part.compression in _ZIPPED and part.plain and not last and len(data) < part.plain:
        _unzip(data, number)


def _unzip(data: bytes, number: int) -> None:
    """Unpack a chunk; one that zlib would have made larger is stored as it is."""
    try:
        zlib.decompress(data)
    except zlib.error as error:
        raise ValueError(f"chunk {number}: {error}") from None


def _text(file: BinaryIO) -> str:
    found = bytearray()
    while (byte := _read(file, 1)) != b"\0":
        found += byte
    return found.decode("latin-1")


def _read(file: BinaryIO, size: int) -> bytes:
    if size > _LONGEST:
        raise ValueError(f"it asks for {size} bytes at once")
    data = file.read(size)
    if len(data) != size:
        raise ValueError("it ends too early")
    return data
