"""Updates of nodes: manifests as they were signed, rollouts, and how each node fared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, func, insert, select

from callboard_broker.store.models import ManifestRow, RolloutRow, UpdateRow
from callboard_broker.store.upsert import upsert, upsert_all

__all__ = [
    "ManifestRecord",
    "RolloutRecord",
    "UpdateRecord",
    "add_manifest",
    "last_number",
    "manifest",
    "manifests",
    "of_node",
    "rollout",
    "rollouts",
    "save",
    "updates_of",
]


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """What was published. ``created`` is Unix seconds; ``manifest`` the text whose bytes are signed."""

    number: int
    kind: str
    version: str
    created: float
    by: str
    manifest: str
    signature: str


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """A manifest on its way to nodes; ``terms`` is JSON."""

    id: str
    number: int
    created: float
    by: str
    state: str
    reason: str
    terms: str


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """How one node fared; ``place`` is its place in the order, ``version`` the one that ran last. Times in Unix seconds."""

    rollout: str
    node: str
    place: int
    stage: str
    reason: str = ""
    version: str = ""
    started: float | None = None
    ended: float | None = None


def last_number(connection: Connection) -> int:
    """Return the number of the newest manifest; 0 if there is none."""
    return connection.execute(select(func.max(ManifestRow.number))).scalar() or 0


def add_manifest(connection: Connection, record: ManifestRecord) -> None:
    """Add a manifest."""
    connection.execute(insert(ManifestRow), [asdict(record)])


def manifest(connection: Connection, number: int) -> ManifestRecord | None:
    """Return one manifest."""
    query = select(ManifestRow.__table__).where(ManifestRow.number == number)
    found = connection.execute(query).mappings().first()
    return None if found is None else ManifestRecord(**found)


def manifests(connection: Connection, kind: str | None, limit: int | None = None) -> list[ManifestRecord]:
    """Return manifests of a kind, or all, newest first."""
    query = select(ManifestRow.__table__).order_by(ManifestRow.number.desc()).limit(limit)
    if kind is not None:
        query = query.where(ManifestRow.kind == kind)
    return [ManifestRecord(**row) for row in connection.execute(query).mappings()]


def rollouts(
    connection: Connection, *, states: Sequence[str] | None = None, limit: int = 100
) -> list[RolloutRecord]:
    """Return rollouts, newest first; only those in these states."""
    query = select(RolloutRow.__table__).order_by(RolloutRow.created.desc()).limit(limit)
    if states is not None:
        query = query.where(RolloutRow.state.in_(states))
    return [RolloutRecord(**row) for row in connection.execute(query).mappings()]


def rollout(connection: Connection, name: str) -> RolloutRecord | None:
    """Return one rollout."""
    query = select(RolloutRow.__table__).where(RolloutRow.id == name)
    found = connection.execute(query).mappings().first()
    return None if found is None else RolloutRecord(**found)


def updates_of(connection: Connection, name: str) -> list[UpdateRecord]:
    """Return the nodes of a rollout, in their order."""
    query = select(UpdateRow.__table__).where(UpdateRow.rollout == name).order_by(UpdateRow.place)
    return [UpdateRecord(**row) for row in connection.execute(query).mappings()]


def of_node(
    connection: Connection, node: str, limit: int
) -> list[tuple[UpdateRecord, RolloutRecord, ManifestRecord]]:
    """Return how a node fared, newest first."""
    query = (
        select(UpdateRow.rollout)
        .join(RolloutRow, RolloutRow.id == UpdateRow.rollout)
        .where(UpdateRow.node == node)
        .order_by(RolloutRow.created.desc())
        .limit(limit)
    )
    found = []
    for name in connection.execute(query).scalars().all():
        about = rollout(connection, name)
        one = next(one for one in updates_of(connection, name) if one.node == node)
        text = manifest(connection, about.number) if about is not None else None
        if about is not None and text is not None:
            found.append((one, about, text))
    return found


def save(connection: Connection, record: RolloutRecord, updates: Iterable[UpdateRecord]) -> None:
    """Insert or replace a rollout, and what changed for its nodes."""
    upsert(connection, RolloutRow, asdict(record))
    upsert_all(connection, UpdateRow, [asdict(one) for one in updates])
