"""Parameters that several routes take."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from callboard_core.topics import Kind

__all__ = ["End", "KindPath", "NamePath", "NodePath", "Start"]

_ID = r"^[a-z0-9][a-z0-9-]{0,62}$"

NodePath = Annotated[str, Path(description="node id", pattern=_ID)]
KindPath = Annotated[Kind, Path(description="kind of the thing")]
NamePath = Annotated[str, Path(description="name of the thing", pattern=_ID)]
Start = Annotated[float | None, Query(description="Unix seconds, inclusive", allow_inf_nan=False)]
End = Annotated[
    float | None, Query(description="Unix seconds, exclusive; now if missing", allow_inf_nan=False)
]
