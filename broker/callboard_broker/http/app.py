"""Puts the routers together into one application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from callboard_broker.http import (
    artifacts,
    audit,
    calls,
    cards,
    enrolment,
    errors,
    events,
    farm,
    health,
    history,
    jobs,
    nodes,
    projects,
    refused,
    results,
    roles,
    services,
    session,
    tokens,
    trust,
    updates,
    users,
    values,
)
from callboard_broker.http.context import Services
from callboard_broker.http.limits import BodyLimit
from callboard_broker.http.openapi import with_services
from callboard_broker.http.shortcut import Shortcut
from callboard_core.messages import MESSAGE_LIMIT

__all__ = ["make_app"]

_ABOUT = """Everything on the board over HTTP: who is there, what is offered, what it shows, and calling it.

Send `Authorization: Bearer TOKEN` (from `POST /api/v1/session`) or HTTP Basic. Every error is
`{"error": {"code", "message"}}`.
"""
_NOUNS = (
    session,
    nodes,
    cards,
    values,
    history,
    refused,
    calls,
    services,
    artifacts,
    jobs,
    results,
    farm,
    projects,
    updates,
    events,
    users,
    roles,
    tokens,
    audit,
    enrolment,
    trust,
)


def make_app(use: Services) -> ASGIApp:
    """Return the application for these services."""
    # Its pages bring their scripts along: many boards have no way to the internet.
    app: FastAPI = FastAPIOffline(
        title="Callboard",
        version=use.version,
        description=_ABOUT,
        redirect_slashes=False,
        responses={"default": {"model": errors.ErrorAnswer, "description": "what went wrong"}},
    )
    app.state.services = use
    errors.install(app)
    for noun in _NOUNS:
        app.include_router(noun.router, prefix="/api/v1")
    app.include_router(health.router)
    app.openapi = _described(app, use)  # type: ignore[method-assign]  # the way FastAPI documents
    return _in_front(app, use)


def _in_front(app: FastAPI, use: Services) -> ASGIApp:
    """What every request passes, before the framework's own layers: these cost a tenth of a call."""
    noting = audit.Noting(Shortcut(app), use.audit)
    return BodyLimit(noting, limit=MESSAGE_LIMIT, streamed=artifacts.PATH)


def _described(app: FastAPI, use: Services) -> Callable[[], dict[str, Any]]:
    """The document with what is offered now."""
    original = _without_422(app)
    made: tuple[int, dict[str, Any]] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal made
        version = use.pools.version
        if made is None or made[0] != version:
            offered = [one for one in use.pools.services() if one.live]
            made = version, with_services(original(), offered)
        return made[1]

    return openapi


def _without_422(app: FastAPI) -> Any:
    """Bad parameters are ``bad_request`` (400) here, which the default response describes."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        schema = original()
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema.get("components", {}).get("schemas", {}).pop(name, None)
        return schema

    return openapi
