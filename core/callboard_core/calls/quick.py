"""The messages nearly all calls are made of, written without a detour through their models. Pure.

What is not quite as usual is left to the models, which are the ones to say what is wrong: these functions then return None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

__all__ = ["is_plain", "write", "write_result"]

#: Values that look the same in JSON, and what may be wrong with none of them; floats may be infinite.
_PLAIN = frozenset({str, int, bool, type(None)})


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
