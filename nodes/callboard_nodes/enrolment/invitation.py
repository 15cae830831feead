"""The file that holds a join code until it was used: read, followed, and then made unreadable."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from callboard_core.discovery import Found
from callboard_core.errors import BadRequest
from callboard_core.trust import JoinCode, is_in_bundle
from callboard_nodes.aside import aside
from callboard_nodes.enrolment.joining import Applicant, Joining
from callboard_nodes.enrolment.standing import is_withdrawn
from callboard_nodes.enrolment.store import Store

__all__ = ["Inviting", "read_invitation", "scrub"]

_log = logging.getLogger("callboard.enrolment")

#: Longest file that is looked at, in bytes; a code has a few hundred.
_LONGEST = 16_384


def read_invitation(file: Path) -> JoinCode | None:
    """Return the join code in a file; None when there is no file, or it is empty.

    Raises:
        BadRequest: it cannot be read, or holds something else; the message names it.
    """
    try:
        with file.open("rb") as handle:
            text = handle.read(_LONGEST).decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadRequest(f"the join code in {file} cannot be read: {error.strerror}") from None
    if not text.strip("\0 \t\r\n"):
        return None
    try:
        return JoinCode.parse(text)
    except BadRequest as error:
        raise BadRequest(f"{file}: {error.message}") from None


def scrub(file: Path) -> None:
    """Overwrite a file and remove it; where it may not be removed it stays, empty."""
    try:
        with file.open("r+b") as handle:
            handle.write(b"\0" * os.fstat(handle.fileno()).st_size)
            handle.flush()
            os.fsync(handle.fileno())
            handle.truncate(0)
            os.fsync(handle.fileno())
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("the used join code in %s stays: %s; remove it", file, error.strerror)
        return
    try:
        file.unlink()
    except OSError as error:
        _log.debug("%s stays, empty: %s", file, error)


class Inviting:
    """A file with a join code, for a node that nobody watches: it is followed for as long as it takes.

    Args:
        file: holds the code.
        who: whom the board is to know the machine as.
        store: where the enrolment goes.
    """

    def __init__(self, file: Path, who: Applicant, store: Store) -> None:
        self._file, self._who, self._store = file, who, store

    async def follow(self, *, search: Callable[[str], Iterable[Found]], say: Callable[[str], object]) -> None:
        """Join, unless the machine has joined already and the board still lets it in; cancelling ends it at once.

        Where the board of such a machine does not answer, the code stays for the next start.

        Args:
            search: yields boards that answer to a search for a site.
            say: told what people should know; from another thread.

        Raises:
            CallboardError: the file holds no code, or the board does not take it.
        """
        code = read_invitation(self._file)
        if code is None:
            return
        found = self._store.read()
        if found is None:
            await self._join(code, search, say)
        elif is_in_bundle(found.bundle, code.authority):
            withdrawn = await aside(is_withdrawn, found, code.addresses)
            if withdrawn is None:
                return
            if withdrawn:
                await self._join(code, search, say)
        else:
            say(
                f"the join code in {self._file} is for another board than the one of site {found.record.site!r}, "
                f"which this node has joined; to change that, remove {self._store.path}"
            )
            return
        scrub(self._file)

    async def _join(
        self, code: JoinCode, search: Callable[[str], Iterable[Found]], say: Callable[[str], object]
    ) -> None:
        stop = threading.Event()
        joining = Joining(code, self._who, self._store, patient=True, search=search, say=say, stop=stop)
        try:
            await aside(joining.run)
        finally:
            stop.set()
