"""A node keeps its enrolment fresh: it renews a certificate before its end, and when the board's authority changes.

The board takes a new certificate before the node has stored it. A node that is switched off between the two still has
its password, and logs in with that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from callboard_core import topics
from callboard_core.errors import BadRequest, CallboardError
from callboard_core.link import Link
from callboard_core.messages import parse
from callboard_core.topics import BOARD
from callboard_core.trust import certificates_in
from callboard_core.trust.enrolment import Renew, Renewed
from callboard_nodes.enrolment.https import Peer
from callboard_nodes.enrolment.store import Enrolment, Store
from callboard_nodes.enrolment.whereabouts import Whereabouts

__all__ = ["Renewal", "Renewing", "is_due"]

_log = logging.getLogger("callboard.enrolment")

#: Seconds between two looks while connected; a connect, and word that the authority changed, are reasons as well.
_EVERY = 600.0
#: Seconds within which all nodes look after a connect: a board that returns has them all at once.
_SPREAD = 3.0
#: How long before its end a certificate is renewed, if the authority's own end allows a later one.
_EARLY = timedelta(days=90)
#: What the board tells when its authority is replaced.
_EVENT = "trust"
_AUTHORITY, _RENEW = "/api/v1/trust/ca", "/api/v1/enrol/renew"


def is_due(certificate: str, bundle: str, now: datetime) -> bool:
    """Tell whether a certificate was not given by the authority that signs now, or is near its end.

    Args:
        certificate: the node's, PEM.
        bundle: the authorities in force, PEM, the one that signs first.
        now: the time.

    Raises:
        BadRequest: one of them is damaged.
    """
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415 - slow to import

    try:
        mine, signer = (load_pem_x509_certificate(pem.encode()) for pem in (certificate, bundle))
    except ValueError as error:
        raise BadRequest(f"a certificate is damaged: {error}; join the board again") from None
    if mine.issuer != signer.subject:
        return True
    ends = mine.not_valid_after_utc
    return now > ends - _EARLY and signer.not_valid_after_utc > ends


class Renewal:
    """Looks whether the enrolment is fresh, and renews it.

    Args:
        store: where it is kept.
        where: where the board is.
    """

    def __init__(self, store: Store, where: Whereabouts) -> None:
        self._store, self._where = store, where

    def look(self) -> bool:
        """Renew the enrolment if that is due; returns whether it was.

        Raises:
            CallboardError: the board does not answer, or refuses.
            OSError: the new enrolment could not be stored.
        """
        enrolment = self._where.enrolment()
        board = Peer(self._where.address(), self._where.web_context(), enrolment.credential)
        bundle = board.get(_AUTHORITY)
        if is_due(enrolment.certificate, bundle, datetime.now(UTC)):
            self._renew(enrolment, board)
            return True
        if sorted(certificates_in(bundle)) != sorted(certificates_in(enrolment.bundle)):
            self._store.write(enrolment.trusting(bundle))
            _log.info("the board's authorities have changed: trusting those in force now")
        return False

    def _renew(self, enrolment: Enrolment, board: Peer) -> None:
        from callboard_core.trust.keys import new_key, signing_request  # noqa: PLC0415 - slow to import

        key = new_key()
        wish = Renew(csr=signing_request(key, enrolment.record.id))
        answer = parse(Renewed, board.post(_RENEW, wish.model_dump(mode="json")))
        self._store.write(enrolment.renewed(answer, key))
        _log.info("the certificate of node %s was renewed", enrolment.record.id)


class _Running(Protocol):
    @property
    def link(self) -> Link:
        """The node's connection."""


class Renewing:
    """The part of a running node that looks after its enrolment, on the node's event loop."""

    def __init__(self, running: _Running, renewal: Renewal) -> None:
        self._link, self._renewal = running.link, renewal
        self._reason = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._link.on_connect(lambda: _soon(loop, self._reason.set))
        self._link.subscribe(
            topics.event(self._link.site, BOARD, _EVENT), lambda _: _soon(loop, self._reason.set)
        )
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                # Not `wait_for`: before Python 3.12 that loses a cancellation that comes together with a reason.
                async with asyncio.timeout(_EVERY):
                    await self._reason.wait()
                await asyncio.sleep(random.uniform(0, _SPREAD))  # noqa: S311 - it only spreads
            except TimeoutError:
                _log.debug("looking after the enrolment once more")
            self._reason.clear()
            if self._link.connected:
                await self._look()

    async def _look(self) -> None:
        try:
            await asyncio.to_thread(self._renewal.look)
        except (CallboardError, OSError) as error:
            _log.warning("the enrolment was not looked after, which is tried again later: %s", error)


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the node has ended
        loop.call_soon_threadsafe(work)
