"""How a thing's past looks on every face: MQTT and HTTP."""

from __future__ import annotations

from pydantic import BaseModel, Field

from callboard_broker.services.history import Answer
from callboard_broker.store.rollups import Level

__all__ = ["Past"]


class Past(BaseModel):
    """A thing's past in columns. Each point stands for ``count`` readings from ``t`` on.

    A thing with texts has them in ``texts``: each with its time, and how many readings it stands for.
    """

    node: str
    kind: str
    name: str
    unit: str | None
    resolution: Level = Field(description="the finest data that was used")
    t: list[float] = Field(description="Unix seconds by the board's clock")
    mean: list[float]
    min: list[float]
    max: list[float]
    count: list[int]
    texts: list[tuple[float, str, int]] = Field(description="time, text, readings")

    @classmethod
    def of(cls, thing: tuple[str, str, str], unit: str | None, answer: Answer) -> Past:
        """Turn an answer into columns."""
        node, kind, name = thing
        found = answer.buckets
        return cls(
            node=node,
            kind=kind,
            name=name,
            unit=unit,
            resolution=answer.resolution,
            t=[bucket.t / 1e6 for bucket in found],
            mean=[bucket.mean for bucket in found],
            min=[bucket.low for bucket in found],
            max=[bucket.high for bucket in found],
            count=[bucket.n for bucket in found],
            texts=[(one.t / 1e6, one.text, one.n) for one in answer.texts],
        )
