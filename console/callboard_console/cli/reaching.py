"""The options of every verb that reaches a board, added to a function that takes ``access`` in their place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from callboard_console.cli import options
from callboard_console.cli.context import Access

__all__ = ["reaching"]

_SHARED: dict[str, Any] = {
    "state": options.State,
    "config": options.Config,
    "site": options.Site,
    "board": options.BoardUrl,
    "username": options.Username,
    "password_file": options.PasswordFile,
}


def reaching(verb: Callable[..., None]) -> Callable[..., None]:
    """Return the verb as the command line calls it: without ``access``, with the options it is made of."""
    hints = get_type_hints(verb, include_extras=True)
    own = [
        given.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, given in inspect.signature(verb).parameters.items()
        if name != "access"
    ]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _SHARED.items()
    ]

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        verb(access=Access(**{name: given.pop(name) for name in _SHARED}), **given)

    # Or the signature of the verb itself would be told instead of this one.
    del vars(run)["__wrapped__"]
    vars(run)["__signature__"] = inspect.Signature([*own, *shared])
    run.__annotations__ = {one.name: one.annotation for one in (*own, *shared)}
    return run
