"""The tables, as SQLAlchemy models. Migrations build them; a test proves that both say the same.

Times of readings are integer microseconds since 1970 (a float second would lose nothing either, but an integer
is the smaller key); everything else is in Unix seconds by the board's clock.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Double, Index, Integer, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "ApiTokenRow",
    "AuditRow",
    "Base",
    "CardRow",
    "Horizon",
    "Hour",
    "Late",
    "Minute",
    "NodeRow",
    "ReadingRow",
    "RefusedRow",
    "SeriesRow",
    "StatusRow",
    "TextRow",
    "TokenRow",
    "Unrolled",
    "Word",
]

#: Rows live in the primary key's own tree: no second copy of (series, t), which halves a reading's size.
_CLUSTERED = {"sqlite_with_rowid": False}


class Base(DeclarativeBase):
    """Holds the metadata."""


class NodeRow(Base):
    """What the board last knew of a node, so that it can answer before the broker does."""

    __tablename__ = "nodes"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    card: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str | None] = mapped_column(Text)
    epoch: Mapped[int | None] = mapped_column(BigInteger)
    since: Mapped[float] = mapped_column(Double)
    first_seen: Mapped[float] = mapped_column(Double)
    last_seen: Mapped[float | None] = mapped_column(Double)
    skew: Mapped[float | None] = mapped_column(Double)


class CardRow(Base):
    """One card of a thing, as the JSON that was retained."""

    __tablename__ = "cards"
    node: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    card: Mapped[str] = mapped_column(Text)
    since: Mapped[float] = mapped_column(Double)


class StatusRow(Base):
    """One change of a node's liveness, by the board's clock."""

    __tablename__ = "statuses"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    node: Mapped[str] = mapped_column(Text)
    t: Mapped[float] = mapped_column(Double)
    status: Mapped[str] = mapped_column(Text)
    epoch: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (Index("statuses_by_node", "node", "t"),)


class SeriesRow(Base):
    """The short number that stands for a thing in every reading."""

    __tablename__ = "series"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    node: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    __table_args__ = (UniqueConstraint("node", "kind", "name", name="series_thing"),)


class _Point:
    series: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    t: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class ReadingRow(_Point, Base):
    """A number (or a boolean as 0 or 1) as it was measured."""

    __tablename__ = "readings"
    value: Mapped[float] = mapped_column(Double)
    __table_args__ = _CLUSTERED


class Late(_Point, Base):
    """Readings older than the raw data that is kept; they wait here to be merged into the roll-ups."""

    __tablename__ = "late"
    value: Mapped[float] = mapped_column(Double)
    __table_args__ = _CLUSTERED


class _Rollup(_Point):
    low: Mapped[float] = mapped_column(Double)
    mean: Mapped[float] = mapped_column(Double)
    high: Mapped[float] = mapped_column(Double)
    n: Mapped[int] = mapped_column(BigInteger)


class Minute(_Rollup, Base):
    """All readings of one minute; ``t`` is its beginning."""

    __tablename__ = "minutes"
    __table_args__ = _CLUSTERED


class Hour(_Rollup, Base):
    """All readings of one hour; ``t`` is its beginning."""

    __tablename__ = "hours"
    __table_args__ = _CLUSTERED


class Unrolled(_Point, Base):
    """Minutes that got readings since they were last rolled up."""

    __tablename__ = "unrolled"
    __table_args__ = _CLUSTERED


class Word(Base):
    """A text that some reading had as its value; kept once."""

    __tablename__ = "words"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    text: Mapped[str] = mapped_column(Text, unique=True)


class TextRow(_Point, Base):
    """A text or enum reading."""

    __tablename__ = "texts"
    word: Mapped[int] = mapped_column(Integer)
    __table_args__ = _CLUSTERED


class Horizon(Base):
    """Up to when (exclusive) the data of a level has been thinned away; never moves back."""

    __tablename__ = "horizons"
    level: Mapped[str] = mapped_column(Text, primary_key=True)
    until: Mapped[int] = mapped_column(BigInteger)


class RefusedRow(Base):
    """A message that was refused; the ids count them, so the last one is the total."""

    __tablename__ = "refused"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    t: Mapped[float] = mapped_column(Double)
    topic: Mapped[str] = mapped_column(Text)
    node: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)


class TokenRow(Base):
    """A login that has not ended. Only the SHA-256 of the token is kept."""

    __tablename__ = "tokens"
    digest: Mapped[str] = mapped_column(Text, primary_key=True)
    username: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    expires: Mapped[float] = mapped_column(Double)
    mark: Mapped[str] = mapped_column(Text, server_default="")


class ApiTokenRow(Base):
    """A token for programs. Only its SHA-256 is kept."""

    __tablename__ = "api_tokens"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text, unique=True)
    username: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Double)
    expires: Mapped[float | None] = mapped_column(Double)
    used: Mapped[float | None] = mapped_column(Double)


class AuditRow(Base):
    """Something that somebody did, or tried to."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    t: Mapped[float] = mapped_column(Double)
    who: Mapped[str] = mapped_column(Text)
    origin: Mapped[str] = mapped_column(Text)
    what: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    result: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    count: Mapped[int] = mapped_column(Integer)
    __table_args__ = (Index("audit_by_time", "t"), Index("audit_by_who", "who", "id"))


class ManifestRow(Base):
    """What was published for nodes: a release, a configuration or files, as it was signed."""

    __tablename__ = "update_manifests"
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Double)
    by: Mapped[str] = mapped_column(Text)
    manifest: Mapped[str] = mapped_column(Text)
    signature: Mapped[str] = mapped_column(Text)


class RolloutRow(Base):
    """A manifest on its way to nodes."""

    __tablename__ = "update_rollouts"
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[float] = mapped_column(Double)
    by: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    terms: Mapped[str] = mapped_column(Text)


class UpdateRow(Base):
    """How one node fared with one rollout."""

    __tablename__ = "updates"
    rollout: Mapped[str] = mapped_column(Text, primary_key=True)
    node: Mapped[str] = mapped_column(Text, primary_key=True)
    place: Mapped[int] = mapped_column(Integer)
    stage: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    started: Mapped[float | None] = mapped_column(Double)
    ended: Mapped[float | None] = mapped_column(Double)
    __table_args__ = (Index("updates_by_node", "node"),)


class JoinRow(Base):
    """A join code. Only the SHA-256 of its token is kept."""

    __tablename__ = "joins"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text, unique=True)
    uses: Mapped[int] = mapped_column(Integer)
    used: Mapped[int] = mapped_column(Integer)
    node: Mapped[str | None] = mapped_column(Text)
    ask: Mapped[bool] = mapped_column(Boolean)
    made: Mapped[float] = mapped_column(Double)
    expires: Mapped[float] = mapped_column(Double)
    by: Mapped[str] = mapped_column(Text)


class EnrolmentRow(Base):
    """A machine that asked to be let in, and what became of it; ``authority`` signed its certificate."""

    __tablename__ = "enrolments"
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    node: Mapped[str] = mapped_column(Text, index=True)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    label: Mapped[str | None] = mapped_column(Text)
    host: Mapped[str | None] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    csr: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(Text)
    ticket: Mapped[str] = mapped_column(Text, unique=True)
    asked: Mapped[float] = mapped_column(Double)
    decided: Mapped[float | None] = mapped_column(Double)
    by: Mapped[str | None] = mapped_column(Text)
    authority: Mapped[str | None] = mapped_column(Text)
