"""A machine joins a board: it makes sure that it is the right one, and only then shows what lets it in."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from callboard_core.addresses import join_address
from callboard_core.discovery import Found
from callboard_core.errors import (
    CallboardError,
    Failed,
    NotFound,
    Overloaded,
    TimedOut,
    Unavailable,
)
from callboard_core.messages import describe
from callboard_core.trust import JoinCode
from callboard_core.trust.enrolment import Enrol, Enrolled, Pending
from callboard_nodes.enrolment.draft import Draft, Drafts
from callboard_nodes.enrolment.https import NotTheBoard, Peer, WrongClock, verified
from callboard_nodes.enrolment.store import Enrolment, Store
from callboard_nodes.enrolment.whereabouts import Search

__all__ = ["Applicant", "Joining"]

_log = logging.getLogger("callboard.enrolment")

#: What passes by itself: the network, a board that starts, one that has too much to do.
_PASSING = (Unavailable, Overloaded, TimedOut, NotTheBoard)
#: Seconds between two tries: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
_ENROL = "/api/v1/enrol"

_Answer: TypeAdapter[Enrolled | Pending] = TypeAdapter(Enrolled | Pending)


def _nobody(_: str) -> Iterable[Found]:
    return ()


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks to be let in."""

    id: str
    label: str | None = None
    host: str | None = None


class Joining:
    """One enrolment, from the join code to what is stored.

    Args:
        code: the invitation.
        who: whom the board is to know this machine as.
        store: where the enrolment goes; the key is kept there meanwhile, so that a machine that was switched off
            asks again with the same one.
        patient: go on trying while the board cannot be reached, without end; otherwise that is an error, until the
            board has been reached once.
        search: yields the boards of a site that answer a search; where they are is tried as well.
        say: told what people should know.
        stop: ends it.
    """

    def __init__(
        self,
        code: JoinCode,
        who: Applicant,
        store: Store,
        *,
        patient: bool = False,
        search: Search = _nobody,
        say: Callable[[str], object] = _log.info,
        stop: threading.Event | None = None,
    ) -> None:
        self._code, self._who, self._store = code, who, store
        self._patient, self._search, self._say = patient, search, say
        self._stop = stop or threading.Event()
        self._drafts = Drafts(store.state, code)
        self._said = ""

    def run(self) -> Enrolment:
        """Join; waits for the operator's yes for as long as it takes.

        Raises:
            Unavailable: the board cannot be reached, this machine's clock is wrong, or ``stop`` was set.
            NotTheBoard: only machines answered that are not the board that made the code; they were told nothing.
            Forbidden: the operator said no.
            CallboardError: the board does not take the code: it was used, has expired, …
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._attempt()
            except _PASSING as error:
                if not self._patient or self._stop.is_set():
                    raise
                self._tell(f"{error.message}; trying again")
            except CallboardError:
                self._drafts.remove()
                raise
            self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _attempt(self) -> Enrolment:
        with closing(self._reach()) as board:
            self._patient = True
            return self._enrol(board, self._drafts.read() or self._drafts.write(Draft.new()))

    def _enrol(self, board: Peer, draft: Draft) -> Enrolment:
        answer = self._apply(board, draft)
        while isinstance(answer, Pending):
            draft = self._drafts.write(draft.waiting(answer.ticket))
            self._tell(self._waiting(draft))
            self._pause(answer.poll)
            answer = self._apply(board, draft)
        return self._keep(answer, draft)

    def _keep(self, answer: Enrolled, draft: Draft) -> Enrolment:
        if (answer.site, answer.id) != (self._code.site, self._who.id):
            raise Failed(
                f"the board let in {answer.id!r} at site {answer.site!r} where {self._who.id!r} at "
                f"{self._code.site!r} had asked; update Callboard on both machines"
            )
        enrolment = self._store.write(Enrolment.of(answer, draft.key))
        self._drafts.remove()
        return enrolment

    def _apply(self, board: Peer, draft: Draft) -> Enrolled | Pending:
        """Ask to be let in, or ask on where an earlier process had begun to wait."""
        if draft.ticket:
            try:
                return _read(board.get(f"{_ENROL}/{quote(draft.ticket, safe='')}"))
            except NotFound:
                _log.info("the board does not know any more that this machine waits: asking anew")
        who = self._who
        request = draft.request(who.id)
        wish = Enrol(token=self._code.token, id=who.id, csr=request, label=who.label, host=who.host)
        return _read(board.post(_ENROL, wish.model_dump(mode="json", exclude_none=True)))

    # -- the right board ---------------------------------------------------------------------------------------

    def _reach(self) -> Peer:
        """Return the board, verified."""
        failures: list[CallboardError] = []
        tried: set[str] = set()
        for address in self._addresses():
            if address in tried:
                continue
            tried.add(address)
            try:
                return verified(address, self._code.authority)
            except (Unavailable, NotTheBoard) as error:
                failures.append(error)
            if self._stop.is_set():
                break
        raise _sum_up(failures)

    def _addresses(self) -> Iterator[str]:
        yield from self._code.addresses
        try:
            for found in self._search(self._code.site):
                if found.https is not None:
                    yield join_address(found.host, found.https)
        except CallboardError as error:
            _log.debug("nothing was found beside the code's addresses: %s", error)

    # -- small things ------------------------------------------------------------------------------------------

    def _waiting(self, draft: Draft) -> str:
        return (
            f"waiting for the operator of site {self._code.site!r} to let {self._who.id!r} in "
            f"(key {draft.fingerprint[:16]}): `callboard join accept {self._who.id}` there, or Add node in the console"
        )

    def _tell(self, message: str) -> None:
        if message != self._said:
            self._say(message)
        self._said = message

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Unavailable("stopped before the machine had joined")


def _read(text: str) -> Enrolled | Pending:
    try:
        return _Answer.validate_json(text)
    except ValidationError as error:
        raise Failed(
            f"the board's answer is not understood: {describe(error).message}; update Callboard"
        ) from None


def _sum_up(failures: list[CallboardError]) -> CallboardError:
    """The failure that tells most; machines that are not there tell least."""
    for kind in (NotTheBoard, WrongClock):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    tried = "; ".join(failure.message for failure in failures)
    return Unavailable(
        f"the board cannot be reached: {tried}. It must run with --lan, and be in the same network as this machine"
    )
