"""The messages nearly all calls are made of, read and written without a detour through their models. Pure.

What is not quite as usual is left to the models, which are the ones to say what is wrong: these functions then return None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic_core import PydanticSerializationError, from_json, to_json

from callboard_core.messages import Call, Payload, Reply

__all__ = ["call_of", "is_plain", "reply_of", "write", "write_result"]

#: Values that look the same in JSON, and what may be wrong with none of them; floats may be infinite.
_PLAIN = frozenset({str, int, bool, type(None)})
_CALL = frozenset({"id", "reply_to", "args", "expires", "t", "accept"})
_LONGEST_ID = 64
#: The end of the year 9999 (see ``messages.Time``).
_END = 253_402_300_800

_P = TypeVar("_P", bound=Payload)


def _defaults(model: type[Payload]) -> dict[str, Any]:
    return {
        name: field.get_default() for name, field in model.model_fields.items() if not field.is_required()
    }


_CALL_DEFAULTS, _REPLY_DEFAULTS = _defaults(Call), _defaults(Reply)
#: Nobody changes the set of a frozen model's fields, so one does for all.
_CALL_SET, _REPLY_SET = set(_CALL), {"id", "ok", "result"}
_put = object.__setattr__


def is_plain(values: Mapping[str, Any]) -> bool:
    """Tell whether a mapping holds only texts, whole numbers, finite floats, true, false and nothing."""
    for value in values.values():
        if type(value) not in _PLAIN and not (type(value) is float and value - value == 0.0):
            return False
    return True


def write(fields: Mapping[str, Any]) -> bytes | None:
    """Write a plain message as JSON; None if it holds what is no Unicode."""
    try:
        return to_json(fields)
    except (PydanticSerializationError, UnicodeEncodeError):
        return None


def write_result(call_id: str, result: Any) -> bytes | None:
    """Write the answer to a call that has succeeded; None if the result is not plain."""
    if type(result) not in _PLAIN and not (type(result) is float and result - result == 0.0):
        return None
    return write({"id": call_id, "ok": True, "result": result})


def call_of(payload: bytes) -> Call | None:
    """Read a call that has nothing unusual about it."""
    found = _object(payload)
    if found is None or found.keys() != _CALL:
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
    if type(found["reply_to"]) is not str or type(found["accept"]) is not str or not is_plain(args):
        return None
    return _make(Call, _CALL_DEFAULTS, found, _CALL_SET)


def reply_of(payload: bytes) -> Reply | None:
    """Read the answer to a call that has succeeded with a plain result."""
    found = _object(payload)
    if found is None or found.keys() != _REPLY_SET or found["ok"] is not True:
        return None
    result = found["result"]
    if type(found["id"]) is not str or (type(result) not in _PLAIN and type(result) is not float):
        return None
    return _make(Reply, _REPLY_DEFAULTS, found, _REPLY_SET)


def _make(model: type[_P], defaults: Mapping[str, Any], fields: dict[str, Any], given: set[str]) -> _P:
    """Make a model of fields that are known to be right; as ``model_construct``, which takes ten times as long."""
    made = model.__new__(model)
    _put(made, "__dict__", {**defaults, **fields})
    _put(made, "__pydantic_fields_set__", given)
    _put(made, "__pydantic_extra__", None)
    _put(made, "__pydantic_private__", None)
    return made


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        found = from_json(payload, allow_inf_nan=False)
    except ValueError:
        return None
    return found if type(found) is dict else None
