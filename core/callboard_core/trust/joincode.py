"""Join codes: all that a machine must know to join a board, as one text that can be pasted, typed or scanned.

``CB2-`` and base32 (RFC 4648, without padding) of: site, addresses, SHA-256 of the board's authority, the key of its updates,
token, expiry (Unix seconds), and four bytes of SHA-256 over all that, which catch typing errors.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from callboard_core.addresses import join_address, split_address
from callboard_core.errors import BadRequest, CallboardError, Expired
from callboard_core.topics import check_id

__all__ = ["JoinCode"]

_PREFIX = "CB2-"
_OTHER_VERSION = re.compile(r"CB(\d+)-")
#: Longest code that is looked at, in characters; eight long names make about 900.
_LONGEST = 4_000
_MOST_ADDRESSES = 8
#: What an address is, by the byte in front of it: a name (with its length), or an IP address.
_NAME, _IPV4, _IPV6 = 0, 4, 6
_AUTHORITY, _KEY, _TOKEN, _CHECK = 32, 32, 16, 4
_LARGEST_TIME = 2**32 - 1
_TRY_AGAIN = "copy it again, whole, or ask for a new one (`callboard join`)"


@dataclass(frozen=True, slots=True)
class JoinCode:
    """An invitation.

    Attributes:
        site: the site's id.
        addresses: where the board answers HTTPS: ``192.168.1.2:8443``, ``[fd00::2]:8443`` or ``board.local:8443``.
        authority: SHA-256 of the board's certificate authority (DER), 64 hexadecimal digits.
        update_key: what the board signs updates with: base64 of an Ed25519 public key. Root of the machine trusts this one.
        token: the secret that lets one machine in, 32 hexadecimal digits.
        expires: Unix seconds, by the board's clock.

    Raises:
        BadRequest: one of them cannot be written into a code.
    """

    site: str
    addresses: tuple[str, ...]
    authority: str
    update_key: str
    token: str = field(repr=False)
    expires: int

    def __post_init__(self) -> None:
        check_id(self.site, "site")
        if not 0 < len(self.addresses) <= _MOST_ADDRESSES:
            raise BadRequest(f"a join code holds 1 to {_MOST_ADDRESSES} addresses")
        # One spelling of each, so that what is read equals what was written.
        spelled = tuple(join_address(*split_address(address)) for address in self.addresses)
        object.__setattr__(self, "addresses", spelled)
        for name, length in (("authority", _AUTHORITY), ("token", _TOKEN)):
            if not re.fullmatch(rf"[0-9a-f]{{{2 * length}}}", getattr(self, name)):
                raise BadRequest(f"the {name} of a join code has {2 * length} hexadecimal digits")
        if not _is_key(self.update_key):
            raise BadRequest(f"the update_key of a join code is base64 of {_KEY} bytes")
        if not 0 <= self.expires <= _LARGEST_TIME:
            raise BadRequest("the expiry of a join code is a time before the year 2106")

    @property
    def text(self) -> str:
        """The code, in upper case and digits only, which makes its QR code small."""
        body = b"".join(self._parts())
        return _PREFIX + base64.b32encode(body + _check_sum(body)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> JoinCode:
        """Read a code; lower case, spaces and line breaks do not matter.

        Whether it has expired is not looked at: a machine without a clock battery must be able to join, and the board
        decides by its own clock. See :meth:`check`.

        Raises:
            BadRequest: it is none, was mistyped or cut, or is of another version; the message says which.
        """
        body = _unpack(text)
        reader = _Reader(body)
        try:
            site = reader.take(reader.number(1)).decode()
            addresses = tuple(_read_addresses(reader))
            authority, key = reader.take(_AUTHORITY).hex(), base64.b64encode(reader.take(_KEY)).decode()
            token = reader.take(_TOKEN).hex()
            expires = reader.number(4)
            reader.end()
            return cls(site, addresses, authority, key, token, expires)
        except (CallboardError, ValueError) as error:
            # The sum is right, so this was made by something else than us.
            raise BadRequest(f"the join code holds nonsense: {error}; {_TRY_AGAIN}") from None

    def check(self, now: float | None = None) -> None:
        """Raise if the code has expired.

        Args:
            now: Unix seconds; this machine's clock when None.

        Raises:
            Expired: it has.
        """
        if (time.time() if now is None else now) >= self.expires:
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.expires))
            raise Expired(f"the join code expired at {when}; ask for a new one (`callboard join`)")

    def _parts(self) -> Iterator[bytes]:
        site = self.site.encode()
        yield bytes([len(site)]) + site + bytes([len(self.addresses)])
        yield from map(_pack_address, self.addresses)
        yield bytes.fromhex(self.authority) + base64.b64decode(self.update_key)
        yield bytes.fromhex(self.token) + self.expires.to_bytes(4, "big")


def _is_key(text: str) -> bool:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:  # not base64, or not ASCII
        return False
    # One spelling of each key, as it is compared with what is pinned.
    return len(raw) == _KEY and base64.b64encode(raw).decode() == text


def _pack_address(address: str) -> bytes:
    host, port = split_address(address)
    return _pack_host(host) + port.to_bytes(2, "big")


def _pack_host(host: str) -> bytes:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode()
        return bytes([_NAME, len(name)]) + name
    return bytes([_IPV4 if found.version == 4 else _IPV6]) + found.packed  # noqa: PLR2004 - IP's own numbers


def _read_addresses(reader: _Reader) -> Iterable[str]:
    for _ in range(reader.number(1)):
        kind = reader.number(1)
        if kind not in {_NAME, _IPV4, _IPV6}:
            raise ValueError(f"an address of kind {kind}")
        if kind == _NAME:
            host = reader.take(reader.number(1)).decode()
        else:
            host = str(ipaddress.ip_address(reader.take(4 if kind == _IPV4 else 16)))
        yield join_address(host, reader.number(2))


def _unpack(text: str) -> bytes:
    """Return what a code holds, without its check sum."""
    compact = "".join(text[: 2 * _LONGEST].split()).upper()
    if not compact.startswith(_PREFIX):
        other = _OTHER_VERSION.match(compact)
        if other is not None:
            raise BadRequest(
                f"this join code is of version {other[1]}, and this Callboard knows version 2; "
                "install the same version here as on the board"
            )
        raise BadRequest(f"this is no join code: one begins with {_PREFIX}; {_TRY_AGAIN}")
    packed = _decode(compact.removeprefix(_PREFIX))
    body, found = packed[:-_CHECK], packed[-_CHECK:]
    if len(packed) <= _CHECK or found != _check_sum(body):
        raise BadRequest(f"the join code was mistyped, or a part of it is missing; {_TRY_AGAIN}")
    return body


def _decode(letters: str) -> bytes:
    wrong = sorted(set(letters) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
    if wrong or len(letters) > _LONGEST:
        what = f"{wrong[0]!r} cannot be in it" if wrong else "it is too long"
        raise BadRequest(f"the join code was mistyped: {what}; {_TRY_AGAIN}")
    try:
        return base64.b32decode(letters + "=" * (-len(letters) % 8))
    except binascii.Error:
        raise BadRequest(f"the join code was mistyped, or a part of it is missing; {_TRY_AGAIN}") from None


def _check_sum(body: bytes) -> bytes:
    return hashlib.sha256(_PREFIX.encode() + body).digest()[:_CHECK]


class _Reader:
    """Takes bytes off the front; ValueError when there are too few, or some are left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("it ends too early")
        self._at += count
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("it is too long")
