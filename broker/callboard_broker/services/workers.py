"""What the board offers to every MQTT client: the workers ``forget`` and ``history``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from callboard_broker.services.answers import Past
from callboard_broker.services.forgetting import Forgetting
from callboard_broker.services.history import MOST_POINTS, History
from callboard_broker.services.registry import Registry
from callboard_core.callee import Callee, Request
from callboard_core.cards import WorkerCard
from callboard_core.messages import read_args
from callboard_core.presence import Presence
from callboard_core.topics import Kind

__all__ = ["Workers"]

Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ForgetArgs(_Args):
    """Which node."""

    node: Id


class Cleared(BaseModel):
    """What was done."""

    node: str
    cleared: int = Field(description="retained messages")


class HistoryArgs(_Args):
    """Which thing, and when."""

    node: Id
    kind: Kind
    name: Id
    start: float | None = Field(default=None, description="Unix seconds; a day before end if missing")
    end: float | None = Field(default=None, description="Unix seconds, exclusive; now if missing")
    points: int = Field(default=500, ge=1, le=MOST_POINTS)


class Workers:
    """Binds calls to services."""

    def __init__(self, forgetting: Forgetting, history: History, registry: Registry) -> None:
        self._forgetting = forgetting
        self._history = history
        self._registry = registry

    def offer(self, presence: Presence, callee: Callee) -> None:
        """Pin the cards and answer the calls."""
        callee.handle(Kind.WORKER, "forget", self.forget)
        callee.handle(Kind.WORKER, "history", self.history, concurrency=4)
        presence.pin(
            WorkerCard(
                name="forget",
                epoch=presence.epoch,
                label="Forget a node",
                description="Clears everything that is retained for an offline node; its history stays.",
                service="forget",
                idempotent=True,
                parameters=ForgetArgs.model_json_schema(),
                result=Cleared.model_json_schema(),
            )
        )
        presence.pin(
            WorkerCard(
                name="history",
                epoch=presence.epoch,
                label="The past of a thing",
                description="What a thing was between two times, in no more points than asked for.",
                service="history",
                concurrency=4,
                idempotent=True,
                parameters=HistoryArgs.model_json_schema(),
                result=Past.model_json_schema(),
            )
        )

    def forget(self, request: Request) -> JsonValue:
        """Forget a node."""
        args = read_args(ForgetArgs, request.args)
        cleared = Cleared(node=args.node, cleared=self._forgetting.forget(args.node))
        return cleared.model_dump(mode="json")

    def history(self, request: Request) -> JsonValue:
        """Return a thing's past."""
        args = read_args(HistoryArgs, request.args)
        thing = (args.node, args.kind.value, args.name)
        answer = self._history.ask(thing, args.start, args.end, args.points)
        return Past.of(thing, self._registry.unit(thing), answer).model_dump(mode="json")
