"""``callboard node --join``: this machine is let in by a board, before its node runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from callboard_core.errors import BadRequest, Conflict

if TYPE_CHECKING:
    from callboard_core.settings import Settings
    from callboard_core.trust import JoinCode
    from callboard_nodes.enrolment import Enrolment

__all__ = ["is_enrolled", "join_first", "site_joined"]


def is_enrolled(settings: Settings, *, any_node: bool) -> bool:
    """Tell whether the node needs no other credential: it has joined a board, or is about to.

    Args:
        settings: those in force.
        any_node: the node may be any whose state is in the usual place, not only ``node.id``.
    """
    if settings.node.join_file is not None and settings.node.join_file.exists():
        return True
    if any_node and any(settings.state.glob("nodes/*/enrolment")):
        return True
    return (settings.node.state / "enrolment").exists()


def site_joined(settings: Settings) -> str | None:
    """Return the site that the node has joined."""
    from callboard_nodes.enrolment import Store

    found = Store(settings.node.state).read()
    return None if found is None else found.record.site


def join_first(settings: Settings, text: str, *, site: str | None, leave: bool) -> Settings:
    """Join the board that a code names, unless this machine has; returns the settings with that board's site.

    Args:
        settings: those in force.
        text: the join code, or ``-`` to read it from standard input.
        site: the site that was asked for.
        leave: leave another board that was joined before.

    Raises:
        Conflict: another board was joined before, or the node runs already.
        CallboardError: the code is wrong, the board is not reached, or does not take it.
    """
    from callboard_core.trust import JoinCode
    from callboard_nodes.lock import StateLock

    code = JoinCode.parse(sys.stdin.read() if text == "-" else text)
    if site is not None and site != code.site:
        raise BadRequest(f"the join code is for site {code.site!r}, not {site!r}; leave --site out")
    lock = StateLock(settings.node.state, settings.node.id)
    try:
        _join(settings, code, leave)
    finally:
        lock.release()
    return settings.model_copy(update={"site": code.site})


def _join(settings: Settings, code: JoinCode, leave: bool) -> None:
    import socket

    from callboard_nodes.enrolment import Applicant, Joining, Store
    from callboard_nodes.locate import Locator

    store, mine = Store(settings.node.state), settings.node
    found = store.read()
    if found is not None and not _anew(found, code, leave):
        _say(f"{mine.id} has joined site {code.site} already; going on")
        return
    who = Applicant(mine.id, mine.label, socket.gethostname())
    Joining(code, who, store, search=Locator(settings).search, say=_say).run()
    _say(f"{mine.id} has joined site {code.site}")


def _anew(found: Enrolment, code: JoinCode, leave: bool) -> bool:
    """Tell whether to join although there is an enrolment: at another board, or one that has withdrawn it."""
    from callboard_core.trust import is_in_bundle
    from callboard_nodes.enrolment import is_withdrawn

    if is_in_bundle(found.bundle, code.authority):
        return leave or bool(is_withdrawn(found, code.addresses))
    what = f"this machine has joined another board, of site {found.record.site}"
    if leave:
        return True
    if not sys.stdin.isatty():
        raise Conflict(f"{what}; add --yes to leave it")
    typer.confirm(f"{what}. Leave it?", abort=True, err=True)
    return True


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
