"""What the verbs of an admin have in common: one request to the board."""

from __future__ import annotations

from typing import Any

from callboard_console.cli.board_http import open_board
from callboard_console.cli.context import Access

__all__ = ["ask"]


def ask(access: Access, method: str, where: str, body: Any = None, **query: Any) -> Any:
    """Send one request as an admin; returns the answer's JSON, None if it has no body.

    Raises:
        CallboardError: as :class:`~callboard_console.cli.board_http.BoardApi` says.
    """
    with open_board(access, "admin") as api:
        return api.send(method, where, body, query)
