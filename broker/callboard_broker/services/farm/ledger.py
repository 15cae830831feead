"""What has changed since the last transaction: noted where it changes, turned into rows once per batch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable

from callboard_broker.services.farm.model import Attempt, Job, Place, Slot, Step
from callboard_broker.store.farm import Changes
from callboard_core.farm.messages import AttemptEvent

__all__ = ["Ledger"]

#: Characters kept of why an attempt failed.
_LONGEST = 4000


class Ledger:
    """Belongs to the farm's thread."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._jobs: dict[int, Job] = {}
        self._steps: dict[tuple[int, int], Step] = {}
        self._attempts: dict[str, Attempt] = {}
        self._slots: dict[tuple[str, str], Slot] = {}

    def job(self, job: Job) -> None:
        """Note that a job has changed, but for its frames."""
        self._jobs[job.id] = job

    def frames(self, step: Step) -> None:
        """Note that frames of a step have changed."""
        self._steps[step.job.id, step.number] = step

    def attempt(self, attempt: Attempt) -> None:
        """Note that an attempt has changed."""
        self._attempts[attempt.id] = attempt

    def slot(self, slot: Slot) -> None:
        """Note that a slot has changed."""
        self._slots[slot.key] = slot
        self._changes.no_slots.discard(slot.key)

    def place(self, place: Place) -> None:
        """Note that a project, sequence or shot has changed."""
        self._changes.places[place.id] = place.row()

    def result(self, attempt: Attempt, frame: int, event: AttemptEvent, t: float) -> None:
        """Note what became of a frame."""
        key = (attempt.job.id, attempt.step.number, frame)
        width, height = event.size or (None, None)
        self._changes.results[key] = {
            "job": key[0],
            "step": key[1],
            "frame": frame,
            "attempt": attempt.id,
            "t": t,
            "seconds": event.seconds,
            "width": width,
            "height": height,
            "artifact": _named(event),
            "thumbnail": event.thumbnail.model_dump_json() if event.thumbnail else None,
        }

    def no_results(self, step: Step, frames: Iterable[int] | None) -> None:
        """Note that frames have no result any more; None: the whole step."""
        job, number = step.job.id, step.number
        results = self._changes.results
        if frames is None:
            self._changes.no_step_results.add((job, number))
            self._changes.results = {k: row for k, row in results.items() if k[:2] != (job, number)}
            return
        for frame in frames:
            results.pop((job, number, frame), None)
            self._changes.no_results.add((job, number, frame))

    def log(self, attempt: Attempt, lines: list[str]) -> None:
        """Note a further part of an attempt's log."""
        data = ("\n".join(lines) + "\n").encode("utf-8", "replace")
        self._changes.logs[attempt.id, attempt.parts] = {
            "job": attempt.job.id,
            "attempt": attempt.id,
            "part": attempt.parts,
            "lines": len(lines),
            "size": len(data),
            "data": zlib.compress(data, 6),
        }
        attempt.parts += 1
        attempt.logged += len(data)

    def setting(self, name: str, value: object) -> None:
        """Note a setting that was changed while the farm runs."""
        self._changes.settings[name] = {"name": name, "value": json.dumps(value)}

    def no_setting(self, name: str) -> None:
        """Note that a setting has its configured value again."""
        self._changes.settings.pop(name, None)
        self._changes.no_settings.add(name)

    def no_job(self, job: Job) -> None:
        """Note that a job is gone, with all that belongs to it."""
        self._jobs.pop(job.id, None)
        for key in [key for key in self._steps if key[0] == job.id]:
            del self._steps[key]
        for attempt_id in [one.id for one in self._attempts.values() if one.job is job]:
            del self._attempts[attempt_id]
        changes = self._changes
        changes.results = {key: row for key, row in changes.results.items() if key[0] != job.id}
        changes.logs = {key: row for key, row in changes.logs.items() if row["job"] != job.id}
        changes.no_jobs.add(job.id)

    def no_place(self, place: Place) -> None:
        """Note that a place is gone."""
        self._changes.places.pop(place.id, None)
        self._changes.no_places.add(place.id)

    def no_slot(self, slot: Slot) -> None:
        """Note that a slot is gone."""
        self._slots.pop(slot.key, None)
        self._changes.no_slots.add(slot.key)

    def collect(self) -> Changes:
        """Return the rows of everything that has changed, and begin anew."""
        changes, self._changes = self._changes, Changes()
        changes.jobs.update((job.id, job.row()) for job in self._jobs.values())
        changes.attempts.update((one.id, _attempt_row(one)) for one in self._attempts.values())
        changes.slots.update((slot.key, slot.row()) for slot in self._slots.values())
        for step in self._steps.values():
            _add_segments(changes, step)
        self._jobs, self._attempts, self._slots, self._steps = {}, {}, {}, {}
        return changes


def _add_segments(changes: Changes, step: Step) -> None:
    for number in step.strip.changed:
        changes.segments[step.job.id, step.number, number] = {
            "job": step.job.id,
            "step": step.number,
            "segment": number,
            "states": step.strip.segment(number),
        }
    step.strip.changed.clear()


def _named(event: AttemptEvent) -> str | None:
    """The artifact's reference with its file name, as JSON."""
    if event.artifact is None:
        return None
    return json.dumps({"name": event.name, **event.artifact.model_dump()}, separators=(",", ":"))


def _attempt_row(attempt: Attempt) -> dict[str, object]:
    return {
        "id": attempt.id,
        "job": attempt.job.id,
        "step": attempt.step.number,
        "task": attempt.task,
        "node": attempt.slot[0],
        "slot": attempt.slot[1],
        "frames": attempt.frames,
        "state": attempt.state.value,
        "seq": attempt.seq,
        "made": attempt.made,
        "started": attempt.started,
        "ended": attempt.ended,
        "fault": attempt.fault,
        "code": _clean(attempt.code),
        "message": _clean(attempt.message),
    }


def _clean(text: str | None) -> str | None:
    """What engines say may hold what no database takes."""
    if text is None:
        return None
    valid = text[:_LONGEST].encode("utf-8", "replace").decode()
    return valid.replace("\0", "\N{REPLACEMENT CHARACTER}")
