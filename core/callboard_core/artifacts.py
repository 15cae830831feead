"""The board's artifacts over HTTP: content too large for a message is sent and fetched here, and checked by its hash.

Nothing but the standard library: nodes have no more.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import io
import json
import mimetypes
import os
import shutil
import ssl
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

from callboard_core.board_http import BoardHttp
from callboard_core.calls.artifacts import BYTES, LIMIT, ArtifactRef
from callboard_core.errors import (
    BadRequest,
    CallboardError,
    Conflict,
    Failed,
    NotFound,
    Overloaded,
    TimedOut,
    TooLarge,
    Unavailable,
    error_from_code,
)
from callboard_core.link.link import Link
from callboard_core.link.values import Credential

__all__ = ["HttpArtifacts", "Progress"]

#: Told how many bytes of how many are there.
Progress = Callable[[int, int], None]

#: The hash of no bytes at all.
_NOTHING = hashlib.sha256().hexdigest()
#: Bytes sent or read at a time.
_BLOCK = 256 * 1024
#: Seconds a connection may take or bring nothing; and after the last byte, until the board has it on the disk.
_SILENCE, _ANSWER = 20.0, 60.0
#: Seconds to try on without a byte getting through, and between two tries: the first, and the longest.
PATIENCE = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0
#: Seconds after which a connection is not used again; the board closes idle ones soon after.
_IDLE = 3.0
#: What may be repeated: the connection broke, or somebody else was sending the same content.
_PASSING = (OSError, http.client.HTTPException, Conflict, Overloaded, TimedOut)
#: What is no matter of the network.
_OWN_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}
_OF_STATUS: dict[int, str] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    413: "too_large",
    507: "unavailable",
}
#: Content up to so many bytes is held in memory while its hash is worked out.
_SPOOLED = 8 * 1024 * 1024


class HttpArtifacts:
    """An :class:`~callboard_core.calls.artifacts.ArtifactStore` over the board's HTTP API.

    Where a reference says it is found does not matter: artifacts come from this board, by their hashes, so that
    nobody can send us, and our password, elsewhere. Safe from any thread.

    Args:
        base_url: the board's HTTP API, such as ``http://127.0.0.1:8470``; a callable is asked each time.
        credential: who asks; a callable is asked each time.
        patience: seconds to try on while nothing gets through.
        tls: used for ``https``; a callable is asked for each connection. By default, and where it returns None, the
            system's authorities are trusted.
    """

    def __init__(
        self,
        base_url: str | Callable[[], str],
        credential: Credential | Callable[[], Credential | None] | None = None,
        *,
        patience: float = PATIENCE,
        tls: ssl.SSLContext | Callable[[], ssl.SSLContext | None] | None = None,
    ) -> None:
        self._base_url, self._credential, self._patience = base_url, credential, patience
        self._tls = tls
        self._idle: list[tuple[float, str, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    @classmethod
    def of(
        cls,
        link: Link,
        credential: Credential | Callable[[], Credential | None] | None,
        url: str | Callable[[], str] = "",
        *,
        tls: ssl.SSLContext | Callable[[], ssl.SSLContext | None] | None = None,
    ) -> HttpArtifacts:
        """Return the artifacts of the board that a link leads to; for as long as the link.

        Args:
            link: tells by the board's card where its HTTP API is.
            credential: who asks.
            url: where it is, whatever the card says.
            tls: as for the class.
        """
        found = cls(url or BoardHttp(link), credential, tls=tls)
        link.on_stop(found.close)
        return found

    def reach(self) -> None:
        """Find the board and log in there ahead of the first transfer, which then need not wait for that.

        Raises:
            Unauthorized: the board does not know who asks.
            CallboardError: what else the board says, or that it cannot be found. A transfer tries for longer.
            OSError: it cannot be reached.
        """
        with self._request("HEAD", _NOTHING, {}) as response:
            response.read()
            if response.status not in {200, 404}:
                raise _of_status(response.status)

    def close(self) -> None:
        """Close idle connections; it can still be used."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- ArtifactStore -----------------------------------------------------------------------------------------

    def put(self, data: bytes | BinaryIO, *, type: str = BYTES) -> ArtifactRef:  # noqa: A002 - the field's name
        """Store content, unless the board has it.

        Raises:
            TooLarge: it is over the board's limit.
            Unavailable: the board cannot be reached, or has no room.
            CallboardError: what else the board says.
        """
        if isinstance(data, bytes):
            return self._put(io.BytesIO(data), _hash(io.BytesIO(data)), len(data), type, None)
        with tempfile.SpooledTemporaryFile(_SPOOLED) as spool:
            shutil.copyfileobj(data, spool, _BLOCK)
            size = spool.tell()
            spool.seek(0)
            return self._put(spool, _hash(spool), size, type, None)

    def get(self, ref: ArtifactRef) -> bytes:
        """Fetch content and check its hash.

        Raises:
            NotFound: the board does not have it (any more).
            Failed: it is not what it was.
            Unavailable: the board cannot be reached.
        """
        into = io.BytesIO()
        self._get(ref, into, None)
        return into.getvalue()

    # -- files -------------------------------------------------------------------------------------------------

    def put_file(
        self,
        path: Path,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        progress: Progress | None = None,
    ) -> ArtifactRef:
        """Store a file, unless the board has its content; goes on where an earlier try was cut.

        Args:
            path: the file.
            type: its content type; by default what its name says.
            progress: told how many bytes of how many the board has.

        Raises:
            OSError: the file cannot be read.
            CallboardError: as for :meth:`put`.
        """
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            guessed = type or mimetypes.guess_type(path.name)[0] or BYTES
            return self._put(file, _hash(file), size, guessed, progress)

    def get_file(self, ref: ArtifactRef, path: Path, *, progress: Progress | None = None) -> Path:
        """Fetch content into a file, which is there only once it is complete and checked.

        What has come is kept beside it under a hidden name until then, also if this process ends, and is not fetched
        again. Several who fetch the same into one place wait for each other.

        Args:
            ref: what to fetch.
            path: where to put it; a file that is there and not this content is replaced.
            progress: told how many bytes of how many are here.

        Returns:
            ``path``.

        Raises:
            OSError: the file cannot be written.
            CallboardError: as for :meth:`get`.
        """
        part = path.with_name(f".{path.name[:100]}.{ref.sha256[:16]}.part")
        with _locked(part) as file:
            if _is(path, ref):
                part.unlink()
                return path
            try:
                self._get(ref, file, progress)
            except CallboardError as error:
                if not isinstance(error, Unavailable | Overloaded | TimedOut):
                    part.unlink()  # it is no part of this content, or nobody has the rest
                raise
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        return path

    # -- sending -----------------------------------------------------------------------------------------------

    def _put(
        self, file: Any, sha256: str, size: int, content_type: str, progress: Progress | None
    ) -> ArtifactRef:
        if size > LIMIT:
            raise TooLarge(f"{size} bytes are over the limit of {LIMIT} for an artifact")
        tries = _Tries(self._patience, "store")
        asks = size > _BLOCK  # to send what little there is costs less than to ask first
        while True:
            try:
                offset = self._offset(sha256, size) if asks else 0
                asks = True  # if there is another try
                if isinstance(offset, ArtifactRef):
                    if progress is not None:
                        progress(size, size)
                    return offset
                tries.note(offset)
                file.seek(offset)
                found = self._send(file, sha256, offset, size, content_type, progress)
            except _PASSING as error:
                tries.pause(error)
            else:
                if found is not None:
                    return found

    def _offset(self, sha256: str, size: int) -> int | ArtifactRef:
        """Ask from which byte on to send; if the board has it all, return how it is referred to."""
        with self._request("HEAD", sha256, {"Upload-Length": str(size)}) as response:
            response.read()
            if response.status == 200:  # noqa: PLR2004 - OK
                return _refer(sha256, size, response.getheader("Content-Type") or BYTES)
            if response.status != 404:  # noqa: PLR2004 - Not Found
                raise _of_head(response, size)
            offset = int(response.getheader("Upload-Offset") or 0)
            return offset if offset <= size else 0

    def _send(
        self, file: Any, sha256: str, offset: int, size: int, content_type: str, progress: Progress | None
    ) -> ArtifactRef | None:
        headers = {
            "Content-Type": content_type,
            "Content-Length": str(size - offset),
            "Upload-Offset": str(offset),
            "Upload-Length": str(size),
        }
        with self._request("PUT", sha256, headers, _blocks(file, offset, size, progress)) as response:
            body = response.read()
            if response.status == 202:  # noqa: PLR2004 - Accepted: not all of it
                return None
            _check(response, body)
            return ArtifactRef.model_validate_json(body)

    # -- fetching ----------------------------------------------------------------------------------------------

    def _get(self, ref: ArtifactRef, into: Any, progress: Progress | None) -> None:
        """Append to ``into`` what is missing; what has a wrong hash is fetched once more from the start."""
        tries = _Tries(self._patience, "fetch")
        into.seek(0)
        found = _hasher(into)
        resumed = into.tell() > 0
        while True:
            try:
                self._receive(ref, into, found, progress)
            except _PASSING as error:
                tries.note(into.tell())
                tries.pause(error)
                resumed = True
                continue
            if into.tell() == ref.size and found.hexdigest() == ref.sha256:
                return
            if not resumed:
                raise Failed(f"artifact {ref.sha256} has come with another content; store it again")
            into.seek(0)
            into.truncate()
            found, resumed = hashlib.sha256(), False

    def _receive(self, ref: ArtifactRef, into: Any, found: Any, progress: Progress | None) -> None:
        there = into.tell()
        if there >= ref.size > 0 or (not ref.size and there):
            return
        headers = {"Range": f"bytes={there}-"} if there else {}
        with self._request("GET", ref.sha256, headers) as response:
            if response.status not in {200, 206}:
                _check(response, response.read(_BLOCK))
                raise Failed(f"the board answered {response.status} to a request for an artifact")
            while block := response.read(_BLOCK):
                if into.tell() + len(block) > ref.size:
                    raise Failed(f"artifact {ref.sha256} has more than {ref.size} bytes")
                into.write(block)
                found.update(block)
                if progress is not None:
                    progress(into.tell(), ref.size)
            if into.tell() < ref.size:
                raise http.client.IncompleteRead(b"", ref.size - into.tell())

    # -- connections -------------------------------------------------------------------------------------------

    @contextmanager
    def _request(
        self, method: str, sha256: str, headers: dict[str, str], body: Iterator[bytes] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        base = (self._base_url() if callable(self._base_url) else self._base_url).rstrip("/")
        connection = self._connection(base)
        try:
            connection.putrequest(method, f"{urlsplit(base).path}/api/v1/artifacts/{sha256}")
            for name, value in {**headers, **self._authorization()}.items():
                connection.putheader(name, value)
            connection.endheaders()
            yield _answer(connection, body)
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None:
            connection.sock.settimeout(_SILENCE)
            with self._lock:
                self._idle.append((time.monotonic(), base, connection))

    def _connection(self, base: str) -> http.client.HTTPConnection:
        """A connection that was used just now, or a new one."""
        now = time.monotonic()
        with self._lock:
            stale = [one for one in self._idle if now - one[0] > _IDLE or one[1] != base]
            fresh = [one for one in self._idle if one not in stale]
            found = fresh.pop() if fresh else None
            self._idle = fresh
        for _, _, connection in stale:
            connection.close()
        return found[2] if found else _connect(base, self._tls() if callable(self._tls) else self._tls)

    def _authorization(self) -> dict[str, str]:
        credential = self._credential() if callable(self._credential) else self._credential
        if credential is None:
            return {}
        both = f"{credential.username}:{credential.password}".encode()
        return {"Authorization": f"Basic {b64encode(both).decode('ascii')}"}


class _Tries:
    """How long to go on trying: until nothing has got through for a while."""

    def __init__(self, patience: float, what: str) -> None:
        self._patience, self._what = patience, what
        self._begun = time.monotonic()
        self._most = 0
        self._pause = _FIRST_PAUSE

    def note(self, there: int) -> None:
        """Note how far it is."""
        if there > self._most:
            self._most, self._begun, self._pause = there, time.monotonic(), _FIRST_PAUSE

    def pause(self, error: BaseException) -> None:
        """Wait before the next try.

        Raises:
            Unavailable: it was tried for long enough.
            OSError: it is this machine's disk, or a certificate.
        """
        if isinstance(error, ssl.SSLCertVerificationError) or getattr(error, "errno", None) in _OWN_DISK:
            raise error
        if time.monotonic() - self._begun + self._pause > self._patience:
            if isinstance(error, CallboardError):
                raise error
            raise Unavailable(f"cannot {self._what} an artifact: {error or type(error).__name__}") from error
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def _connect(base: str, tls: ssl.SSLContext | None) -> http.client.HTTPConnection:
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadRequest(f"{base!r} is no http:// or https:// URL of a board")
    if parts.scheme == "https":
        context = tls or ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=_SILENCE, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_SILENCE)
    connection.connect()
    return connection


