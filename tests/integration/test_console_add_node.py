"""The page Add node run by Streamlit itself, with a board that answers what the test says."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from callboard_console.web.views.overview import Joining
from callboard_core.errors import Forbidden
from support.console import NOW, installed, snapshot
from support.console_page import ConsolePage

MADE = {
    "name": "blue-owl", "uses": 1, "used": 0, "id": None, "ask": False, "made": NOW, "expires": NOW + 10**9,
    "by": "operator", "code": "CB2-" + "A" * 160,
}  # fmt: skip
WAITING = {
    "number": 7, "id": "greenhouse", "state": "pending", "reason": "its join code asks for an operator's yes",
    "label": None, "host": "raspberrypi", "address": "10.0.0.7", "fingerprint": "cd" * 32, "asked": NOW,
}  # fmt: skip


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    # Streamlit leaves the page's script as `__main__`, which every process spawned later would then run.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    with ExitStack() as stack:

        def make(role: str = "operator", *, lan: bool = True) -> ConsolePage:
            page = ConsolePage(role)
            page.session.api.answers |= {
                "/joins": MADE, "/api/v1/enrolments/7": WAITING, "/enrolments": {"items": [WAITING]},
                "/api/v1/trust/ca": b"PEM",
            }  # fmt: skip
            stack.enter_context(installed(page.feed, page.session, Joining(local_only=not lan, lan=lan)))
            return page

        yield make


def press(page, key):
    next(button for button in page.app.button if button.key == key).click()
    return page.run()


def fill(page, **values):
    for key, value in values.items():
        next(each for each in page.app.text_input if each.key == key).set_value(value)


def test_a_join_code_is_made_and_shown_to_scan_and_to_paste(open_page):
    page = open_page().go("add_node")
    fill(page, add_id="greenhouse")
    press(page, "add_make")
    ((method, path, asked),) = page.session.api.posted
    assert (method, path) == ("POST", "/api/v1/joins")
    assert asked == {"id": "greenhouse", "uses": 1, "seconds": 3600.0, "ask": False}
    shown = page.seen("invitation")
    assert f"callboard node --join {MADE['code']}" in shown
    assert "<svg" in shown


def test_the_boot_files_of_a_card_hold_the_code_and_no_wifi_password(open_page):
    page = open_page().go("add_node")
    page.app.segmented_control[0].set_value("A new card for a Raspberry Pi")
    page.run()
    fill(
        page,
        card_id="greenhouse",
        card_ssid="Home",
        card_passphrase="correct horse battery",
        card_country="gb",
    )
    press(page, "card_make")
    ((_, _, asked),) = page.session.api.posted
    assert (asked["id"], asked["seconds"]) == ("greenhouse", 604_800.0)
    (_, archive) = page.app.session_state["add_node_made"]
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        content = {name: files.read(name) for name in files.namelist()}
    assert content["callboard/join"].decode().strip() == MADE["code"]
    assert {"user-data", "meta-data", "network-config"} <= set(content)
    assert any(name.endswith(".whl") for name in content), "the agent comes along"
    assert not any(b"correct horse" in data for data in content.values())
    assert f"--wifi Home --country GB --join {MADE['code']}" in page.seen("flashing")
    assert "Download the boot files of" in str(page.app.get("download_button")[0].proto.label)


def test_a_card_that_cannot_be_made_uses_no_code_up(open_page):
    page = open_page().go("add_node")
    page.app.segmented_control[0].set_value("A new card for a Raspberry Pi")
    page.run()
    fill(page, card_id="greenhouse", card_ssid="Home", card_passphrase="correct horse battery")
    press(page, "card_make")
    assert page.session.api.posted == []
    assert "country" in page.app.error[0].value


def test_what_the_board_says_against_it_is_shown(open_page):
    page = open_page().go("add_node")
    page.session.api.answers = {"/joins": Forbidden("you may not"), **page.session.api.answers} | {
        "/joins": Forbidden("you may not")
    }
    press(page, "add_make")
    assert "you may not" in page.app.error[0].value


def test_who_waits_is_listed(open_page):
    page = open_page().go("add_node")
    assert 'data-act="accept:7"' in page.seen("waiting")
    assert "cdcdcdcdcdcdcdcd" in page.seen("waiting")


def test_a_viewer_sees_who_waits_and_can_make_nothing(open_page):
    page = open_page("viewer").go("add_node")
    assert not [button for button in page.app.button if button.key in {"add_make", "card_make"}]
    assert "greenhouse" in page.seen("waiting")
    assert 'data-act="accept' not in page.seen("waiting")


def test_a_board_that_other_machines_cannot_reach_says_what_to_do(open_page):
    page = open_page(lan=False).go("add_node")
    assert "callboard up --lan" in page.seen("no_lan")
    assert not [button for button in page.app.button if button.key == "add_make"]


def test_an_empty_board_points_here(open_page):
    page = open_page()
    page.feed.now = snapshot()
    page.go("overview")
    assert 'data-act="page:add_node"' in page.all_seen()
