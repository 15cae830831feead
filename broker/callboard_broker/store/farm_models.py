"""The farm's tables, as SQLAlchemy models. Times are Unix seconds by the board's clock.

Frames are not rows: their states lie 1,024 to a segment, so that a million of them are read in a fraction of a second
and a change of one rewrites a kilobyte. What a finished frame became is a row of its own, read when somebody asks.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, Index, Integer, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from callboard_broker.store.models import Base

__all__ = [
    "AttemptRow",
    "Base",
    "JobRow",
    "LogRow",
    "PlaceRow",
    "ResultRow",
    "SegmentRow",
    "SettingRow",
    "SlotRow",
]

_CLUSTERED = {"sqlite_with_rowid": False}


class PlaceRow(Base):
    """A project, a sequence in it, or a shot: where jobs belong."""

    __tablename__ = "farm_places"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(Text)
    parent: Mapped[int | None] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(Text)
    document: Mapped[str] = mapped_column(Text)


class JobRow(Base):
    """One job: what was asked for (``spec``, never changed) and how it stands."""

    __tablename__ = "farm_jobs"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(Text)
    document: Mapped[str] = mapped_column(Text)
    spec: Mapped[str] = mapped_column(Text)


class SegmentRow(Base):
    """The states of up to 1,024 frames of one step, and how often each was tried: two bytes a frame."""

    __tablename__ = "farm_segments"
    job: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    segment: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    states: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = _CLUSTERED


class ResultRow(Base):
    """What became of a frame that is done."""

    __tablename__ = "farm_results"
    job: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    frame: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    attempt: Mapped[str] = mapped_column(Text)
    t: Mapped[float] = mapped_column(Double)
    seconds: Mapped[float | None] = mapped_column(Double)
    width: Mapped[int | None] = mapped_column(Integer)
    height: Mapped[int | None] = mapped_column(Integer)
    artifact: Mapped[str | None] = mapped_column(Text)
    thumbnail: Mapped[str | None] = mapped_column(Text)
    __table_args__ = _CLUSTERED


class AttemptRow(Base):
    """One assignment of a task to a slot; it lives while ``ended`` is null."""

    __tablename__ = "farm_attempts"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    job: Mapped[int] = mapped_column(Integer)
    step: Mapped[int] = mapped_column(Integer)
    task: Mapped[int] = mapped_column(Integer)
    node: Mapped[str] = mapped_column(Text)
    slot: Mapped[str] = mapped_column(Text)
    frames: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    seq: Mapped[int] = mapped_column(BigInteger)
    made: Mapped[float] = mapped_column(Double)
    started: Mapped[float | None] = mapped_column(Double)
    ended: Mapped[float | None] = mapped_column(Double)
    fault: Mapped[str | None] = mapped_column(Text)
    code: Mapped[str | None] = mapped_column(Text)
    message: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (Index("farm_attempts_by_job", "job"), Index("farm_attempts_by_end", "ended"))


class LogRow(Base):
    """A part of an attempt's log: ``lines`` lines, ``size`` bytes before zlib made them smaller."""

    __tablename__ = "farm_logs"
    job: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    attempt: Mapped[str] = mapped_column(Text, primary_key=True)
    part: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    lines: Mapped[int] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(Integer)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class SlotRow(Base):
    """A slot that has been seen, and what a person wants of it."""

    __tablename__ = "farm_slots"
    node: Mapped[str] = mapped_column(Text, primary_key=True)
    slot: Mapped[str] = mapped_column(Text, primary_key=True)
    card: Mapped[str] = mapped_column(Text)
    document: Mapped[str] = mapped_column(Text)


class SettingRow(Base):
    """A setting of the farm that was changed while it ran, as JSON."""

    __tablename__ = "farm_settings"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
