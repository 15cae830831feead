"""Calls and answers as they are written and read, in either encoding. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from callboard_core.calls import codec, quick
from callboard_core.errors import BadPayload, BadRequest, Failed, TooLarge
from callboard_core.messages import MESSAGE_LIMIT, Call, Payload, Reply, describe, parse

__all__ = ["Asked", "encode_call", "encode_result", "read_asked", "read_call", "read_reply", "read_result"]

_P = TypeVar("_P", bound=Payload)
#: A call as a callee sees it.
Asked = Call | quick.Usual

#: How a binary form in a JSON payload begins.
_FORM = b'"$'
#: Bytes up to which it is worth trying whether a message is a usual one.
SMALL = 4096


def encode_call(
    call_id: str,
    reply_to: str | None,
    args: Mapping[str, Any],
    *,
    now: float,
    timeout: float,
    again: str | None = None,
) -> bytes:
    """Write a call: as JSON, or as MessagePack if its arguments hold bytes or arrays.

    Raises:
        BadRequest: something in it has no form on the wire.
        TooLarge: it is over the message limit.
    """
    fields: dict[str, Any] = {
        "id": call_id,
        "reply_to": reply_to,
        "t": now,
        "expires": now + timeout,
        "accept": codec.MSGPACK,
        "args": args,
    }
    if again is not None:
        fields["again"] = again
    plain = reply_to is not None and quick.is_plain(args)
    data = (quick.write(fields) if plain else None) or _encode_call(fields)
    if len(data) > MESSAGE_LIMIT:
        raise TooLarge(f"the arguments have {len(data)} bytes, more than {MESSAGE_LIMIT}; send an artifact")
    return data


def encode_result(call_id: str, result: Any, *, msgpack: bool = False) -> bytes:
    """Write the answer to a call that has succeeded.

    Args:
        call_id: the call's.
        result: JSON, bytes, arrays.
        msgpack: whether the caller reads MessagePack; it is used if there are bytes or arrays.

    Raises:
        Failed: the result has no form on the wire (NaN, a set, an object …).
        TooLarge: it is over the message limit.
    """
    if isinstance(result, bytes) and len(result) > MESSAGE_LIMIT:
        raise _too_large(len(result))  # whose encoding would only take room
    try:
        payload = quick.write_result(call_id, result) or _encode(
            {"id": call_id, "ok": True, "result": result}, msgpack=msgpack
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise Failed(f"the result cannot be written as JSON: {error}") from None
    except BadRequest as error:
        raise Failed(f"the result cannot be sent: {error.message}") from None
    if len(payload) > MESSAGE_LIMIT:
        raise _too_large(len(payload))
    return payload


def read_call(payload: bytes) -> Call:
    """Read a call in either encoding.

    Raises:
        TooLarge: it is over the message limit.
        BadPayload: it does not parse; ``key`` names what is wrong.
    """
    return _read(Call, payload, "args", {})


def read_asked(payload: bytes) -> Asked:
    """Read a call for who is to answer it: as :func:`read_call`, sooner."""
    found = quick.call_of(payload) if len(payload) <= SMALL else None
    return found or read_call(payload)


def read_reply(payload: bytes) -> Reply:
    """Read an answer in either encoding.

    Raises:
        TooLarge: it is over the message limit.
        BadPayload: it does not parse; ``key`` names what is wrong.
    """
    return _read(Reply, payload, "result", None)


def read_result(payload: bytes) -> dict[str, Any] | Reply:
    """Read an answer; of one that has succeeded with a plain result only the ``id`` and the ``result``.

    Raises:
        TooLarge: it is over the message limit.
        BadPayload: it does not parse; ``key`` names what is wrong.
    """
    found = quick.result_of(payload) if len(payload) <= SMALL else None
    return found or _read(Reply, payload, "result", None)


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"the result has {size} bytes, more than {MESSAGE_LIMIT}; send it as an artifact")


def _encode_call(fields: dict[str, Any]) -> bytes:
    try:
        return Call(**fields | {"args": dict(fields["args"])}).encode()
    except ValidationError:
        return _encode_rich(fields, codec.clean(fields["args"]))


def _encode_rich(fields: dict[str, Any], args: dict[str, Any]) -> bytes:
    """Write a call whose arguments are not plain JSON as they were given."""
    try:
        codec.dumps(args, default=codec.no_binary)
        return Call(**fields | {"args": args}).encode()
    except codec.Binary:
        return codec.pack(Call(**fields | {"args": {}}).model_dump(exclude_none=True) | {"args": args})
    except ValidationError as error:
        raise describe(error) from None


def _encode(answer: Mapping[str, Any], *, msgpack: bool) -> bytes:
    if not msgpack:
        return codec.dumps(answer)
    try:
        return codec.dumps(answer, default=codec.no_binary)
    except codec.Binary:
        return codec.pack(answer)


def _read(model: type[_P], payload: bytes, free: str, empty: object) -> _P:
    """Read a message; what is under the key ``free`` may hold bytes and arrays."""
    if not codec.is_msgpack(payload):
        found = parse(model, payload)
        if _FORM not in payload:
            return found
        return found.model_copy(update={free: codec.from_json(getattr(found, free))})
    fields = codec.unpack(payload)
    value = fields.pop(free, empty)
    if isinstance(empty, dict) and not isinstance(value, dict):
        raise BadPayload(f"{free}: expected an object", key=free)
    try:
        found = model.model_validate(fields)
    except ValidationError as error:
        raise describe(error) from None
    return found.model_copy(update={free: value})
