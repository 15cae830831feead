"""States of slots, jobs, tasks and frames, and the tables that say what leads from one to the next. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from callboard_core.errors import Conflict

__all__ = [
    "FRAMES",
    "JOBS",
    "SLOTS",
    "TASKS",
    "FrameEvent",
    "FrameState",
    "JobEvent",
    "JobState",
    "SlotEvent",
    "SlotState",
    "TaskEvent",
    "TaskState",
    "may",
    "step",
]


class SlotState(StrEnum):
    """How a slot is, as its retained state tells."""

    IDLE = "idle"
    STARTING = "starting"
    RENDERING = "rendering"
    PAUSED = "paused"
    DRAINING = "draining"
    DISABLED = "disabled"
    ASLEEP = "asleep"
    ERROR = "error"


class SlotEvent(StrEnum):
    """What happens to a slot. ``ended`` is any end of an attempt: done, failed, cancelled or given back."""

    ASSIGN = "assign"
    STARTED = "started"
    ENDED = "ended"
    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"
    DISABLE = "disable"
    ENABLE = "enable"
    SLEEP = "sleep"
    WAKE = "wake"
    BROKE = "broke"
    MENDED = "mended"


class JobState(StrEnum):
    """How a job is. ``queued`` has nothing running, ``active`` has."""

    HELD = "held"
    QUEUED = "queued"
    ACTIVE = "active"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobEvent(StrEnum):
    """What happens to a job. ``idle``: its last running task has ended and more are waiting."""

    HOLD = "hold"
    RELEASE = "release"
    STARTED = "started"
    IDLE = "idle"
    PAUSE = "pause"
    RESUME = "resume"
    FINISHED = "finished"
    BROKE = "broke"
    CANCEL = "cancel"
    REQUEUE = "requeue"


class TaskState(StrEnum):
    """How a task is. ``waiting`` is for other tasks to be done, ``ready`` for a slot."""

    WAITING = "waiting"
    READY = "ready"
    ASSIGNED = "assigned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskEvent(StrEnum):
    """What happens to a task. ``released``: its attempt has ended without it and it may be tried again."""

    FREED = "freed"
    ASSIGN = "assign"
    STARTED = "started"
    RELEASED = "released"
    FINISHED = "finished"
    BROKE = "broke"
    CANCEL = "cancel"
    REQUEUE = "requeue"
    BLOCK = "block"


class FrameState(StrEnum):
    """How a frame is. It is done only when its file is kept by the board."""

    WAITING = "waiting"
    ASSIGNED = "assigned"
    RENDERING = "rendering"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FrameEvent(StrEnum):
    """What happens to a frame. ``released``: its attempt has ended without it and it may be tried again."""

    ASSIGN = "assign"
    STARTED = "started"
    RELEASED = "released"
    FINISHED = "finished"
    BROKE = "broke"
    CANCEL = "cancel"
    REQUEUE = "requeue"


_S, _O = SlotState, SlotEvent

#: A draining slot stays so while its process is stopped and continued; a disabled one is only enabled by a person.
SLOTS: Mapping[tuple[SlotState, SlotEvent], SlotState] = {
    (_S.IDLE, _O.ASSIGN): _S.STARTING,
    (_S.IDLE, _O.DRAIN): _S.DISABLED,
    (_S.IDLE, _O.DISABLE): _S.DISABLED,
    (_S.IDLE, _O.ENABLE): _S.IDLE,
    (_S.IDLE, _O.SLEEP): _S.ASLEEP,
    (_S.IDLE, _O.WAKE): _S.IDLE,
    (_S.IDLE, _O.BROKE): _S.ERROR,
    (_S.STARTING, _O.STARTED): _S.RENDERING,
    (_S.STARTING, _O.ENDED): _S.IDLE,
    (_S.STARTING, _O.PAUSE): _S.PAUSED,
    (_S.STARTING, _O.DRAIN): _S.DRAINING,
    (_S.STARTING, _O.DISABLE): _S.DISABLED,
    (_S.STARTING, _O.ENABLE): _S.STARTING,
    (_S.STARTING, _O.SLEEP): _S.ASLEEP,
    (_S.STARTING, _O.WAKE): _S.STARTING,
    (_S.STARTING, _O.BROKE): _S.ERROR,
    (_S.RENDERING, _O.ENDED): _S.IDLE,
    (_S.RENDERING, _O.PAUSE): _S.PAUSED,
    (_S.RENDERING, _O.RESUME): _S.RENDERING,
    (_S.RENDERING, _O.DRAIN): _S.DRAINING,
    (_S.RENDERING, _O.DISABLE): _S.DISABLED,
    (_S.RENDERING, _O.ENABLE): _S.RENDERING,
    (_S.RENDERING, _O.SLEEP): _S.ASLEEP,
    (_S.RENDERING, _O.WAKE): _S.RENDERING,
    (_S.RENDERING, _O.BROKE): _S.ERROR,
    (_S.PAUSED, _O.STARTED): _S.PAUSED,
    (_S.PAUSED, _O.ENDED): _S.IDLE,
    (_S.PAUSED, _O.PAUSE): _S.PAUSED,
    (_S.PAUSED, _O.RESUME): _S.RENDERING,
    (_S.PAUSED, _O.DRAIN): _S.DRAINING,
    (_S.PAUSED, _O.DISABLE): _S.DISABLED,
    (_S.PAUSED, _O.ENABLE): _S.PAUSED,
    (_S.PAUSED, _O.SLEEP): _S.ASLEEP,
    (_S.PAUSED, _O.WAKE): _S.PAUSED,
    (_S.PAUSED, _O.BROKE): _S.ERROR,
    (_S.DRAINING, _O.STARTED): _S.DRAINING,
    (_S.DRAINING, _O.ENDED): _S.DISABLED,
    (_S.DRAINING, _O.PAUSE): _S.DRAINING,
    (_S.DRAINING, _O.RESUME): _S.DRAINING,
    (_S.DRAINING, _O.DRAIN): _S.DRAINING,
    (_S.DRAINING, _O.DISABLE): _S.DISABLED,
    (_S.DRAINING, _O.ENABLE): _S.RENDERING,
    (_S.DRAINING, _O.SLEEP): _S.DISABLED,
    (_S.DRAINING, _O.WAKE): _S.DRAINING,
    (_S.DRAINING, _O.BROKE): _S.ERROR,
    (_S.DISABLED, _O.ENDED): _S.DISABLED,
    (_S.DISABLED, _O.DRAIN): _S.DISABLED,
    (_S.DISABLED, _O.DISABLE): _S.DISABLED,
    (_S.DISABLED, _O.ENABLE): _S.IDLE,
    (_S.DISABLED, _O.SLEEP): _S.DISABLED,
    (_S.DISABLED, _O.WAKE): _S.DISABLED,
    (_S.DISABLED, _O.BROKE): _S.DISABLED,
    (_S.DISABLED, _O.MENDED): _S.DISABLED,
    (_S.ASLEEP, _O.ENDED): _S.ASLEEP,
    (_S.ASLEEP, _O.DRAIN): _S.DISABLED,
    (_S.ASLEEP, _O.DISABLE): _S.DISABLED,
    (_S.ASLEEP, _O.ENABLE): _S.IDLE,
    (_S.ASLEEP, _O.SLEEP): _S.ASLEEP,
    (_S.ASLEEP, _O.WAKE): _S.IDLE,
    (_S.ASLEEP, _O.BROKE): _S.ERROR,
    (_S.ERROR, _O.ENDED): _S.ERROR,
    (_S.ERROR, _O.DRAIN): _S.DISABLED,
    (_S.ERROR, _O.DISABLE): _S.DISABLED,
    (_S.ERROR, _O.ENABLE): _S.IDLE,
    (_S.ERROR, _O.SLEEP): _S.ERROR,
    (_S.ERROR, _O.WAKE): _S.ERROR,
    (_S.ERROR, _O.BROKE): _S.ERROR,
    (_S.ERROR, _O.MENDED): _S.IDLE,
}

_J, _K = JobState, JobEvent

#: What is running when a job is paused may still finish it or break it.
JOBS: Mapping[tuple[JobState, JobEvent], JobState] = {
    (_J.HELD, _K.HOLD): _J.HELD,
    (_J.HELD, _K.RELEASE): _J.QUEUED,
    (_J.HELD, _K.CANCEL): _J.CANCELLED,
    (_J.QUEUED, _K.HOLD): _J.HELD,
    (_J.QUEUED, _K.RELEASE): _J.QUEUED,
    (_J.QUEUED, _K.STARTED): _J.ACTIVE,
    (_J.QUEUED, _K.PAUSE): _J.PAUSED,
    (_J.QUEUED, _K.RESUME): _J.QUEUED,
    (_J.QUEUED, _K.FINISHED): _J.DONE,
    (_J.QUEUED, _K.BROKE): _J.FAILED,
    (_J.QUEUED, _K.CANCEL): _J.CANCELLED,
    (_J.QUEUED, _K.REQUEUE): _J.QUEUED,
    (_J.ACTIVE, _K.STARTED): _J.ACTIVE,
    (_J.ACTIVE, _K.IDLE): _J.QUEUED,
    (_J.ACTIVE, _K.PAUSE): _J.PAUSED,
    (_J.ACTIVE, _K.RESUME): _J.ACTIVE,
    (_J.ACTIVE, _K.FINISHED): _J.DONE,
    (_J.ACTIVE, _K.BROKE): _J.FAILED,
    (_J.ACTIVE, _K.CANCEL): _J.CANCELLED,
    (_J.ACTIVE, _K.REQUEUE): _J.ACTIVE,
    (_J.PAUSED, _K.STARTED): _J.PAUSED,
    (_J.PAUSED, _K.IDLE): _J.PAUSED,
    (_J.PAUSED, _K.PAUSE): _J.PAUSED,
    (_J.PAUSED, _K.RESUME): _J.QUEUED,
    (_J.PAUSED, _K.FINISHED): _J.DONE,
    (_J.PAUSED, _K.BROKE): _J.FAILED,
    (_J.PAUSED, _K.CANCEL): _J.CANCELLED,
    (_J.PAUSED, _K.REQUEUE): _J.PAUSED,
    (_J.DONE, _K.REQUEUE): _J.QUEUED,
    (_J.FAILED, _K.CANCEL): _J.CANCELLED,
    (_J.FAILED, _K.REQUEUE): _J.QUEUED,
    (_J.CANCELLED, _K.CANCEL): _J.CANCELLED,
    (_J.CANCELLED, _K.REQUEUE): _J.QUEUED,
}

_T, _U = TaskState, TaskEvent

#: ``block`` puts a task back behind others that have to be done again.
TASKS: Mapping[tuple[TaskState, TaskEvent], TaskState] = {
    (_T.WAITING, _U.FREED): _T.READY,
    (_T.WAITING, _U.CANCEL): _T.CANCELLED,
    (_T.WAITING, _U.BROKE): _T.FAILED,
    (_T.WAITING, _U.BLOCK): _T.WAITING,
    (_T.WAITING, _U.REQUEUE): _T.WAITING,
    (_T.READY, _U.FREED): _T.READY,
    (_T.READY, _U.ASSIGN): _T.ASSIGNED,
    (_T.READY, _U.FINISHED): _T.DONE,
    (_T.READY, _U.BROKE): _T.FAILED,
    (_T.READY, _U.CANCEL): _T.CANCELLED,
    (_T.READY, _U.REQUEUE): _T.READY,
    (_T.READY, _U.BLOCK): _T.WAITING,
    (_T.ASSIGNED, _U.STARTED): _T.RUNNING,
    (_T.ASSIGNED, _U.RELEASED): _T.READY,
    (_T.ASSIGNED, _U.FINISHED): _T.DONE,
    (_T.ASSIGNED, _U.BROKE): _T.FAILED,
    (_T.ASSIGNED, _U.CANCEL): _T.CANCELLED,
    (_T.ASSIGNED, _U.BLOCK): _T.WAITING,
    (_T.RUNNING, _U.STARTED): _T.RUNNING,
    (_T.RUNNING, _U.RELEASED): _T.READY,
    (_T.RUNNING, _U.FINISHED): _T.DONE,
    (_T.RUNNING, _U.BROKE): _T.FAILED,
    (_T.RUNNING, _U.CANCEL): _T.CANCELLED,
    (_T.RUNNING, _U.BLOCK): _T.WAITING,
    (_T.DONE, _U.REQUEUE): _T.READY,
    (_T.DONE, _U.BLOCK): _T.WAITING,
    (_T.FAILED, _U.REQUEUE): _T.READY,
    (_T.FAILED, _U.CANCEL): _T.CANCELLED,
    (_T.FAILED, _U.BLOCK): _T.WAITING,
    (_T.CANCELLED, _U.CANCEL): _T.CANCELLED,
    (_T.CANCELLED, _U.REQUEUE): _T.READY,
    (_T.CANCELLED, _U.BLOCK): _T.WAITING,
}

_F, _V = FrameState, FrameEvent

FRAMES: Mapping[tuple[FrameState, FrameEvent], FrameState] = {
    (_F.WAITING, _V.ASSIGN): _F.ASSIGNED,
    (_F.WAITING, _V.BROKE): _F.FAILED,
    (_F.WAITING, _V.CANCEL): _F.CANCELLED,
    (_F.WAITING, _V.REQUEUE): _F.WAITING,
    (_F.ASSIGNED, _V.STARTED): _F.RENDERING,
    (_F.ASSIGNED, _V.RELEASED): _F.WAITING,
    (_F.ASSIGNED, _V.FINISHED): _F.DONE,
    (_F.ASSIGNED, _V.BROKE): _F.FAILED,
    (_F.ASSIGNED, _V.CANCEL): _F.CANCELLED,
    (_F.RENDERING, _V.STARTED): _F.RENDERING,
    (_F.RENDERING, _V.RELEASED): _F.WAITING,
    (_F.RENDERING, _V.FINISHED): _F.DONE,
    (_F.RENDERING, _V.BROKE): _F.FAILED,
    (_F.RENDERING, _V.CANCEL): _F.CANCELLED,
    (_F.DONE, _V.REQUEUE): _F.WAITING,
    (_F.FAILED, _V.REQUEUE): _F.WAITING,
    (_F.FAILED, _V.CANCEL): _F.CANCELLED,
    (_F.CANCELLED, _V.CANCEL): _F.CANCELLED,
    (_F.CANCELLED, _V.REQUEUE): _F.WAITING,
}

_State = TypeVar("_State", SlotState, JobState, TaskState, FrameState)
_Event = SlotEvent | JobEvent | TaskEvent | FrameEvent

# Members of different enums with the same text are equal, so each kind keeps a table of its own.
_TABLES: Mapping[type[StrEnum], tuple[str, type[StrEnum], Mapping[tuple[StrEnum, StrEnum], StrEnum]]] = {
    SlotState: ("slot", SlotEvent, SLOTS),  # type: ignore[dict-item]  # a mapping's keys are invariant
    JobState: ("job", JobEvent, JOBS),  # type: ignore[dict-item]
    TaskState: ("task", TaskEvent, TASKS),  # type: ignore[dict-item]
    FrameState: ("frame", FrameEvent, FRAMES),  # type: ignore[dict-item]
}


def step(state: _State, event: _Event) -> _State:
    """Return the state that ``event`` leads to.

    Raises:
        Conflict: nothing leads there from ``state``; the message says what would.
        TypeError: the event is of another kind of thing.
    """
    name, events, table = _TABLES[type(state)]
    if not isinstance(event, events):
        raise TypeError(f"{event!r} does not happen to a {name}")
    found = table.get((state, event))
    if found is None:
        possible = ", ".join(known for at, known in table if at is state)
        raise Conflict(f"a {name} that is {state} does not take {event.value!r}; it takes {possible}")
    return found  # type: ignore[return-value]  # the table of this kind holds nothing else


def may(state: _State, event: _Event) -> bool:
    """Tell whether :func:`step` would take ``event``."""
    return (state, event) in _TABLES[type(state)][2]