def _answer(connection: http.client.HTTPConnection, body: Iterator[bytes] | None) -> http.client.HTTPResponse:
    """Send the body and return the answer, which may come before the end of it."""
    try:
        for block in body or ():
            connection.send(block)
        if body is not None:
            connection.sock.settimeout(_ANSWER)
    except (BrokenPipeError, ConnectionResetError) as error:
        try:
            return connection.getresponse()
        except (OSError, http.client.HTTPException):
            raise error from None
    return connection.getresponse()


def _blocks(file: Any, offset: int, size: int, progress: Progress | None) -> Iterator[bytes]:
    while offset < size:
        block = file.read(min(_BLOCK, size - offset))
        if not block:
            raise Failed("the content became shorter while it was sent")
        yield block
        offset += len(block)
        if progress is not None:
            progress(offset, size)


def _check(response: http.client.HTTPResponse, body: bytes) -> None:
    """Raise what the board says."""
    if response.status < 400:  # noqa: PLR2004 - client errors begin here
        return
    try:
        told = json.loads(body)["error"]
        error = error_from_code(str(told["code"]), str(told["message"]))
    except (ValueError, KeyError, TypeError):
        error = _of_status(response.status)
    raise error


def _of_head(response: http.client.HTTPResponse, size: int) -> CallboardError:
    """An answer to HEAD has no body to say what is wrong."""
    limit = response.getheader("Upload-Limit")
    if response.status == TooLarge.http_status and limit:
        return TooLarge(f"{size} bytes are over the board's limit of {limit} for an artifact")
    if response.status == 507:  # noqa: PLR2004 - Insufficient Storage
        return Unavailable(f"the board has no room for an artifact of {size} bytes; make room there")
    return _of_status(response.status)


def _of_status(status: int) -> CallboardError:
    code = _OF_STATUS.get(status, "overloaded" if status == Overloaded.http_status else "failed")
    if status == NotFound.http_status:
        code = "not_found"
    return error_from_code(code, f"the board answered {status} to a request for an artifact")


def _refer(sha256: str, size: int, content_type: str) -> ArtifactRef:
    return ArtifactRef(sha256=sha256, size=size, type=content_type, url=f"/api/v1/artifacts/{sha256}")


def _hasher(file: Any) -> Any:
    """Hash a file from where it is to its end."""
    found = hashlib.sha256()
    while block := file.read(_BLOCK):
        found.update(block)
    return found


def _hash(file: Any) -> str:
    found: str = _hasher(file).hexdigest()
    return found


def _is(path: Path, ref: ArtifactRef) -> bool:
    """Tell whether a file has this content already."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == ref.size and _hash(file) == ref.sha256
    except (FileNotFoundError, IsADirectoryError):
        return False


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """Open a part for ourselves alone; who held it before may have renamed it meanwhile."""
    while True:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                same = os.path.samestat(part.stat(), os.fstat(file.fileno()))
            except FileNotFoundError:
                same = False
            if same:
                yield file
                return
