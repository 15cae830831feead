"""Answers what comes most often before the framework looks for its route, which takes longer than to answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from callboard_broker.http import artifacts, errors, services
from callboard_core.errors import CallboardError

__all__ = ["Shortcut"]


class Shortcut:
    """Answers calls of services and takes artifacts; passes everything else on."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        way = _way(scope) if scope["type"] == "http" else None
        if way is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        request = Request(scope, receive, send)
        try:
            response = await way(request)
        except ClientDisconnect:
            return
        except HTTPException as error:  # of the limit of the body
            response = await errors.http(request, error)
        except CallboardError as error:
            response = errors.answer(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is an answer
            response = await errors.unexpected(request, error)
        await response(scope, receive, send)


def _way(scope: Scope) -> Callable[[Request], Awaitable[Response]] | None:
    if scope["path"].startswith(services.PATH):
        return services.answer
    return artifacts.taker(scope)
