"""The People page: who may log in, with which role, and the tokens of programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from callboard_console.web.views import parts, words
from callboard_console.web.views.markup import Markup, join, tag

__all__ = ["LASTING", "roles", "rule", "tokens", "users"]

#: How long a token may be good for: what people read, and seconds.
LASTING: dict[str, float | None] = {
    "1 day": 86_400.0,
    "30 days": 30 * 86_400.0,
    "90 days": 90 * 86_400.0,
    "1 year": 365 * 86_400.0,
    "until removed": None,
}
#: Users that Callboard itself makes; the board's own cannot be changed at all.
_BUILT_IN = frozenset({"viewer", "operator", "node", "board", "admin"})
_BOARD = "board"


def users(found: Sequence[Mapping[str, Any]], *, me: str) -> Markup:
    """Return the table of users with what to click."""
    rows = [_user(one, me=me) for one in found]
    head = tag("tr", *(tag("th", name) for name in ("", "User", "Role", "HTTP", "Client id", "")))
    return tag(
        "section",
        tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table cb-people"),
        tag("footer", words.count(len(found), "user"), class_="cb-pager"),
    )


def _user(one: Mapping[str, Any], *, me: str) -> Markup:
    name, disabled = str(one["name"]), bool(one["disabled"])
    tone, word = ("idle", "disabled") if disabled else ("ok", "enabled")
    hints = [hint for hint, holds in (("you", name == me), ("built in", name in _BUILT_IN)) if holds]
    if one["certificate"]:
        hints.append("client certificate")
    return tag(
        "tr",
        tag("td", tag("span", word, class_=f"cb-status cb-{tone}")),
        tag("td", name, tag("small", ", ".join(hints) or None)),
        tag("td", str(one["role"])),
        tag("td", " ".join(one["rights"]) or words.UNKNOWN),
        tag("td", str(one["client_id"]) or "any"),
        tag("td", *_user_acts(name, disabled=disabled), class_="cb-acts"),
        data_key=name,
    )


def _user_acts(name: str, *, disabled: bool) -> Iterable[Markup]:
    if name == _BOARD:
        return
    yield _act(f"password:{name}", "New password")
    if name not in _BUILT_IN:
        yield _act(f"role:{name}", "Role")
    yield _act(f"enable:{name}", "Enable") if disabled else _act(f"disable:{name}", "Disable", danger=True)
    if name not in _BUILT_IN:
        yield _act(f"remove:{name}", "Remove", danger=True)


def roles(found: Iterable[Mapping[str, Any]]) -> Markup:
    """Return the table of roles with what to click."""
    rows = [_role(one) for one in found]
    head = tag("tr", *(tag("th", name) for name in ("Role", "Publishes to", "Receives", "HTTP", "")))
    return tag("section", tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table cb-people"))


def _role(one: Mapping[str, Any]) -> Markup:
    name = str(one["name"])
    note = "built in" if one["built_in"] else str(one["note"])
    acts = (
        None
        if one["built_in"]
        else join(_act(f"edit:{name}", "Change"), _act(f"drop:{name}", "Remove", danger=True))
    )
    return tag(
        "tr",
        tag("td", name, tag("small", note or None)),
        tag(
            "td",
            _patterns(one["publish"]),
            *(tag("small", "never ", tag("code", each)) for each in one["never"]),
        ),
        tag("td", _patterns(one["subscribe"])),
        tag("td", " ".join(one["http"]) or words.UNKNOWN),
        tag("td", acts, class_="cb-acts"),
        data_key=name,
    )


def _patterns(found: Iterable[str]) -> Markup:
    return join(*(tag("div", tag("code", each)) for each in found))


def tokens(found: Sequence[Mapping[str, Any]], now: float) -> Markup:
    """Return the table of API tokens with what to click."""
    if not found:
        return parts.empty(
            "There are no tokens.", "A program that reads or steers over HTTP gets one of its own."
        )
    rows = [_token(one, now) for one in found]
    head = tag("tr", *(tag("th", name) for name in ("Token", "User", "May", "Ends", "Last used", "")))
    return tag("section", tag("table", tag("thead", head), tag("tbody", *rows), class_="cb-table cb-people"))


def _token(one: Mapping[str, Any], now: float) -> Markup:
    number, expires = str(one["id"]), one["expires"]
    if expires is None:
        ends = "when removed"
    else:
        ends = f"in {words.duration(expires - now)}" if expires > now else "has ended"
    return tag(
        "tr",
        tag("td", str(one["note"]) or words.UNKNOWN, tag("small", number)),
        tag("td", str(one["username"])),
        tag("td", " ".join(one["scope"])),
        tag("td", ends),
        tag("td", words.ago(one["used"], now) if one["used"] is not None else "never"),
        tag("td", _act(f"end:{number}", "Remove", danger=True), class_="cb-acts"),
        data_key=number,
    )


def _act(act: str, label: str, *, danger: bool = False) -> Markup:
    return tag("a", label, role="button", tabindex="0", data_act=act, class_="cb-no" if danger else "cb-yes")


def rule(*, publish: str, subscribe: str, never: str, http: Sequence[str], note: str) -> dict[str, Any]:
    """Return what is sent to the board for a role, from what was typed: one pattern a line."""
    return {
        "publish": _lines(publish),
        "subscribe": _lines(subscribe),
        "never": _lines(never),
        "http": list(http),
        "note": note.strip(),
    }


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
