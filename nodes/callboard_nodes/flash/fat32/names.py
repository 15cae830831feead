"""Names of files: long ones in UTF-16 spread over several records, and the short one (8.3) that each file has as well. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from callboard_core.errors import BadRequest

__all__ = ["LONGEST", "checksum", "decode_short", "encode_long", "long_part", "same", "short_for"]

#: Characters (UTF-16 units) in one record of a long name.
_UNITS = 13
#: Longest name in units: so that all of a file's records fit into one sector, which is written as a whole.
LONGEST = 15 * _UNITS
_PART = 2 * _UNITS
_PLACES = ((1, 10), (14, 12), (28, 4))
_FORBIDDEN = re.compile(r'[\x00-\x1f"*/:<>?\\|]')
_SHORT = re.compile(rb"[A-Z0-9!#$%&'()@^_`{}~-]{1,8}(\.[A-Z0-9!#$%&'()@^_`{}~-]{1,3})?")
_NOT_SHORT = re.compile(r"[^A-Z0-9!#$%&'()@^_`{}~-]")
#: Case of a short name's parts, as Windows NT and Linux keep it.
_LOWER_BASE, _LOWER_EXTENSION = 0x08, 0x10


def same(one: str, other: str) -> bool:
    """Tell whether two names mean the same file."""
    return one.casefold() == other.casefold()


def encode_long(name: str, short: bytes) -> list[bytes]:
    """Return the records of a long name, in the order in which they are written; none for a name that is short already.

    Raises:
        BadRequest: no file can have that name here.
    """
    if not name or _FORBIDDEN.search(name) or name.endswith((".", " ")):
        raise BadRequest(f"{name!r} cannot be a file's name on a boot partition; choose another one")
    units = name.encode("utf-16-le", "surrogatepass")
    if len(units) // 2 > LONGEST:
        raise BadRequest(f"the name {name[:40]}… is longer than {LONGEST} characters; choose a shorter one")
    if _packed(name) == short:
        return []
    parts = [_padded(units[at : at + _PART]) for at in range(0, len(units), _PART)]
    total = checksum(short)
    records = [_record(number, part, total) for number, part in enumerate(parts, 1)]
    records[-1] = bytes([records[-1][0] | 0x40]) + records[-1][1:]
    return records[::-1]


def _padded(part: bytes) -> bytes:
    """A name that ends within a record ends with a NUL, and the rest is filled."""
    return (part + b"\0\0").ljust(_PART, b"\xff") if len(part) < _PART else part


def _record(number: int, part: bytes, total: int) -> bytes:
    record = bytearray(32)
    record[0], record[11], record[13] = number, 0x0F, total
    for at, length in _PLACES:
        record[at : at + length], part = part[:length], part[length:]
    return bytes(record)


def long_part(record: bytes) -> bytes:
    """Return the UTF-16 of one record of a long name."""
    return b"".join(record[at : at + length] for at, length in _PLACES)


def checksum(short: bytes) -> int:
    """Return the sum by which long records name the short one that they belong to."""
    total = 0
    for byte in short:
        total = (((total & 1) << 7) + (total >> 1) + byte) & 0xFF
    return total


def decode_short(record: bytes) -> str:
    """Return the short name in a record, in the case that it is shown in."""
    raw = (b"\xe5" if record[:1] == b"\x05" else record[:1]) + record[1:11]
    base, extension = raw[:8].decode("cp437").rstrip(), raw[8:].decode("cp437").rstrip()
    base = base.lower() if record[12] & _LOWER_BASE else base
    extension = extension.lower() if record[12] & _LOWER_EXTENSION else extension
    return f"{base}.{extension}" if extension else base


def short_for(name: str, taken: Collection[bytes]) -> bytes:
    """Return a short name of 11 bytes that no other file of the folder has."""
    packed = _packed(name.upper())
    if packed is not None and packed not in taken:
        return packed
    base, _, extension = name.upper().lstrip(".").rpartition(".")
    if not base:
        base, extension = extension, ""
    base, extension = _NOT_SHORT.sub("_", base) or "_", _NOT_SHORT.sub("_", extension)[:3]
    number = 1
    while True:
        tail = f"~{number}"
        short = f"{base[: 8 - len(tail)]}{tail}".ljust(8).encode() + extension.ljust(3).encode()
        if short not in taken:
            return short
        number += 1


def _packed(name: str) -> bytes | None:
    """A name that is a short one as it stands."""
    if not name.isascii() or not _SHORT.fullmatch(name.encode()):
        return None
    base, _, extension = name.partition(".")
    return base.ljust(8).encode() + extension.ljust(3).encode()
