"""What the verbs of an admin have in common: one question to the person, and one request to the board."""

from __future__ import annotations

from typing import Any

import typer

from callboard_console.cli.board_http import open_board
from callboard_console.cli.context import Access

__all__ = ["ask", "confirm"]


def ask(access: Access, method: str, where: str, body: Any = None, **query: Any) -> Any:
    """Send one request as an admin; returns the answer's JSON, None if it has no body.

    Raises:
        CallboardError: as :class:`~callboard_console.cli.board_http.BoardApi` says.
    """
    with open_board(access, "admin") as api:
        return api.send(method, where, body, query)


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if the person agrees, or has said so (``yes``).

    Raises:
        typer.Abort: they do not.
    """
    if not yes:
        typer.confirm(question, abort=True, err=True)
