"""Health and metrics, for supervisors and Prometheus."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from callboard_broker.http.context import Reader, Use

__all__ = ["router"]

router = APIRouter(tags=["health"])


class Wellbeing(BaseModel):
    """How the board is."""

    status: Literal["ok", "degraded"]
    reasons: list[str] = Field(description="what is wrong and what happens meanwhile; empty when all is well")


@router.get("/healthz", summary="Is all well?", responses={503: {"model": Wellbeing}})
async def healthz(use: Use, response: Response) -> Wellbeing:
    """Answer 200 when all is well, else 503 with the reasons. Needs no login."""
    reasons = use.health.reasons()
    if not reasons:
        return Wellbeing(status="ok", reasons=[])
    response.status_code = 503
    return Wellbeing(status="degraded", reasons=reasons)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics(_person: Reader, use: Use) -> Response:
    """Return the board's counters and the broker's ``$SYS`` values."""
    return Response(use.metrics.render(), media_type=CONTENT_TYPE_LATEST)
