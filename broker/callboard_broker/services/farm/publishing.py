"""What the farm tells everybody over MQTT: the state of each job that lives, what happened, the last picture.

- ``{site}/board/state/job/{id}`` (retained): ``v`` is the job's state, ``data`` its report; at most twice a second and
  job, cleared some time after the job's end.
- ``{site}/board/event/job``: a job was submitted, began, ended, was deleted.
- ``{site}/board/stream/camera/last-rendered`` (retained): the last picture as a small JPEG, at most one a second, and
  ``{site}/board/state/camera/last-rendered`` says of what.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from callboard_broker.services.farm.core import Core
from callboard_broker.services.farm.model import Attempt, Job
from callboard_broker.services.farm.reports import report
from callboard_core import topics
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import CallboardError, Overloaded
from callboard_core.farm.messages import AttemptEvent
from callboard_core.farm.states import JobState
from callboard_core.link import Link
from callboard_core.messages import Event, Severity, State
from callboard_core.presence import Presence
from callboard_core.topics import BOARD, Kind

__all__ = ["LAST_RENDERED", "Pictures", "Publishing"]

_log = logging.getLogger(__name__)

#: Name of the camera that shows the last picture.
LAST_RENDERED = "last-rendered"
#: Bytes of a picture that is published, and seconds between two.
PICTURE_LIMIT = 64 * 1024
_PICTURE_EVERY = 1.0
_JPEG = b"\xff\xd8\xff"
_SEVERITIES = {JobState.FAILED.value: Severity.ERROR, JobState.CANCELLED.value: Severity.WARNING}


class Pictures(Protocol):
    """Where pictures are read."""

    @property
    def threads(self) -> Executor:
        """Threads that may wait for the disk."""

    def get(self, ref: ArtifactRef) -> bytes:
        """Return a content."""


class Publishing:
    """On the farm's thread, but for reading pictures."""

    def __init__(self, core: Core, link: Link, pictures: Pictures | None) -> None:
        self.last: dict[str, Any] | None = None
        self._core = core
        self._link = link
        self._pictures = pictures
        self._presence: Presence | None = None
        self._published: set[int] = set()
        self._waiting: set[int] = set()
        self._timer: Any = None
        self._picture: tuple[ArtifactRef, dict[str, Any]] | None = None
        self._picture_timer: Any = None

    def begin(self, presence: Presence) -> None:
        """Publish every job that lives; what else is retained of jobs is cleared when the board connects."""
        self._presence = presence
        for job in self._core.book.jobs.values():
            if not job.over:
                self._publish(job)
        self._core.changed.clear()

    def flush(self) -> None:
        """Publish what has changed: at once, but a job at most every ``farm.state_seconds``."""
        core = self._core
        for job, what in core.happened:
            core.desk.then(lambda job=job, what=what: self._tell(job, what))  # type: ignore[misc]
        core.happened.clear()
        self._waiting |= core.changed
        core.changed.clear()
        if self._waiting and self._timer is None and self._presence is not None:
            self._timer = core.desk.later(core.settings.state_seconds, self._again)
            self._publish_waiting()

    def _again(self) -> None:
        self._timer = None
        if self._waiting:
            self._timer = self._core.desk.later(self._core.settings.state_seconds, self._again)
            self._publish_waiting()

    def _publish_waiting(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for job_id in waiting:
            job = self._core.book.jobs.get(job_id)
            if job is None:
                self._core.desk.then(lambda job_id=job_id: self._clear(job_id))  # type: ignore[misc]
            else:
                self._publish(job)

    def _publish(self, job: Job) -> None:
        presence = self._presence
        if presence is None:
            return
        data = report(self._core.book, job).model_dump(mode="json", exclude_none=True)
        state = State(v=job.state.value, t=self._core.clock(), data=data)
        self._published.add(job.id)
        self._core.desk.then(lambda: _quietly(lambda: presence.state(Kind.JOB, str(job.id), state)))
        if job.over:
            self._core.desk.later(self._core.settings.state_keep, lambda: self._clear_over(job))

    def _clear_over(self, job: Job) -> None:
        if job.over:
            self._clear(job.id)

    def _clear(self, job_id: int) -> None:
        presence = self._presence
        if presence is not None and job_id in self._published:
            self._published.discard(job_id)
            _quietly(lambda: presence.unpin(Kind.JOB, str(job_id)))

    def _tell(self, job: Job, what: str) -> None:
        reason = f": {job.reason}" if job.reason else ""
        event = Event(
            t=self._core.clock(),
            severity=_SEVERITIES.get(what, Severity.INFO),
            message=f"job {job.id} ({job.ticket.name}) {what}{reason}"[:1000],
            data={"job": str(job.id), "what": what, "state": job.state.value, "owner": job.ticket.owner},
        )
        _quietly(
            lambda: self._link.post(topics.event(self._link.site, BOARD, "job"), event, qos=1, expires_in=60)
        )

    # -- pictures -------------------------------------------------------------------------------------------

    def rendered(self, attempt: Attempt, event: AttemptEvent) -> None:
        """Note a frame's picture; the newest one is shown."""
        core = self._core
        said = {
            "job": str(attempt.job.id),
            "name": attempt.job.ticket.name,
            "step": attempt.step.spec.name,
            "frame": event.frame,
            "node": attempt.slot[0],
            "slot": attempt.slot[1],
            "t": core.clock(),
        }
        refs = {"artifact": event.artifact, "thumbnail": event.thumbnail}
        self.last = said | {name: ref.model_dump() for name, ref in refs.items() if ref is not None}
        picture = event.thumbnail or event.artifact
        if picture is None or picture.size > PICTURE_LIMIT or self._pictures is None:
            return
        self._picture = (picture, said)
        if self._picture_timer is None:
            self._picture_timer = core.desk.later(_PICTURE_EVERY, self._show)

    def _show(self) -> None:
        self._picture_timer = None
        found, self._picture = self._picture, None
        if found is not None and self._pictures is not None:
            self._pictures.threads.submit(self._read_and_show, *found)

    def _read_and_show(self, ref: ArtifactRef, said: dict[str, Any]) -> None:
        try:
            data = self._pictures.get(ref) if self._pictures is not None else b""
        except CallboardError as error:
            _log.info("the last picture cannot be shown: %s", error.message)
            return
        if not data.startswith(_JPEG):
            return
        topic = topics.stream(self._link.site, BOARD, Kind.CAMERA, LAST_RENDERED)
        caption = f"{said['name']} {'' if said['frame'] is None else said['frame']}".strip()
        state = State(v=caption, t=said["t"], data=said)
        presence = self._presence
        if presence is not None:
            _quietly(lambda: self._link.publish(topic, data, qos=0, retain=True))
            _quietly(lambda: presence.state(Kind.CAMERA, LAST_RENDERED, state))


def _quietly(send: Callable[[], object]) -> None:
    """What cannot be told now is told with the next change."""
    try:
        send()
    except Overloaded as error:
        _log.info("the farm's state was not published: %s", error.message)
    except CallboardError as error:
        _log.debug("the farm's state was not published: %s", error.message)
