"""The messages nearly all calls are made of, written and read without a detour through their models. Pure.

What is not quite as usual is left to the models, which are the ones to say what is wrong: these functions then return None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic_core import PydanticSerializationError, from_json, to_json

__all__ = ["Usual", "call_of", "is_plain", "result_of", "write", "write_result"]

#: Values that look the same in JSON, and what may be wrong with none of them; floats may be infinite.
_PLAIN = frozenset({str, int, bool, type(None)})

_RESULT = frozenset({"id", "ok", "result"})
_CALL = frozenset({"id", "reply_to", "args", "expires", "t", "accept"})
_LONGEST_ID = 64
#: The end of the year 9999 (see ``messages.Time``).
_END = 253_402_300_800


def is_plain(values: Mapping[str, Any]) -> bool:
    """Tell whether a mapping holds only texts, whole numbers, finite floats, true, false and nothing."""
    return all(map(_is_plain, values.values()))


def write(fields: Mapping[str, Any]) -> bytes | None:
    """Write a plain message as JSON; None if it holds what is no Unicode."""
    try:
        return to_json(fields)
    except (PydanticSerializationError, UnicodeEncodeError):
        return None


@dataclass(slots=True, eq=False)
class Usual:
    """A call that says nothing unusual; what it does not say is as in :class:`~callboard_core.messages.Call`."""

    id: str
    reply_to: str
    args: dict[str, Any]
    t: float
    expires: float
    accept: str
    again: ClassVar[None] = None
    brief: ClassVar[bool] = False
    cancel: ClassVar[None] = None


def call_of(payload: bytes) -> Usual | None:
    """Read a call that has nothing unusual about it."""
    found = _object(payload, _CALL)
    if found is None:
        return None
    call_id, args, sent, expires = found["id"], found["args"], found["t"], found["expires"]
    if type(call_id) is not str or not 0 < len(call_id) <= _LONGEST_ID or type(args) is not dict:
        return None
    if (
        type(sent) is not float
        or not 0 <= sent < _END
        or type(expires) is not float
        or not 0 <= expires < _END
    ):
        return None
    reply_to, accept = found["reply_to"], found["accept"]
    if type(reply_to) is not str or type(accept) is not str or not is_plain(args):
        return None
    return Usual(call_id, reply_to, args, sent, expires, accept)


def result_of(payload: bytes) -> dict[str, Any] | None:
    """Read the answer to a call that has succeeded with a plain result: its ``id`` and ``result``."""
    found = _object(payload, _RESULT)
    if found is None or found["ok"] is not True or type(found["id"]) is not str:
        return None
    return found if _is_plain(found["result"]) else None


def write_result(call_id: str, result: Any) -> bytes | None:
    """Write the answer to a call that has succeeded; None if the result is not plain."""
    return write({"id": call_id, "ok": True, "result": result}) if _is_plain(result) else None


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) is float and value - value == 0.0)


def _object(payload: bytes, keys: frozenset[str]) -> dict[str, Any] | None:
    """Read an object that has just these keys."""
    try:
        found = from_json(payload, allow_inf_nan=False)
    except ValueError:
        return None
    return found if type(found) is dict and found.keys() == keys else None
