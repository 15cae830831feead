"""What tasks work with and what they leave: inputs, results of earlier steps, and keeping both while a job needs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Protocol

from callboard_broker.services.farm.model import Attempt, Job, Step
from callboard_broker.store import farm as store
from callboard_broker.store.database import Database
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import BadRequest, CallboardError, NotFound
from callboard_core.farm.messages import PERSISTENT, Assignment, AttemptEvent, Input
from callboard_core.settings import Farm as Settings

__all__ = ["Files", "Store", "owner_of"]

#: Inputs that travel in the message; more are told by an artifact.
_INLINE = 500
#: Engines whose frames need no file: they only pretend.
_WITHOUT_FILES = frozenset({"simulated", "simulated" + PERSISTENT})
_JSON = "application/json"


class Store(Protocol):
    """What is needed of the board's artifacts."""

    def has(self, sha256: str) -> bool:
        """Tell whether a content is here."""

    def put(self, data: bytes, *, type: str) -> ArtifactRef:  # noqa: A002 - the field's name
        """Store a content."""

    def pin(self, owner: str, sha256s: Iterable[str]) -> None:
        """Keep contents."""

    def unpin(self, owner: str) -> None:
        """Forget what an owner needed."""

    def remove(self, sha256: str) -> None:
        """Remove a content nobody needs."""


def owner_of(job: Job, what: str = "results") -> str:
    """Return under whose name a job's inputs or results are kept."""
    return f"job-{job.id}-{what}"


class Files:
    """On the farm's thread only.

    Args:
        settings: for time-outs and path variables.
        artifacts: the board's; None keeps nothing.
        database: for the results of earlier steps.
    """

    def __init__(self, settings: Callable[[], Settings], artifacts: Store | None, database: Database) -> None:
        self._settings = settings
        self._artifacts = artifacts
        self._database = database
        self._manifests: dict[tuple[int, int], tuple[int, ArtifactRef]] = {}

    # -- inputs ---------------------------------------------------------------------------------------------

    def check_inputs(self, inputs: Iterable[Input]) -> None:
        """Check that what a job is to work with is here.

        Raises:
            BadRequest: it is not; upload it first.
        """
        for one in inputs:
            if one.artifact is not None and not self._has(one.artifact):
                raise BadRequest(
                    f"inputs: artifact {one.artifact.sha256} ({one.name}) is not here; upload it first"
                )

    def keep_inputs(self, job: Job, inputs: Iterable[Input]) -> None:
        """Keep what a job works with for as long as it is there."""
        if self._artifacts is not None:
            found = {one.artifact.sha256 for one in inputs if one.artifact is not None}
            self._artifacts.pin(owner_of(job, "inputs"), sorted(found))

    def assignment(self, attempt: Attempt) -> Assignment:
        """Return what a slot is told.

        Raises:
            CallboardError: what it needs is not there.
        """
        step, settings = attempt.step, self._settings()
        spec, request = step.spec, step.job.request
        inputs, manifest = self._inputs(step)
        numbers = [] if step.single else [step.number_of(index) for index in attempt.indexes]
        return Assignment(
            attempt=attempt.id,
            job=str(step.job.id),
            task=attempt.task_id,
            engine=spec.engine,
            work=spec.work,
            frames=numbers,
            inputs=inputs,
            manifest=manifest,
            main=spec.main or _main(request.main, inputs),
            output=spec.output,
            args=spec.args,
            variables=settings.variables,
            priority=step.job.ticket.priority,
            lease=settings.lease,
            frame_timeout=spec.frame_timeout or settings.frame_timeout or None,
            start_timeout=spec.start_timeout or settings.start_timeout or None,
            log_limit=settings.log_kb * 1024,
        )

    def _inputs(self, step: Step) -> tuple[list[Input], ArtifactRef | None]:
        named = step.spec.inputs
        own = list(step.job.request.inputs if named is None else named)
        if not step.spec.inputs_from:
            return own, None
        made = [one for name in step.spec.inputs_from for one in self.made(step.job.by_name[name])]
        if len(own) + len(made) <= _INLINE:
            return own + made, None
        return own, self._manifest(step, made)

    def _manifest(self, step: Step, made: list[Input]) -> ArtifactRef:
        if self._artifacts is None:
            raise NotFound("the board keeps no artifacts, so that it cannot list so many inputs")
        listed = [one.model_dump(mode="json", exclude_none=True) for one in made]
        ref = self._artifacts.put(json.dumps(listed).encode(), type=_JSON)
        self._artifacts.pin(owner_of(step.job), [ref.sha256])
        return ref

    # -- results --------------------------------------------------------------------------------------------

    def check(self, attempt: Attempt, event: AttemptEvent) -> None:
        """Check that the file of a frame is here.

        Raises:
            BadRequest: it is not, or it should be and is not named.
        """
        if event.what != "frame":
            return
        spec = attempt.step.spec
        if event.artifact is not None:
            if not self._has(event.artifact):
                raise BadRequest(f"artifact {event.artifact.sha256} is not here; upload it first")
        elif spec.engine not in _WITHOUT_FILES and spec.output is not None and spec.output.folder is None:
            raise BadRequest("artifact: missing; a frame is done when the board has its file")

    def keep(self, attempt: Attempt, frame: int, event: AttemptEvent) -> None:
        """Keep what became of a frame for as long as its job is there."""
        if event.artifact is None:
            return
        refs = [event.artifact, *([event.thumbnail] if event.thumbnail else [])]
        if self._artifacts is not None:
            self._artifacts.pin(owner_of(attempt.job), [ref.sha256 for ref in refs])
        if attempt.step.feeds:
            attempt.step.made[frame] = Input(
                name=event.name or file_name(attempt.step, frame), artifact=event.artifact
            )

    def drop(self, job: Job, *, remove: bool) -> Callable[[], None]:
        """Return what lets go of everything a job needed, to be called once the job is gone.

        Args:
            job: it is still stored.
            remove: also what it made goes, unless another job has the same.
        """
        artifacts = self._artifacts
        if artifacts is None:
            return lambda: None
        made: list[ArtifactRef] = []
        if remove:
            with self._database.read() as connection:
                made = [ref for row in store.results(connection, job.id) for ref in refs_of(row)]

        def let_go() -> None:
            for what in ("inputs", "results"):
                artifacts.unpin(owner_of(job, what))
            for ref in made:
                with suppress(CallboardError):  # somebody else needs it, or it is gone already
                    artifacts.remove(ref.sha256)

        return let_go

    def made(self, step: Step) -> list[Input]:
        """Return what a step has made, in the order of its frames."""
        if not step.made_known:
            with self._database.read() as connection:
                rows = list(store.results(connection, step.job.id, step.number))
            stored = {row.frame: found for row in rows if (found := input_of(step, row)) is not None}
            step.made = stored | step.made
            step.made_known = True
        return [step.made[frame] for frame in sorted(step.made)]

    def _has(self, ref: ArtifactRef) -> bool:
        return self._artifacts is None or self._artifacts.has(ref.sha256)


