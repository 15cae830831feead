"""How calls and answers are written: JSON, or MessagePack where they hold bytes or arrays. Pure.

The first byte tells them apart: a JSON object begins with ``{`` (or white space), a MessagePack map with 0x80 to
0x8f, 0xde or 0xdf. The keys are the same in both. Beyond JSON there are

- bytes: MessagePack ``bin``; in JSON ``{"$bytes": "<base64>"}``;
- arrays: MessagePack extension type 1, which holds the MessagePack array ``[dtype, shape, data]``; in JSON
  ``{"$array": {"dtype": …, "shape": […], "data": "<base64>"}}``. ``dtype`` is a numpy type string such as ``<f8``
  (kinds b, i, u, f, c), ``shape`` a list of whole numbers, ``data`` the elements in C order.

Nothing else is ever decoded; above all no pickles.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic_core import PydanticSerializationError, to_jsonable_python

from callboard_core.errors import BadPayload, TooLarge
from callboard_core.messages import MESSAGE_LIMIT

__all__ = [
    "MSGPACK",
    "Array",
    "Binary",
    "clean",
    "dumps",
    "from_json",
    "is_msgpack",
    "no_binary",
    "pack",
    "to_json",
    "unpack",
]

#: How a call says that its caller reads MessagePack.
MSGPACK = "msgpack"
#: MessagePack's extension type of arrays.
_ARRAY = 1
#: Booleans, whole numbers, floats and complex numbers of fixed size.
_DTYPE = re.compile(r"[<>|](b1|[iu][1248]|f[248]|c8|c16)")
_PLAIN = (bool, str, int)
_BYTES = (bytes, bytearray, memoryview)


class Array(NamedTuple):
    """An array where numpy is not installed: its type, shape and elements in C order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def is_msgpack(payload: bytes) -> bool:
    """Tell whether a payload is a MessagePack map."""
    first = payload[0] if payload else 0
    return 0x80 <= first <= 0x8F or first in {0xDE, 0xDF}  # noqa: PLR2004 - the format's


def pack(message: Mapping[str, Any]) -> bytes:
    """Write a message as MessagePack.

    Raises:
        BadPayload: something in it has no form on the wire; ``key`` names it.
    """
    import msgpack  # noqa: PLC0415 - only messages with bytes need it

    # Strict, or an Array would be packed as the tuple it is.
    found: bytes = msgpack.packb(clean(message), default=_pack_extension, strict_types=True)
    return found


def unpack(payload: bytes, *, limit: int = MESSAGE_LIMIT) -> dict[str, Any]:
    """Read a MessagePack message.

    Raises:
        TooLarge: it is over ``limit`` bytes.
        BadPayload: it is not one.
    """
    import msgpack  # noqa: PLC0415 - only messages with bytes need it

    if len(payload) > limit:
        raise TooLarge(f"payload of {len(payload)} bytes is over the limit of {limit}")
    try:
        found = msgpack.unpackb(payload, ext_hook=_unpack_extension)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BadPayload(f"not a MessagePack message: {error}") from None
    if not isinstance(found, dict):
        raise BadPayload("not a MessagePack map")
    return {str(key): clean(value, str(key)) for key, value in found.items()}


