"""People: users, roles and API tokens; for those who may administer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.pages.shared import ask_next, ask_now, attempt, show_trouble
from callboard_console.web.sessions import Session
from callboard_console.web.views import people as view
from callboard_console.web.views.parts import heading
from callboard_console.web.views.words import plain
from callboard_core.errors import CallboardError

_USERS, _ROLES, _TOKENS = "Users", "Roles", "Tokens"
_RIGHTS = ["read", "command", "admin"]
#: The dialog to open at the page's next run, and a password or token to show this once.
_ASKED, _SECRET = "people_asked", "people_secret"


def _path(kind: str, name: str, *more: str) -> str:
    return "/".join(["/api/v1", kind, quote(name, safe=""), *more])


def _send(session: Session, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return session.api.post(path, body, method=method)


def _items(session: Session, kind: str) -> list[dict[str, Any]]:
    return list(session.api.get(f"/api/v1/{kind}")["items"])


def _keep_secret(what: str, secret: str | None) -> None:
    if secret:
        st.session_state[_SECRET] = (what, secret)


@st.dialog("Are you sure?")
def _confirm(question: str, label: str, work: Callable[[], object]) -> None:
    st.markdown(plain(question))
    go, back = st.columns(2)
    if go.button(label, type="primary", width="stretch", key="people_sure"):
        attempt(work)
        st.rerun()
    if back.button("Cancel", width="stretch", key="people_cancel"):
        st.rerun()


@st.dialog("New password")
def _password(session: Session, name: str) -> None:
    st.markdown(
        plain(f"All sessions and API tokens of {name} end. Leave the field empty to have a password made.")
    )
    given = st.text_input("Password", type="password", key="people_password")

    def change() -> None:
        body = {"password": given} if given else {}
        made = _send(session, "POST", _path("users", name, "password"), body)
        _keep_secret(f"the password of {name}", made["password"])

    if st.button("Set it", type="primary", key="people_set"):
        attempt(change)
        st.rerun()


@st.dialog("Role")
def _role(session: Session, name: str) -> None:
    known = [one["name"] for one in _items(session, "roles") if one["name"] != "board"]
    chosen = st.selectbox(plain(f"Role of {name}"), known, key="people_new_role")
    st.caption("Its sessions end, and it logs in anew.")
    if st.button("Give it", type="primary", key="people_give"):
        attempt(lambda: _send(session, "PATCH", _path("users", name), {"role": chosen}))
        st.rerun()


def _users(session: Session) -> None:
    with st.expander("Add a user"), st.form("people_add", clear_on_submit=True, border=False):
        left, middle, right = st.columns(3)
        name = left.text_input("Name", key="people_name")
        roles = [one["name"] for one in _items(session, "roles") if one["name"] != "board"]
        role = middle.selectbox("Role", roles, key="people_role")
        client = right.text_input(
            "MQTT client id (optional)", key="people_client", help="The only one its credential is good for"
        )
        if st.form_submit_button("Add", type="primary"):
            attempt(lambda: _add_user(session, name.strip(), str(role), client.strip()))
    _secret()
    show_trouble()
    act = live(view.users(_items(session, "users"), me=session.username), key="people_users")
    _ask(session, act)


def _add_user(session: Session, name: str, role: str, client: str) -> None:
    made = _send(session, "POST", "/api/v1/users", {"name": name, "role": role, "client_id": client})
    _keep_secret(f"the password of {name}", made["password"])


def _ask(session: Session, act: str | None) -> None:
    """Have the dialog opened that a click in a table stands for."""
    verb, _, name = (act or "").partition(":")
    change = partial(_send, session, "PATCH", _path("users", name))
    remove = partial(_send, session, "DELETE")
    dialogs: dict[str, Callable[[], None]] = {
        "password": lambda: _password(session, name),
        "role": lambda: _role(session, name),
        "disable": lambda: _confirm(
            f"Disable {name}? All its sessions and API tokens end.",
            "Disable",
            lambda: change({"disabled": True}),
        ),
        "remove": lambda: _confirm(
            f"Remove {name} with all its tokens? All its sessions end.",
            "Remove",
            lambda: remove(_path("users", name), {}),
        ),
        "drop": lambda: _confirm(
            f"Remove the role {name}?", "Remove", lambda: remove(_path("roles", name), {})
        ),
        "end": lambda: _confirm(
            f"Remove the token {name}? Programs that use it are refused.",
            "Remove",
            lambda: remove(_path("tokens", name), {}),
        ),
        "edit": lambda: _edit(session, name),
    }
    if verb == "enable":
        attempt(lambda: change({"disabled": False}))
        st.rerun()
    if verb in dialogs:
        ask_next(_ASKED, dialogs[verb])


@st.dialog("Role", width="large")
def _edit(session: Session, name: str) -> None:
    found = next((one for one in _items(session, "roles") if one["name"] == name), {})
    if not name:
        name = st.text_input("Name", key="role_name", placeholder="gardener").strip()
    st.caption(
        "One topic filter a line. {site}, {client} and {user} stand for site, client id and user name."
    )
    publish = st.text_area("May publish to", "\n".join(found.get("publish", [])), key="role_publish")
    never = st.text_area("But never to", "\n".join(found.get("never", [])), key="role_never")
    subscribe = st.text_area("May receive", "\n".join(found.get("subscribe", [])), key="role_subscribe")
    http = st.multiselect("Over HTTP", _RIGHTS, found.get("http", []), key="role_http")
    note = st.text_input("What it is for", found.get("note", ""), key="role_note")
    if st.button("Keep", type="primary", key="role_keep"):
        rule = view.rule(publish=publish, subscribe=subscribe, never=never, http=http, note=note)
        try:
            _send(session, "PUT", _path("roles", name), rule)
        except CallboardError as error:
            st.error(plain(error.message))
            return
        st.rerun()


def _roles(session: Session) -> None:
    if st.button("Add a role", key="role_add"):
        ask_next(_ASKED, lambda: _edit(session, ""))
    show_trouble()
    _ask(session, live(view.roles(_items(session, "roles")), key="people_roles"))


def _tokens(session: Session) -> None:
    with st.expander("Make a token"), st.form("people_token", clear_on_submit=True, border=False):
        left, middle, right = st.columns(3)
        names = [one["name"] for one in _items(session, "users") if one["rights"]]
        user = left.selectbox("User", names, key="token_user")
        scope = middle.multiselect("May", _RIGHTS, ["read"], key="token_scope")
        lasting = right.selectbox("Good for", list(view.LASTING), index=2, key="token_lasting")
        note = st.text_input("What it is for", key="token_note", placeholder="Grafana")
        if st.form_submit_button("Make it", type="primary"):
            attempt(lambda: _add_token(session, str(user), scope, view.LASTING[lasting], note))
    _secret()
    show_trouble()
    _ask(session, live(view.tokens(_items(session, "tokens"), time.time()), key="people_tokens"))


def _add_token(session: Session, user: str, scope: list[str], seconds: float | None, note: str) -> None:
    expires = None if seconds is None else time.time() + seconds
    body = {"username": user, "scope": scope, "expires": expires, "note": note.strip()}
    made = _send(session, "POST", "/api/v1/tokens", body)
    _keep_secret(f"the token of {user}", made["token"])


def _secret() -> None:
    """Show a password or token until it has been put away."""
    what, secret = st.session_state.get(_SECRET, ("", ""))
    if not secret:
        return
    with st.container(border=True):
        st.markdown(plain(f"This is {what}. It is shown this once."))
        st.code(secret, language=None)
        if st.button("I have put it away", key="people_done"):
            del st.session_state[_SECRET]
            st.rerun()


def _page() -> None:
    session = runtime.session()
    if session is None:
        return
    live(
        heading("People", "Who may use this board, and what each may do. Every change is in the audit log."),
        key="people_heading",
    )
    if not session.may_admin:
        st.info("Only an admin looks after people.")
        return
    parts = {_USERS: _users, _ROLES: _roles, _TOKENS: _tokens}
    chosen = st.segmented_control(
        "What", list(parts), default=_USERS, required=True, key="people_part", label_visibility="collapsed"
    )
    try:
        parts[str(chosen)](session)
    except CallboardError as error:
        st.error(plain(error.message))
    ask_now(_ASKED)


_page()
