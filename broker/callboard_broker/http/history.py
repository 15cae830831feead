"""History: the past of one thing, as JSON columns or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from callboard_broker.http.context import Reader, Use
from callboard_broker.http.fields import End, KindPath, NamePath, NodePath, Start
from callboard_broker.services.answers import Past
from callboard_broker.services.history import MOST_POINTS, Answer

__all__ = ["router"]

router = APIRouter(tags=["history"])


@router.get(
    "/history/{node}/{kind}/{name}",
    summary="A thing's past",
    response_model=Past,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def history(
    node: NodePath,
    kind: KindPath,
    name: NamePath,
    _person: Reader,
    use: Use,
    start: Start = None,
    end: End = None,
    points: Annotated[int, Query(ge=1, le=MOST_POINTS)] = 500,
    format: Literal["json", "csv"] = "json",  # noqa: A002 - the parameter's public name
) -> Past | Response:
    """Return at most ``points`` points between start (a day before end if missing) and end.

    Raw readings if they are few enough, else 1-minute or 1-hour figures, merged into wider buckets as needed.
    """
    thing = (node, kind.value, name)
    answer = use.history.ask(thing, start, end, points)
    if format == "json":
        return Past.of(thing, use.registry.unit(thing), answer)
    disposition = f'attachment; filename="{node}-{kind}-{name}.csv"'
    return Response(_csv(answer), media_type="text/csv", headers={"Content-Disposition": disposition})


def _csv(answer: Answer) -> str:
    if answer.texts and not answer.buckets:
        return _table(("t", "text", "count"), ((one.t / 1e6, one.text, one.n) for one in answer.texts))
    rows = ((b.t / 1e6, b.mean, b.low, b.high, b.n) for b in answer.buckets)
    return _table(("t", "mean", "min", "max", "count"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
