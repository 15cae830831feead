"""Add node: a form, the join code or a card's boot files, and the machines that wait to be let in."""

from __future__ import annotations

import time

import streamlit as st

from callboard_console.web import runtime
from callboard_console.web.live import live
from callboard_console.web.pages.shared import attempt, follow, show_trouble
from callboard_console.web.sessions import Session
from callboard_console.web.views import add_node as view
from callboard_console.web.views.add_node import TIMES, Card, Wish
from callboard_console.web.views.markup import tag
from callboard_console.web.views.parts import heading
from callboard_console.web.views.words import plain
from callboard_core.boot import Bus, Format, boot_zip
from callboard_core.errors import CallboardError
from callboard_core.trust.enrolment import MadeJoin
from callboard_core.wheels import own

_COMMAND, _CARD = "A machine that runs already", "A new card for a Raspberry Pi"
_SYSTEMS: dict[str, Format] = {"Trixie or later": "cloudinit", "Bookworm": "firstrun"}
_BUSES: list[Bus] = ["i2c", "spi", "1-wire"]
#: Where the last code, and the archive that goes with it, are kept in the browser's session.
_MADE = "add_node_made"
#: Where the command is kept that makes the same card.
_FLASH = "add_node_flash"


def _make(session: Session, wish: Wish) -> MadeJoin:
    return MadeJoin.model_validate(session.api.post("/api/v1/joins", wish.request()))


def _make_code(session: Session, wish: Wish) -> None:
    st.session_state[_MADE] = (_make(session, wish), None)


def _make_card(session: Session, wish: Wish, card: Card, system: str) -> None:
    site = runtime.current().site
    # A card that cannot be made must not leave a code behind.
    card.config(_SAMPLE, site, "")
    made = _make(session, wish)
    with session.api.open("/api/v1/trust/ca") as answer:
        ca = answer.read().decode()
    st.session_state[_MADE] = (made, boot_zip(card.config(made, site, ca), _SYSTEMS[system], own()))
    st.session_state[_FLASH] = card.command(made)


_SAMPLE = MadeJoin(name="", uses=1, used=0, ask=False, made=0.0, expires=0.0, by="", code="CB2-")


def _form(session: Session) -> None:
    kind = st.segmented_control(
        "What is it?",
        [_COMMAND, _CARD],
        default=_COMMAND,
        required=True,
        key="add_kind",
        label_visibility="collapsed",
    )
    if kind == _CARD:
        _card_form(session)
    else:
        _command_form(session)


def _command_form(session: Session) -> None:
    with st.container(border=True):
        left, middle, right = st.columns([2, 1, 1])
        name = left.text_input(
            "Name (optional)", key="add_id", placeholder="any", help="The only node it lets in"
        )
        term = middle.selectbox("Good for", list(TIMES), key="add_term")
        uses = right.number_input("Machines", 1, 10_000, 1, key="add_uses")
        ask = st.toggle("Ask me before each is let in", key="add_ask")
        if st.button("Make the join code", type="primary", key="add_make"):
            wish = Wish(name.strip(), TIMES[term], int(uses), ask)
            attempt(lambda: _make_code(session, wish))


def _card_form(session: Session) -> None:
    with st.container(border=True):
        left, right = st.columns(2)
        name = left.text_input("Name", key="card_id", placeholder="greenhouse", help="Node id and host name")
        label = right.text_input("Label (optional)", key="card_label", placeholder="Greenhouse, south side")
        tags = left.text_input("Tags (optional)", key="card_tags", placeholder="garden pi")
        system = right.selectbox("Raspberry Pi OS", list(_SYSTEMS), key="card_system")
        left, middle, right = st.columns([2, 2, 1])
        ssid = left.text_input("Wi-Fi (optional)", key="card_ssid", placeholder="name of the network")
        passphrase = middle.text_input("Wi-Fi password", type="password", key="card_passphrase")
        country = right.text_input("Country", key="card_country", placeholder="GB", max_chars=2)
        with st.expander("Log-in, time zone, buses"):
            keys = st.text_area(
                "Public SSH keys (optional)",
                key="card_keys",
                placeholder="ssh-ed25519 AAAA… you@laptop",
                height=80,
            )
            left, middle, right = st.columns(3)
            user = left.text_input(
                "User", "pi", key="card_user", help="Logs in with the keys; has no password"
            )
            timezone = middle.text_input("Time zone", key="card_timezone", placeholder="Europe/London")
            buses = right.multiselect("Buses", _BUSES, key="card_buses")
        term = st.selectbox("Must first start within", list(TIMES), index=2, key="card_term", width=220)
        if st.button("Make the boot files", type="primary", key="card_make"):
            card = Card(
                name.strip(), label, tags, user, keys, ssid, passphrase, country, timezone, tuple(buses)
            )
            wish = Wish(card.id, TIMES[term])
            attempt(lambda: _make_card(session, wish, card, system))


def _result() -> None:
    made, archive = st.session_state.get(_MADE, (None, None))
    if made is None:
        return
    if archive is not None:
        st.download_button(
            f"Download the boot files of {made.id}",
            archive,
            file_name=f"callboard-{made.id}.zip",
            mime="application/zip",
            type="primary",
            key="add_download",
            on_click="ignore",
        )
        st.caption(
            "Unpack them onto the boot partition of the card; README.txt in them says the one line to add. They hold a "
            "join code: whoever has them can join as this node until it has. The Pi fetches the packages that the agent needs "
            "from the internet at its first start."
        )
        live(view.flashing(st.session_state[_FLASH]), key="flashing")
        return
    live(view.invitation(made, time.time()), key="invitation")


@st.fragment(run_every=2.0)
def _waiting(session: Session) -> None:
    try:
        machines = session.api.get("/api/v1/enrolments")["items"]
    except CallboardError as error:
        st.error(plain(str(error)))
        return
    act = live(view.waiting(machines, time.time(), may_decide=session.may_command), key="waiting")
    verb, _, number = (act or "").partition(":")
    if verb in {"accept", "reject"}:
        attempt(lambda: session.api.post(f"/api/v1/enrolments/{int(number)}", {"action": verb}))
        st.rerun(scope="fragment")
    show_trouble()
    follow(act)


def _page() -> None:
    session = runtime.session()
    if session is None:
        return
    live(
        heading(
            "Add node", "A join code lets a machine in once it has made sure that this is the right board."
        ),
        key="add_heading",
    )
    if not runtime.current().joining.lan:
        live(view.no_lan(), key="no_lan")
    elif session.may_command:
        _form(session)
        show_trouble()
        _result()
    live(tag("div", tag("h2", "Machines that asked"), class_="cb-section"), key="waiting_heading")
    _waiting(session)


_page()
