"""Updates of nodes: publishing what is to go out, sending it, steering that, and how each node fared."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from callboard_broker.http.context import Commander, Reader, Use
from callboard_broker.http.fields import NodePath
from callboard_broker.services.updates import Draft, Terms, Update, Wish
from callboard_broker.store.updates import ManifestRecord
from callboard_core.messages import parse
from callboard_core.updates import Content, Manifest

__all__ = ["router"]

router = APIRouter(prefix="/updates", tags=["updates"])

Limit = Annotated[int, Query(ge=1, le=1000)]
UpdateId = Annotated[str, Path(pattern="^[0-9a-f]{8}$", description="of an update")]


class Published(BaseModel):
    """What was published. Times are Unix seconds."""

    number: int
    kind: str
    version: str
    created: float
    by: str
    note: str
    files: list[Content]
    nodes: list[str] = Field(description="only for these; for all if empty")

    @classmethod
    def of(cls, record: ManifestRecord) -> Published:
        """Describe it."""
        manifest = parse(Manifest, record.manifest)
        return cls(
            number=record.number,
            kind=record.kind,
            version=record.version,
            created=record.created,
            by=record.by,
            note=manifest.note,
            files=manifest.files,
            nodes=manifest.nodes,
        )


class Manifests(BaseModel):
    """What was published, newest first."""

    items: list[Published]


class NodeUpdate(BaseModel):
    """How a node stands or fared. Times are Unix seconds."""

    node: str
    stage: str = Field(
        description="waiting, sent, fetching, installing, trial, healthy, rolled-back, failed or cancelled"
    )
    progress: float | None = Field(default=None, description="of fetching, 0 to 1")
    reason: str
    version: str = Field(description="that ran when it last said something")
    started: float | None
    ended: float | None


class Rollout(BaseModel):
    """An update on its way to nodes."""

    id: str
    number: int
    kind: str
    version: str
    created: float
    by: str
    state: str = Field(description="running, paused, done or cancelled")
    reason: str
    terms: Terms
    nodes: list[NodeUpdate]

    @classmethod
    def of(cls, update: Update) -> Rollout:
        """Describe it."""
        return cls(
            id=update.id,
            number=update.manifest.number,
            kind=update.manifest.kind,
            version=update.manifest.version,
            created=update.created,
            by=update.by,
            state=update.phase,
            reason=update.reason,
            terms=update.terms,
            nodes=[
                NodeUpdate(
                    node=one.node,
                    stage=one.stage,
                    progress=update.progress.get(one.node) if one.stage == "fetching" else None,
                    reason=one.reason,
                    version=one.version,
                    started=one.started,
                    ended=one.ended,
                )
                for one in list(update.nodes.values())
            ],
        )


class Rollouts(BaseModel):
    """Updates, newest first."""

    items: list[Rollout]


class Past(BaseModel):
    """One update of a node. Times are Unix seconds."""

    id: str
    number: int
    kind: str
    version: str = Field(description="of the release, if it was one")
    by: str
    created: float
    stage: str
    reason: str
    running: str = Field(description="the version that ran when the node last said something")
    started: float | None
    ended: float | None


class NodeHistory(BaseModel):
    """The updates of a node, newest first."""

    items: list[Past]


class Steer(BaseModel):
    """What to do with an update."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["pause", "resume", "cancel"]


@router.get("/manifests", summary="What was published")
def manifests(
    _person: Reader, use: Use, kind: Literal["release", "config", "files"] | None = None, limit: Limit = 100
) -> Manifests:
    """Return what was published, newest first."""
    return Manifests(items=[Published.of(one) for one in use.updates.shelf.listing(kind, limit)])


@router.post("/manifests", status_code=201, summary="Publish something for nodes")
def publish(draft: Draft, person: Commander, use: Use) -> Published:
    """Sign a release, a configuration or files, whose content is in the artifacts already."""
    record = use.updates.shelf.publish(draft, person.username)
    use.audit.note("", "update.publish", f"{record.kind} {record.number}", detail=record.version)
    return Published.of(record)


@router.get("", summary="Updates")
def updates(_person: Reader, use: Use, limit: Limit = 20) -> Rollouts:
    """Return the latest updates and how their nodes stand."""
    return Rollouts(items=[Rollout.of(one) for one in use.updates.listing(limit)])


@router.post("", status_code=201, summary="Update nodes")
def begin(wish: Wish, person: Commander, use: Use) -> Rollout:
    """Send what was published to nodes: a share of them first, the others once those are well."""
    update = use.updates.begin(wish, person.username)
    use.audit.note("", "update.begin", update.id, detail=f"number {wish.number} to {len(update.nodes)} nodes")
    return Rollout.of(update)


@router.get("/nodes/{node}", summary="The updates of a node")
def of_node(node: NodePath, _person: Reader, use: Use, limit: Limit = 100) -> NodeHistory:
    """Return how a node fared, newest first."""
    return NodeHistory(
        items=[
            Past(
                id=rollout.id,
                number=rollout.number,
                kind=manifest.kind,
                version=manifest.version,
                by=rollout.by,
                created=rollout.created,
                stage=one.stage,
                reason=one.reason,
                running=one.version,
                started=one.started,
                ended=one.ended,
            )
            for one, rollout, manifest in use.updates.of_node(node, limit)
        ]
    )


@router.get("/{update}", summary="One update")
def one_update(update: UpdateId, _person: Reader, use: Use) -> Rollout:
    """Return one update and how its nodes stand."""
    return Rollout.of(use.updates.get(update))


@router.post("/{update}", summary="Pause, resume or cancel an update")
def steer(update: UpdateId, wanted: Steer, _person: Commander, use: Use) -> Rollout:
    """Nodes that are at it go on to their end; those that wait, wait on or are left out."""
    found = use.updates.steer(update, wanted.action)
    use.audit.note("", f"update.{wanted.action}", update)
    return Rollout.of(found)
