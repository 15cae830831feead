"""A live region: markup made by the views, put into the page without flicker, and the clicks in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.views.markup import Markup

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

__all__ = ["leave", "live"]

# The script itself is one file of ours that browsers keep; only this loader travels with the component.
_LOADER = """
export default function (component) {
  import(new URL("assets/live.js", document.baseURI).href).then((live) => live.update(component));
}
"""

_mount: ComponentRenderer = st.components.v2.component(
    "callboard_live", html='<div class="cb-live"></div>', js=_LOADER, isolate_styles=False
)


def _nothing() -> None:
    """A trigger needs a callback to be part of the result."""


def live(markup: Markup, *, key: str, on_act: Callable[[], None] = _nothing) -> str | None:
    """Show markup; return what was clicked in it (its ``data-act``) in the run that the click caused.

    A page that was opened while logged in keeps its connection: whoever is not logged in any more is sent
    away here, and sees nothing.
    """
    if runtime.session() is None:
        leave()
        st.stop()
    result = _mount(key=key, data={"html": str(markup)}, on_act_change=on_act)
    act = result.act
    return act if isinstance(act, str) else None


def leave() -> None:
    """Send the browser to the login page."""
    _mount(key="leave", data={"html": "", "leave": True}, on_act_change=_nothing)
