"""Results that are larger than a message: what is needed of a store, and how they are referred to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from pydantic import Field, JsonValue, ValidationError

from callboard_core.calls import codec
from callboard_core.errors import BadPayload
from callboard_core.messages import Payload, describe

__all__ = ["LIMIT", "ArtifactRef", "ArtifactStore", "fetch", "reference", "resolve", "store"]

#: Largest artifact, in bytes.
LIMIT = 1024**3
#: Content types of the results that are stored.
BYTES, JSON, MSGPACK = "application/octet-stream", "application/json", "application/msgpack"
#: The key under which a result refers to an artifact.
_KEY = "$artifact"


class ArtifactRef(Payload):
    """Where a large result is, and how it can be checked."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the content, in hex")
    size: int = Field(ge=0, le=LIMIT, description="bytes")
    type: str = Field(description="content type")
    url: str = Field(description="path below the board's HTTP API, or a whole URL")


class ArtifactStore(Protocol):
    """Keeps artifacts. Both methods wait; both may be called from any thread."""

    def put(self, data: bytes | BinaryIO, *, type: str) -> ArtifactRef:  # noqa: A002 - the field's name
        """Store content.

        Raises:
            CallboardError: it could not be stored.
        """

    def get(self, ref: ArtifactRef) -> bytes:
        """Fetch content and check its hash.

        Raises:
            CallboardError: it is not there, or not what it was.
        """


def store(artifacts: ArtifactStore, result: Any) -> JsonValue:
    """Store a result; returns what to answer in its place."""
    raw = isinstance(result, bytes)
    ref = artifacts.put(result, type=BYTES) if raw else _store_value(artifacts, result)
    return {_KEY: ref.model_dump()}


def _store_value(artifacts: ArtifactStore, result: Any) -> ArtifactRef:
    try:
        data = codec.dumps({"result": result}, default=codec.no_binary)
    except codec.Binary:
        return artifacts.put(codec.pack({"result": result}), type=MSGPACK)
    return artifacts.put(data, type=JSON)


def reference(result: Any) -> ArtifactRef | None:
    """Return what a result refers to, or None if it is no reference.

    Raises:
        BadPayload: it is a damaged one.
    """
    if not isinstance(result, dict) or set(result) != {_KEY}:
        return None
    try:
        return ArtifactRef.model_validate(result[_KEY])
    except ValidationError as error:
        raise describe(error) from None


def fetch(artifacts: ArtifactStore, ref: ArtifactRef) -> Any:
    """Fetch the result that was stored.

    Raises:
        CallboardError: it is not there, not what it was, or does not parse.
    """
    data = artifacts.get(ref)
    if ref.type == MSGPACK:
        return codec.unpack(data, limit=LIMIT).get("result")
    if ref.type != JSON:
        return data
    try:
        return codec.from_json(json.loads(data)["result"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadPayload(f"the artifact holds no result: {error}") from None


def resolve(
    artifacts: ArtifactStore | None, result: Any, take: Callable[[Any, BaseException | None], object]
) -> bool:
    """Have a result fetched that is somewhere else for its size; does not wait.

    Args:
        artifacts: where it may be; None: nothing is fetched.
        result: what was answered.
        take: called once, perhaps at once, with the result or with why there is none.

    Returns:
        False, and ``take`` is not called, if the result is no reference.
    """
    if artifacts is None or not isinstance(result, dict) or len(result) != 1 or _KEY not in result:
        return False
    keep = artifacts
    try:
        ref = reference(result)
    except BadPayload as error:
        take(None, error)
        return True
    if ref is None:
        return False

    def work() -> None:
        try:
            found = fetch(keep, ref)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            take(None, error)
        else:
            take(found, None)

    threading.Thread(target=work, name="artifact", daemon=True).start()
    return True
