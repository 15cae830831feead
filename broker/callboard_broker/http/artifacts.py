"""Artifacts: content by its SHA-256, sent and fetched in pieces if need be."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from callboard_broker.errors import Damaged, NoRoom, WrongOffset
from callboard_broker.http import errors
from callboard_broker.http.context import (
    Commander,
    Depositor,
    Fetcher,
    Services,
    Use,
    asking_depositor,
    services,
)
from callboard_broker.services.artifacts import Artifacts, Record, Upload
from callboard_broker.services.logins import Person
from callboard_core.calls.artifacts import BYTES, ArtifactRef
from callboard_core.errors import BadRequest, CallboardError, Forbidden, TimedOut, TooLarge

__all__ = ["HARMLESS", "PATH", "content", "router", "taker"]

router = APIRouter(prefix="/artifacts", tags=["artifacts"])

_T = TypeVar("_T")

#: Bytes of a body gathered before the disk is asked, and read of one that is not wanted.
_BLOCK = 1024 * 1024
_SWALLOWED = 8 * _BLOCK
#: Seconds without a byte after which an upload is cut.
_PATIENCE = 60.0
_INSUFFICIENT_STORAGE = 507
#: What begins so is an artifact; what follows is its hash.
PATH = "/api/v1/artifacts/"
_HASH, _NUMBER = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
#: A browser must never run what somebody stored: it would do so in the name of the board.
HARMLESS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}

Sha256 = Annotated[
    str, Path(description="of the content, in lower-case hex", pattern=r"^[0-9a-f]{64}$", max_length=64)
]
Offset = Annotated[int, Header(ge=0, description="bytes that are there already")]
Length = Annotated[int | None, Header(ge=0, description="bytes of the whole content")]


class Item(BaseModel):
    """One artifact. Times are Unix seconds."""

    sha256: str
    size: int = Field(description="bytes")
    type: str
    added: float
    used: float = Field(description="last use, to the minute")
    pinned_by: list[str] = Field(description="who needs it")


class Items(BaseModel):
    """Artifacts, in the order of their hashes."""

    items: list[Item]
    count: int = Field(description="of all artifacts")
    size: int = Field(description="of all artifacts, in bytes")


class Verified(BaseModel):
    """What was found damaged, and has been set aside."""

    damaged: list[str]


@router.get("", summary="All artifacts")
def artifacts(
    _person: Commander,
    use: Use,
    after: Annotated[str, Query(description="go on behind this one", max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Items:
    """Return what is kept, a page at a time."""
    count, size = use.artifacts.total()
    found = use.artifacts.listing(after, limit)
    return Items(
        items=[Item(**record._asdict(), pinned_by=owners) for record, owners in found], count=count, size=size
    )


@router.post("/verify", summary="Check all artifacts")
async def verify(_person: Commander, use: Use) -> Verified:
    """Read every artifact and set damaged ones aside; takes about a second per GiB or longer."""
    return Verified(damaged=await _wait(use.artifacts, use.artifacts.verify))


@router.head(
    "/{sha256}", summary="Is it there?", responses={404: {"description": "Upload-Offset: where to go on"}}
)
async def head(
    sha256: Sha256, person: Fetcher, use: Use, upload_length: Length = None, upload_offset: Offset = 0
) -> Response:
    """Tell whether an artifact is there, or how much of it.

    With ``Upload-Length``, the answer is 413 or 507 if an upload of so many bytes would be refused.
    """
    store = use.artifacts
    record = await _wait(store, lambda: store.find(sha256))
    if record is not None:
        await _check_audience(use, sha256, person)
        return Response(headers=_headers(record) | {"Content-Length": str(record.size)})
    try:
        offset = await _wait(store, lambda: store.offset(sha256))
        if upload_length is not None:
            await _wait(store, lambda: store.check(upload_length, max(offset, upload_offset)))
    except (TooLarge, NoRoom) as error:
        return _refusal(error, {"Upload-Limit": str(store.limits.largest)})
    return Response(status_code=404, headers={"Upload-Offset": str(offset)})


@router.get(
    "/{sha256}",
    summary="Fetch an artifact",
    response_class=Response,
    responses={
        200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "the part that the Range header asked for"},
        304: {"description": "If-None-Match: nothing has changed; nothing ever does"},
    },
)
async def get(
    sha256: Sha256,
    person: Fetcher,
    use: Use,
    range_: Annotated[str, Header(alias="Range", description="one range of bytes")] = "",
    if_range: Annotated[str, Header()] = "",
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """Stream an artifact. If the last bytes don't come, it is damaged, and is not there any more.

    What was pushed to nodes is for them, and for who may command.
    """
    store = use.artifacts
    record = await _wait(store, lambda: store.record(sha256))
    await _check_audience(use, sha256, person)
    headers = _headers(record)
    if headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    wanted = _parse_range(range_, record.size) if if_range in {"", headers["ETag"]} else None
    if wanted is None:
        blocks, start, stop = store.read(sha256), 0, record.size
    elif wanted[0] >= wanted[1]:
        return _unsatisfiable(record.size)
    else:
        start, stop = wanted
        blocks = store.read(sha256, start, stop)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{record.size}"
    headers["Content-Length"] = str(stop - start)
    first = await _wait(store, lambda: next(blocks, b""))  # what is damaged and small has an answer yet
    return _Content(_stream(store, first, blocks), 200 if wanted is None else 206, headers)


@router.put(
    "/{sha256}",
    status_code=201,
    summary="Store an artifact",
    openapi_extra={"requestBody": {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}},
    responses={
        200: {"model": ArtifactRef, "description": "it was there already"},
        202: {"description": "taken, and not yet complete; Upload-Offset: where to go on"},
        409: {"model": errors.ErrorAnswer, "description": "Upload-Offset: where to go on"},
    },
)
async def put(
    sha256: Sha256,
    request: Request,
    _person: Depositor,
    use: Use,
    upload_offset: Offset = 0,
    upload_length: Length = None,
    content_length: Annotated[int | None, Header(ge=0)] = None,
    content_type: Annotated[str, Header()] = BYTES,
) -> ArtifactRef:
    """Store a content, or the rest of one whose upload was cut: ask HEAD where to go on.

    What does not have this hash is refused and not kept.
    """
    store = use.artifacts
    if upload_length is None and content_length is not None:
        upload_length = upload_offset + content_length

    def begin() -> Upload | ArtifactRef:
        if store.find(sha256) is not None:
            return store.ref(sha256)
        return store.begin(sha256, offset=upload_offset, length=upload_length, type=content_type)

    try:
        begun = await _wait(store, begin)
    except CallboardError as error:
        await _swallow(request)
        return _refusal(error)  # type: ignore[return-value]
    if isinstance(begun, ArtifactRef):
        await _swallow(request)
        return _there(begun)  # type: ignore[return-value]
    return await _receive(store, begun, request)  # type: ignore[return-value]


@router.delete("/{sha256}", status_code=204, summary="Remove an artifact")
async def delete(
    sha256: Sha256,
    _person: Commander,
    use: Use,
    force: Annotated[bool, Query(description="also if somebody needs it")] = False,
) -> None:
    """Remove an artifact for good."""
    await _wait(use.artifacts, lambda: use.artifacts.remove(sha256, force=force))


def taker(scope: Scope) -> Callable[[Request], Awaitable[Response]] | None:
    """Return what answers a well-formed PUT without the framework; None: it must say what is wrong, or it is no PUT."""
    if scope["method"] != "PUT" or not scope["path"].startswith(PATH):
        return None
    sha256, headers = scope["path"][len(PATH) :], Headers(scope=scope)
    numbers = [headers.get(name) for name in ("upload-offset", "upload-length", "content-length")]
    if not _HASH.fullmatch(sha256) or not all(one is None or _NUMBER.fullmatch(one) for one in numbers):
        return None
    offset, length, size = (None if one is None else int(one) for one in numbers)
    content_type = headers.get("content-type", BYTES)

    async def take(request: Request) -> Response:
        person = await asking_depositor(request)
        given = (offset or 0, length, size, content_type)
        return await put(sha256, request, person, services(request), *given)  # type: ignore[return-value]

    return take


async def content(store: Artifacts, sha256: str) -> Response:
    """Stream an artifact as the answer to something else."""
    record = await _wait(store, lambda: store.record(sha256))
    blocks = store.read(sha256)
    first = await _wait(store, lambda: next(blocks, b""))
    headers = {"Content-Type": record.type, "Content-Length": str(record.size), **HARMLESS}
    return _Content(_stream(store, first, blocks), 200, headers | {"Cache-Control": "no-store"})


async def _check_audience(use: Services, sha256: str, person: Person) -> None:
    """Return only if an artifact is for somebody.

    Raises:
        Forbidden: it was pushed to other nodes.
    """
    shelf = use.updates.shelf
    if person.may_command or not shelf.was_pushed(sha256):
        return
    node = person.username if person.role == "node" else None
    if not await _wait(use.artifacts, lambda: shelf.is_for(sha256, node)):
        raise Forbidden("this was pushed to nodes, and is for these nodes and for who may command")


async def _receive(store: Artifacts, upload: Upload, request: Request) -> Response:
    ref: ArtifactRef | None = None
    try:
        async for block in _blocks(request):
            ref = await _wait(store, partial(_take, upload, block))
        if upload.length is not None and not upload.complete:
            return Response(status_code=202, headers={"Upload-Offset": str(upload.size)})
        if ref is None:
            ref = await _wait(store, upload.finish)
        return JSONResponse(ref.model_dump(), 201, {"Location": ref.url})
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    except CallboardError as error:
        upload.cut(discard=isinstance(error, NoRoom | TooLarge | BadRequest))
        await _swallow(request)
        return _refusal(error)
    except OSError as error:
        upload.cut(discard=True)
        await _swallow(request)
        return _refusal(store.explain(error))
    finally:
        upload.cut()


def _take(upload: Upload, block: bytes) -> ArtifactRef | None:
    """Write a block and, with the last one that was announced, finish: what is small needs one trip to a thread."""
    upload.write(block)
    return upload.finish() if upload.complete else None


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of a size that is worth a trip to a thread."""
    waiting, size = list[bytes](), 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(_PATIENCE):
                data = await anext(stream, None)
        except TimeoutError:
            raise TimedOut(f"no byte has come for {_PATIENCE:g} s; ask HEAD where to go on") from None
        except ClientDisconnect:
            if waiting:
                yield b"".join(waiting)
            raise
        if data is None:
            break
        waiting.append(data)
        size += len(data)
        if size >= _BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


