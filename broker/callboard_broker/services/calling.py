"""The board's worker ``call``: services for every MQTT client, which need not know who offers them."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from callboard_broker.services.pools import CALL, Pools, told
from callboard_core import topics
from callboard_core.callee import Callee, Request
from callboard_core.calls.gather import Answer
from callboard_core.calls.names import LONGEST as LONGEST_NAME
from callboard_core.calls.pool import TIMEOUT
from callboard_core.cards import WorkerCard
from callboard_core.errors import CallboardError
from callboard_core.link import Link
from callboard_core.messages import Event, JsonObject, read_args
from callboard_core.presence import Presence
from callboard_core.topics import BOARD, Kind, client_of

__all__ = ["LONGEST", "CallArgs", "Calling"]

_log = logging.getLogger(__name__)

#: Longest time-out of a call, in seconds.
LONGEST = 3600.0
#: Calls the board has on their way at a time for MQTT clients.
AT_ONCE = 10_000
#: Seconds between two reports of who calls what through the board.
TELL_EVERY = 1.5


class CallArgs(BaseModel):
    """What to call, and what with."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    service: str = Field(max_length=LONGEST_NAME, description="a name, or a glob such as render:*")
    args: JsonObject = Field(default_factory=dict, description="what the service's card asks for")
    timeout: float = Field(default=TIMEOUT, gt=0, le=LONGEST, description="seconds to wait for the answer")
    all: bool = Field(
        default=False, description="call everybody who offers it; the result is a list of answers"
    )


class Calling:
    """Offers the worker, and tells who calls what through the board."""

    def __init__(self, pools: Pools, link: Link) -> None:
        self._pools, self._link = pools, link

    def offer(self, presence: Presence, callee: Callee) -> None:
        """Pin the card and answer the calls."""
        callee.handle(
            Kind.WORKER, CALL, self.call, run="inline", timeout=LONGEST, concurrency=AT_ONCE, backlog=0
        )
        presence.pin(
            WorkerCard(
                name=CALL,
                epoch=presence.epoch,
                label="Call a service",
                description="Calls a service by its name, whoever offers it; answers with what that answers.",
                service=CALL,
                concurrency=AT_ONCE,
                timeout=LONGEST,
                parameters=CallArgs.model_json_schema(),
            )
        )

    def call(self, request: Request) -> Future[Any]:
        """Call a service for a client."""
        wanted = read_args(CallArgs, request.args)
        caller = "" if request.caller is None else client_of(request.caller)
        settings: dict[str, Any] = {"timeout": wanted.timeout, "caller": caller}
        if wanted.all:
            answers = self._pools.submit_to_all(wanted.service, wanted.args, **settings)
            return _mapped(answers)
        return self._pools.submit(wanted.service, wanted.args, on_progress=request.progress, **settings)

    async def tell(self) -> None:
        """Tell for ever, every so often and only if there is something to tell, who calls what through the board."""
        while True:
            await asyncio.sleep(TELL_EVERY)
            figures = self._pools.figures()
            if figures and self._link.connected:
                event = Event(t=time.time(), data={"services": figures})
                try:
                    topic = topics.event(self._link.site, BOARD, "heartbeat")
                    self._link.post(topic, event, expires_in=TELL_EVERY)
                except CallboardError as error:
                    _log.debug("nobody is told who calls: %s", error)


def _mapped(answers: Future[list[Answer]]) -> Future[JsonValue]:
    found: Future[JsonValue] = Future()

    def take(done: Future[list[Answer]]) -> None:
        if found.set_running_or_notify_cancel():
            found.set_result([told(answer) for answer in done.result()])

    answers.add_done_callback(take)
    return found