def _main(wanted: str | None, inputs: list[Input]) -> str | None:
    names = [one.name for one in inputs]
    return wanted if wanted in names else next(iter(names), None)


def input_of(step: Step, row: object) -> Input | None:
    """Return a stored result as a further step's input; None if it has no file."""
    found = result_ref(row)
    if found is None:
        return None
    name, ref = found
    return Input(name=name or file_name(step, row.frame), artifact=ref)  # type: ignore[attr-defined]


def result_ref(row: object) -> tuple[str | None, ArtifactRef] | None:
    """Return the file of a stored result and its name."""
    text = row.artifact  # type: ignore[attr-defined]
    if text is None:
        return None
    document = json.loads(text)
    return document.get("name"), ArtifactRef.model_validate(document)


def refs_of(row: object) -> Iterator[ArtifactRef]:
    """Yield what a stored result refers to."""
    found = result_ref(row)
    if found is not None:
        yield found[1]
    if row.thumbnail is not None:  # type: ignore[attr-defined]
        yield ArtifactRef.model_validate_json(row.thumbnail)  # type: ignore[attr-defined]


def file_name(step: Step, frame: int) -> str:
    """Return how a frame's file is called: the output's pattern with the frame's number for its ``#``."""
    output = step.spec.output
    pattern = output.pattern if output is not None else f"{step.spec.name}-####"
    digits = pattern.count("#")
    if not digits:
        return pattern if step.single else f"{frame:04d}-{pattern}"
    head, _, tail = pattern.partition("#" * digits)
    return f"{head}{frame:0{digits}d}{tail}"