async def _swallow(request: Request) -> None:
    """Take in what is still being sent, within bounds, so that the client can read the answer."""
    left = _SWALLOWED
    try:
        async with asyncio.timeout(2.0):
            async for data in request.stream():
                left -= len(data)
                if left <= 0:
                    return
    except (ClientDisconnect, TimeoutError, RuntimeError):  # gone, slow, or read to the end already
        return


def _refusal(error: CallboardError, headers: Mapping[str, str] | None = None) -> Response:
    more = {"Connection": "close", **(headers or {})}
    if isinstance(error, WrongOffset):
        more["Upload-Offset"] = str(error.offset)
    return errors.answer(error, more, _INSUFFICIENT_STORAGE if isinstance(error, NoRoom) else None)


def _there(ref: ArtifactRef) -> Response:
    return JSONResponse(ref.model_dump(), 200, {"Location": ref.url})


def _headers(record: Record) -> dict[str, str]:
    return {
        "Content-Type": record.type,
        "ETag": f'"{record.sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        **HARMLESS,
    }


def _parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one behind the last; None if all is wanted (RFC 9110, 14.2)."""
    found = _RANGE.fullmatch(text.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    return int(found[1]), min(int(found[2]) + 1, size) if found[2] else size


def _unsatisfiable(size: int) -> Response:
    error = BadRequest(f"the range is beyond the end; there are {size} bytes")
    return errors.answer(error, {"Content-Range": f"bytes */{size}"}, 416)


async def _stream(store: Artifacts, first: bytes, blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    block = first
    while block:
        yield block
        block = await _wait(store, lambda: next(blocks, b""))


class _Content(StreamingResponse):
    """Closes the connection short of the announced length when what is read turns out to be damaged."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; what has gone wrong is in the log already."""
        try:
            await super().__call__(scope, receive, send)
        except Damaged:
            return


async def _wait(store: Artifacts, work: Callable[[], _T]) -> _T:
    """Do what may wait for the disk in one of the store's own threads."""
    return await asyncio.get_running_loop().run_in_executor(store.threads, work)
