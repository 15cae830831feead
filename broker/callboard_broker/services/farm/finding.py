"""Finding jobs: by what they have in common, in an order people want. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, Field

from callboard_broker.services.farm.book import Book
from callboard_broker.services.farm.model import Job
from callboard_core.farm.states import FrameState, JobState

__all__ = ["JobFilter", "Sort", "choose", "name_of"]

#: In which order jobs are told.
Sort = Literal["newest", "oldest", "order", "name", "priority", "progress", "state", "owner"]


class JobFilter(BaseModel):
    """Which jobs are meant; what is missing does not matter."""

    model_config = {"extra": "forbid"}

    ids: list[str] | None = None
    state: list[JobState] | None = None
    type: str | None = None
    owner: str | None = None
    project: str | None = Field(default=None, description="its name")
    shot: str | None = Field(default=None, description="its name")
    tag: str | None = None
    text: str | None = Field(default=None, description="part of the name, note or id")

    @property
    def empty(self) -> bool:
        """True when it names every job."""
        return not self.model_dump(exclude_none=True)


def choose(book: Book, wanted: JobFilter, sort: Sort = "newest") -> list[Job]:
    """Return the jobs that are meant.

    Raises:
        NotFound: one of the ids is no job's.
    """
    jobs = book.jobs.values() if wanted.ids is None else [book.job(one) for one in wanted.ids]
    found = [job for job in jobs if _matches(book, job, wanted)]
    key, descending = _SORTS[sort]
    return sorted(found, key=key, reverse=descending)


def _matches(book: Book, job: Job, wanted: JobFilter) -> bool:
    ticket = job.ticket
    return (
        (wanted.state is None or job.state in wanted.state)
        and wanted.type in {None, ticket.type}
        and wanted.owner in {None, ticket.owner}
        and wanted.project in {None, name_of(book, ticket.project)}
        and wanted.shot in {None, name_of(book, ticket.shot)}
        and (wanted.tag is None or wanted.tag in ticket.tags)
        and (
            wanted.text is None
            or wanted.text.casefold() in f"{job.id}\n{ticket.name}\n{ticket.note}".casefold()
        )
    )


_SORTS: dict[str, tuple[Callable[[Job], Any], bool]] = {
    "newest": (lambda job: job.id, True),
    "oldest": (lambda job: job.id, False),
    "order": (lambda job: (job.ticket.tier, -job.ticket.priority, job.order), False),
    "name": (lambda job: (job.ticket.name.casefold(), job.id), False),
    "priority": (lambda job: (job.ticket.priority, job.id), True),
    "progress": (lambda job: (job.count(FrameState.DONE) / max(1, job.frames), job.id), True),
    "state": (lambda job: (job.state.value, -job.id), False),
    "owner": (lambda job: (job.ticket.owner, -job.id), False),
}


def name_of(book: Book, place: int | None) -> str | None:
    """Return the name of a project, sequence or shot."""
    found = book.places.get(place) if place is not None else None
    return found.name if found else None