def to_json(value: Any) -> Any:
    """Return the JSON form of bytes or an array; for ``json.dumps(default=…)``.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, _BYTES):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if (array := _as_array(value)) is not None:
        data = base64.b64encode(array.data).decode("ascii")
        return {"$array": {"dtype": array.dtype, "shape": list(array.shape), "data": data}}
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def from_json(value: Any) -> Any:
    """Return a JSON value with bytes and arrays in the place of their JSON forms.

    Raises:
        BadPayload: a form is wrong.
    """
    match value:
        case {"$bytes": str(text), **rest} if not rest:
            return _decode(text)
        case {"$array": {"dtype": str(dtype), "shape": list(shape), "data": str(text)}, **rest} if not rest:
            return _make_array(dtype, shape, _decode(text))
        case dict():
            return {key: from_json(item) for key, item in value.items()}
        case list():
            return [from_json(item) for item in value]
    return value


def clean(value: Any, path: str = "") -> Any:
    """Return a value with only what travels: JSON, bytes and arrays. Models, dates and the like take their JSON form.

    Raises:
        BadPayload: something else is in it; ``key`` names it.
    """
    try:
        return _clean(value, path)
    except RecursionError:
        raise _wrong(path, "what holds itself, or a thousand others in each other, does not travel") from None


def _clean(value: Any, path: str) -> Any:
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, str | int):
        return str(value) if isinstance(value, str) else int(value)  # an enum's member
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _wrong(path, "NaN and infinity do not travel; send None or a text")
        return float(value)  # numpy's, too
    if isinstance(value, _BYTES):
        return bytes(value)
    return _clean_container(value, path)


def _clean_container(value: Any, path: str) -> Any:
    if isinstance(value, Array) or _is_numpy(value):
        return value if _as_array(value) is not None else _clean(value.item(), path)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _wrong(path, f"the key {key!r} is no text")
        return {key: _clean(item, f"{path}.{key}" if path else key) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [
            _clean(item, f"{path}.{position}" if path else str(position))
            for position, item in enumerate(value)
        ]
    return _clean(_as_plain(value, path), path)


def _as_plain(value: Any, path: str) -> Any:
    """The JSON form of a model, a date and the like."""
    if not isinstance(value, AbstractSet | Iterator):  # what has no order, or is gone when it was read
        with contextlib.suppress(PydanticSerializationError, ValueError):
            return to_jsonable_python(value)
    raise _wrong(path, f"{type(value).__name__} does not travel")


def _wrong(path: str, what: str) -> BadPayload:
    return BadPayload(f"{path}: {what}" if path else what, key=path)


def _is_numpy(value: Any) -> bool:
    """True for numpy's arrays and scalars, which are known without importing numpy."""
    return type(value).__module__ == "numpy" and hasattr(value, "dtype")


def _as_array(value: Any) -> Array | None:
    if isinstance(value, Array):
        return value
    if not _is_numpy(value) or not getattr(value, "shape", ()):
        return None
    dtype = value.dtype.str
    if not _DTYPE.fullmatch(dtype):
        raise BadPayload(f"an array of {value.dtype} does not travel; convert it to numbers or booleans")
    return Array(dtype, tuple(value.shape), value.tobytes("C"))


def _make_array(dtype: str, shape: Sequence[Any], data: bytes) -> Any:
    kind = _DTYPE.fullmatch(dtype)
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape)
    if kind is None or not whole or math.prod(shape) * int(kind[1][1:]) != len(data):
        raise BadPayload(f"an array of {dtype!r}, shape {shape} and {len(data)} bytes is none")
    try:
        import numpy  # noqa: ICN001, PLC0415 - optional
    except ImportError:
        return Array(dtype, tuple(shape), data)
    return numpy.frombuffer(data, dtype).reshape(shape).copy()  # one that may be written to


def _pack_extension(value: Any) -> Any:
    import msgpack  # noqa: PLC0415 - only messages with bytes need it

    array = _as_array(value)
    if array is None:
        raise TypeError(f"{type(value).__name__} does not travel")
    return msgpack.ExtType(_ARRAY, msgpack.packb([array.dtype, list(array.shape), array.data]))


def _unpack_extension(code: int, data: bytes) -> Any:
    import msgpack  # noqa: PLC0415 - only messages with bytes need it

    found = msgpack.unpackb(data) if code == _ARRAY else None
    match found:
        case [str(dtype), list(shape), bytes(elements)]:
            return _make_array(dtype, shape, elements)
    raise ValueError(f"extension type {code} is unknown or damaged")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadPayload("bytes that are not base64") from None


class Binary(Exception):
    """Bytes or an array was met where JSON was tried."""


def no_binary(value: Any) -> Any:
    """Refuse bytes and arrays; for ``default`` of :func:`dumps`.

    Raises:
        Binary: it is bytes or an array.
        TypeError: it is something else.
    """
    if isinstance(value, (*_BYTES, Array)) or _is_numpy(value):
        raise Binary
    return to_json(value)


def dumps(message: Mapping[str, Any], default: Callable[[Any], Any] = to_json) -> bytes:
    """Write a message as JSON, as short as possible.

    Raises:
        TypeError, ValueError, RecursionError: something in it has no JSON form.
    """
    return _encoder(default).encode(message).encode()


@lru_cache(maxsize=16)
def _encoder(default: Callable[[Any], Any]) -> json.JSONEncoder:
    return json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=default)
