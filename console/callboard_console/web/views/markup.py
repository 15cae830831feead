"""Building HTML that cannot be injected into: everything that is not markup already is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import quote

__all__ = ["EMPTY", "Child", "Markup", "join", "node_link", "tag"]

_VOID = frozenset({"input", "br", "img", "hr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Markup | str | int | float | None | Iterable["Child"]

#: Nothing at all.
EMPTY = Markup()


def _render(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return escape(str(child))
    return "".join(_render(each) for each in child)


def join(*children: Child) -> Markup:
    """Put children one after the other."""
    return Markup(_render(children))


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """Return one element.

    Attribute names lose a trailing ``_`` (``class_``) and turn ``_`` into ``-`` (``data_act``); ``None`` and
    ``False`` leave the attribute out, ``True`` writes it without a value.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        spelled = key.rstrip("_").replace("_", "-")
        words.append(spelled if value is True else f'{spelled}="{escape(str(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if name in _VOID else f"{opening}{_render(children)}</{name}>")


def node_link(node: str, *children: Child, class_: str | None = None) -> Markup:
    """Return a link to a node's page; a plain click is handled without loading the page anew."""
    return tag(
        "a", *children, href=f"node?node={quote(node, safe='')}", data_act=f"node:{node}", class_=class_
    )
