"""The console in a real browser, on a real board with real nodes: what an operator does in a day."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from callboard_broker.access import Users, users_file
from callboard_broker.access.rules import Role
from callboard_core.directory import Directory
from callboard_core.link import Credential, Endpoint, Link
from support.browser import ROOT, Visitor, chromium, pictures_wanted, visitor
from support.console import PASSWORDS, ConsoleProcess, FakeBoard
from support.mosquitto import Mosquitto
from support.timing import Stopwatch
from support.up import CALLBOARD, Up, eventually, running_board

#: Where whoever is not logged in ends up; on the way there a page may be left twice.
LOGIN = re.compile(r"/login$")
GREENHOUSE = '''
"""A greenhouse without glass: what it is told it writes into a file."""
import math, sys, time
from callboard import Node

node = Node(sys.argv[1], label=sys.argv[2], board=sys.argv[3], username="node", password=sys.argv[4],
            state_dir=sys.argv[5], tags=["garden"], keepalive=5)
told = open(sys.argv[6], "a", buffering=1)

@node.sensor(unit="°C", every=1, label="Air temperature", normal={"low": 15, "high": 30})
def temperature() -> float:
    return round(22 + 4 * math.sin(time.time() / 8), 2)

@node.sensor(unit="%", every=1, label="Soil moisture")
def soil() -> float:
    raise OSError(121, "Remote I/O error")

@node.sensor(unit="%", every=1, label="Humidity")
def humidity() -> float:
    return round(64 + 9 * math.sin(time.time() / 5), 1)

@node.control(minimum=0, maximum=100, unit="%", label="Fan", initial=40)
def fan(value: float) -> None:
    print("fan", value, file=told)

@node.control(label="Lamp", initial=False)
def lamp(value: bool) -> None:
    print("lamp", value, file=told)

@node.control(label="Sign", initial="Welcome")
def sign(value: str) -> None:
    if value == "fire":
        raise ValueError("that is not to be shouted in a theatre")
    print("sign", value, file=told)

@node.action(label="Open the vent", confirm="Really open the vent?")
def open_vent() -> str:
    print("vent", file=told)
    return "open"

@node.action(label="Water the beds")
def water(seconds: int = 5) -> str:
    print("water", seconds, file=told)
    return f"{seconds} s"

@node.worker(service="texture", concurrency=2)
def texture(x: int, y: int = 2) -> list[list[int]]:
    "A table of products."
    print("texture", x, y, file=told)
    return [[i * j for i in range(x)] for j in range(y)]

node.run()
'''


@dataclass
class Member:
    """A node of ours in a process of its own."""

    process: subprocess.Popen[bytes]
    told: Path

    def heard(self, line: str) -> bool:
        return line in self.told.read_text().splitlines()


@dataclass
class House:
    up: Up
    folder: Path
    members: list[Member]

    @property
    def url(self) -> str:
        console = self.up.runtime.console
        assert console is not None
        return console.url

    def join(self, name: str, label: str) -> Member:
        script, told = self.folder / "greenhouse.py", self.folder / f"{name}.told"
        if not self.members:  # another member may be reading it
            script.write_text(GREENHOUSE)
        told.touch()
        given = (name, label, self.up.runtime.mqtt.url, self.up.password("node"), self.folder / name, told)
        process = subprocess.Popen([sys.executable, script, *map(str, given)], env=self.up.env)
        self.members.append(Member(process, told))
        return self.members[-1]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with running_board(folder, console=True) as up:
        made = House(up, folder, [])
        made.join("greenhouse", "Greenhouse")
        yield made
        for member in made.members:
            member.process.kill()
            member.process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def operator(house: House, browser: Browser) -> Iterator[Visitor]:
    with visitor(browser, house.url) as found:
        yield found.log_in("operator", house.up.password("operator"))
        assert found.elsewhere == []
        assert found.errors == []


@contextmanager
def directory(house: House) -> Iterator[Directory]:
    """What is on the board as any other program sees it."""
    viewer = Credential("viewer", house.up.password("viewer"))
    link = Link(client_id="onlooker", endpoint=Endpoint.parse(house.up.runtime.mqtt.url), credential=viewer)
    link.start()
    try:
        known = Directory(link)
        known.start()
        known.wait_complete(10)
        yield known
    finally:
        link.stop()


def row(who: Visitor, node: str):
    return who.page.locator(f"tr[data-node={node}]")


def reading(who: Visitor, name: str):
    return who.page.locator(f"[data-reading={name}] b").first


def test_this_machines_values_change_without_a_reload(operator):
    operator.node("here")
    assert operator.page.evaluate("window.loaded = true")
    cpu = reading(operator, "cpu")
    before = cpu.text_content()
    expect(cpu).not_to_have_text(before)
    assert operator.page.evaluate("window.loaded"), "the page was loaded anew"


def test_the_overview_shows_everybody_and_a_click_opens_the_node(operator):
    expect(row(operator, "here")).to_contain_text("ready")
    expect(row(operator, "greenhouse")).to_contain_text("Greenhouse")
    row(operator, "greenhouse").click()
    expect(operator.page.locator(".cb-facts h1")).to_have_text("Greenhouse")
    assert "node=greenhouse" in operator.page.url


def test_a_page_that_streamlit_has_broken_loads_itself_again_but_not_again_and_again(operator):
    breaks = "setTimeout(() => { throw new Error('Cannot set a node at a delta path'); })"
    expect(row(operator, "here")).to_be_visible()
    operator.page.evaluate(f"window.old = true; {breaks}")
    operator.page.wait_for_function("!window.old")
    expect(row(operator, "here")).to_be_visible()
    operator.page.evaluate(f"window.old = true; {breaks}")
    operator.page.wait_for_timeout(1000)  # nothing is to happen
    assert len(operator.mended) == 2
    assert operator.page.evaluate("window.old")


def test_the_search_finds_by_tag_and_keeps_its_text_while_the_page_lives(operator):
    search = operator.page.get_by_placeholder("Search name, tag, host or address")
    search.press_sequentially("gard", delay=350)
    expect(row(operator, "here")).to_have_count(0)
    expect(row(operator, "greenhouse")).to_be_visible()
    expect(search).to_have_value("gard")
    expect(search).to_be_focused()


def test_a_moved_slider_reaches_the_node(operator, house):
    operator.node("greenhouse")
    slider = operator.page.get_by_role("slider").first
    slider.focus()
    slider.press("End")
    eventually(
        lambda: house.members[0].heard("fan 100") or house.members[0].heard("fan 100.0"), "the fan at 100"
    )
    expect(operator.page.locator("[data-order=done]").first).to_be_visible()


def test_a_text_being_written_survives_the_refreshes_and_is_then_sent(operator, house):
    operator.node("greenhouse")
    sign = operator.page.get_by_label("Sign")
    sign.fill("")
    sign.press_sequentially("Good night", delay=300)
    expect(sign).to_be_focused()
    expect(sign).to_have_value("Good night")
    sign.press("Enter")
    eventually(lambda: house.members[0].heard("sign Good night"), "the sign")


@pytest.mark.timeout(400)
def test_looking_at_a_node_in_a_slow_browser_commands_nothing(operator, house):
    operator.page.context.new_cdp_session(operator.page).send("Emulation.setCPUThrottlingRate", {"rate": 8})
    before = house.members[0].told.read_text()
    for _ in range(3):
        operator.node("greenhouse")
        expect(operator.page.get_by_label("Sign")).to_be_visible()
        value = reading(operator, "humidity").text_content() or ""
        expect(reading(operator, "humidity")).not_to_have_text(value)
        expect(operator.page.get_by_text("points · every reading")).to_be_visible()
    assert house.members[0].told.read_text() == before


def test_a_control_that_fails_shows_the_error_and_returns_to_the_truth(operator):
    operator.node("greenhouse")
    sign = operator.page.get_by_label("Sign")
    expect(sign).to_be_enabled()
    truth = sign.input_value()
    sign.fill("fire")
    sign.press("Enter")
    failed = operator.page.locator("[data-order=failed]")
    expect(failed).to_contain_text("not to be shouted in a theatre")
    # The field is replaced by another one, and for a moment both are there.
    eventually(lambda: sign.evaluate_all("all => all.map(each => each.value)") == [truth], "the truth again")


def test_an_action_asks_and_then_says_what_became_of_it(operator, house):
    operator.node("greenhouse")
    operator.page.get_by_role("button", name="Open the vent").click()
    dialog = operator.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Really open the vent?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert not house.members[0].heard("vent")
    operator.page.get_by_role("button", name="Open the vent").click()
    dialog.get_by_role("button", name="Run").click()
    eventually(lambda: house.members[0].heard("vent"), "the vent")
    expect(operator.page.locator(".cb-runs [data-order=done]").first).to_contain_text("open")


def test_an_actions_parameters_are_a_form(operator, house):
    operator.node("greenhouse")
    operator.page.get_by_role("button", name="Water the beds").click()
    dialog = operator.page.get_by_role("dialog")
    seconds = dialog.get_by_label("Seconds", exact=False).first
    seconds.fill("7")
    seconds.press("Tab")
    dialog.get_by_role("button", name="Run").click()
    eventually(lambda: house.members[0].heard("water 7"), "the water")


def test_a_service_is_called_and_a_member_drained_and_enabled(operator, house):
    page = operator.open("Workers").page
    service = page.locator("tr[data-service=texture]")
    expect(service).to_contain_text("1 ready")
    service.get_by_text("Call").click()
    page.get_by_label("X", exact=True).fill("4")
    page.get_by_label("X", exact=True).press("Tab")
    page.get_by_role("button", name="Call", exact=True).click()
    expect(page.locator("[data-order=done]").first).to_contain_text("[[0, 0, 0, 0], [0, 1, 2, 3]]")
    assert house.members[0].heard("texture 4 2")
    expect(page.locator("tr[data-session]").first).to_contain_text("texture")
    service.get_by_text("texture").click()
    member = page.locator("tr[data-member='greenhouse/texture']")
    expect(member).to_contain_text("of 2")
    member.get_by_role("button", name="Drain").click()
    expect(member).to_contain_text("draining")
    member.get_by_role("button", name="Enable").click()
    expect(member).to_contain_text("ready")


def test_the_history_of_a_reading_is_drawn(operator):
    operator.node("greenhouse")
    expect(operator.page.locator("[data-testid=stEChartsChart], .stEChartsChart").first).to_be_visible()
    expect(operator.page.get_by_text("points · every reading")).to_be_visible()


def test_an_operator_publishes_from_the_topics_page(operator, house):
    operator.open("Topics")
    expect(operator.page.locator("[data-topic='callboard/greenhouse']")).to_be_visible()
    for level in ("", "/state", "/state/control", "/state/control/lamp"):
        operator.page.click(f"[data-topic='callboard/greenhouse{level}']")
    expect(operator.page.locator("pre[data-payload]")).to_contain_text('"v": false')
    topic = operator.page.get_by_label("Topic", exact=True)
    expect(topic).to_have_value("callboard/greenhouse/command/control/lamp")
    arguments = operator.page.get_by_label("Arguments (JSON)")
    arguments.fill('{"value": true}')
    arguments.press("Control+Enter")
    operator.page.get_by_role("button", name="Publish").click()
    eventually(lambda: house.members[0].heard("lamp True"), "the lamp")
    expect(operator.page.locator("pre[data-payload]")).to_contain_text('"v": true')


def test_a_card_that_is_not_json_is_shown_as_refused(operator, house):
    node = Credential("node", house.up.password("node"))
    link = Link(client_id="clumsy", endpoint=Endpoint.parse(house.up.runtime.mqtt.url), credential=node)
    link.start()
    link.wait_connected(30)
    link.publish("callboard/clumsy/announce/sensor/x", b"not json", qos=1).result(30)
    link.stop()
    operator.open("Refused")
    refused = operator.page.locator(".cb-refused tbody tr").first
    expect(refused).to_contain_text("callboard/clumsy/announce/sensor/x")
    expect(refused).to_contain_text("JSON")


def test_a_viewer_sees_everything_and_no_buttons(house, browser):
    with visitor(browser, house.url) as viewer:
        viewer.log_in("viewer", house.up.password("viewer"))
        expect(row(viewer, "greenhouse")).to_be_visible()
        viewer.node("greenhouse")
        expect(viewer.page.locator("[data-control=fan]")).to_contain_text("%")
        for widget in ("stButton", "stSlider", "stCheckbox", "stTextInput", "stColorPicker"):
            assert viewer.page.get_by_test_id(widget).count() == 0, widget
        viewer.open("Topics")
        expect(viewer.page.locator("[data-topic='callboard/greenhouse']")).to_be_visible()
        assert viewer.page.get_by_test_id("stButton").count() == 0
        assert viewer.page.get_by_role("button", name="Publish").count() == 0


def test_whoever_logs_out_is_out_in_every_window(house, browser):
    with visitor(browser, house.url) as one:
        one.log_in("viewer", house.up.password("viewer"))
        other = one.page.context.new_page()
        other.goto(house.url)
        other.wait_for_selector(".cb-user")
        one.page.click(".cb-out")
        expect(one.page).to_have_url(LOGIN, timeout=30_000)
        out = Stopwatch()
        expect(other).to_have_url(LOGIN, timeout=30_000)
        assert out.within(5), out


def test_whoever_is_disabled_is_out_within_five_seconds(house, browser):
    users = Users(users_file(house.up.state))
    users.put("guest", Role.VIEWER, "only for today")
    with visitor(browser, house.url) as guest:
        guest.log_in("guest", "only for today")
        users.disable("guest")
        disabled = Stopwatch()
        expect(guest.page).to_have_url(LOGIN, timeout=30_000)
        assert disabled.within(5), disabled
        guest.page.goto(house.url)
        assert guest.page.url.endswith("/login")


def test_a_node_that_appears_and_is_killed_shows_within_two_seconds_without_a_reload(operator, house):
    expect(row(operator, "greenhouse")).to_be_visible()
    operator.page.evaluate("window.loaded = true")
    with directory(house) as known:
        member = house.join("cellar", "Cellar")
        eventually(lambda: (node := known.node("cellar")) and node.live, "the cellar", every=0.01)
        known_since = Stopwatch()
    expect(row(operator, "cellar")).to_contain_text("ready")
    assert known_since.within(2.0), known_since
    os.kill(member.process.pid, signal.SIGKILL)
    killed = Stopwatch()
    member.process.wait()
    expect(row(operator, "cellar")).to_contain_text("lost")
    assert killed.within(2.5), killed
    expect(operator.page.locator(".cb-word")).to_have_text("Degraded")
    assert operator.page.evaluate("window.loaded"), "the page was loaded anew"


def test_the_first_page_that_anybody_opens_may_be_any(tmp_path, browser):
    broker = Mosquitto(tmp_path)
    broker.start()
    with FakeBoard() as board:
        console = ConsoleProcess(broker.port, board.url).wait()
        with visitor(browser, f"http://127.0.0.1:{console.port}") as who:
            who.log_in("viewer", PASSWORDS["viewer"], "/topics")
            expect(who.page.get_by_placeholder("Search topics and payloads")).to_be_visible()
        console.stop()
    broker.stop()


def test_without_the_broker_there_is_a_banner_and_the_page_still_works(tmp_path, browser):
    broker = Mosquitto(tmp_path)
    broker.start()
    with FakeBoard() as board:
        console = ConsoleProcess(broker.port, board.url).wait()
        with visitor(browser, f"http://127.0.0.1:{console.port}") as who:
            who.log_in("viewer", PASSWORDS["viewer"])
            expect(who.page.locator(".cb-word")).to_have_text("Empty")
            broker.kill()
            expect(who.page.locator(".cb-banner")).to_contain_text("No connection to the broker since")
            expect(who.page.locator(".cb-word")).to_have_text("Blind")
            who.open("Topics")
            expect(who.page.get_by_placeholder("Search topics and payloads")).to_be_visible()
            who.picture("disconnected-light")
            broker.start()
            expect(who.page.locator(".cb-banner")).to_have_count(0)
        console.stop()
    broker.stop()


SHOWN = "cells => cells.filter(cell => cell.offsetWidth).map(cell => cell.cellIndex)"


def test_on_a_phone_every_cell_of_the_audit_log_stands_below_its_heading(house, browser):
    with visitor(browser, house.url) as admin:
        admin.page.set_viewport_size({"width": 390, "height": 900})
        admin.log_in("admin", house.up.password("admin"), "/audit")
        expect(admin.page.locator(".cb-audit tbody tr").first).to_be_visible()
        heads = admin.page.locator(".cb-audit thead th").evaluate_all(SHOWN)
        cells = admin.page.locator(".cb-audit tbody tr:first-child td").evaluate_all(SHOWN)
    assert heads == cells == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("page", "search"), [("Jobs", "Search name, note or id"), ("Topics", "Search topics and payloads")]
)
def test_a_page_says_what_it_is_above_all_else(operator, page, search):
    operator.open(page)
    title = operator.page.get_by_role("heading", name=page, exact=True)
    expect(title).to_be_visible()
    field = operator.page.get_by_placeholder(search)
    expect(field).to_be_visible()
    assert title.bounding_box()["y"] < field.bounding_box()["y"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_of_every_page_are_kept(house, browser, scheme):
    if pictures_wanted() and scheme == "light":
        for name in ("foyer", "stage-left", "stage-right", "workshop"):
            house.join(name, name.replace("-", " ").capitalize())
    with visitor(browser, house.url, scheme=scheme) as who:
        who.page.goto(house.url)
        who.picture(f"login-{scheme}")
        who.log_in("operator", house.up.password("operator"))
        expect(row(who, "greenhouse")).to_be_visible()
        expect(who.page.locator(".cb-spark").first).to_be_visible()
        if pictures_wanted():
            who.page.wait_for_timeout(30_000)  # for traces long enough to look at
        overview = who.picture(f"overview-{scheme}")
        who.node("greenhouse")
        expect(who.page.get_by_text("points · every reading")).to_be_visible()
        detail = who.picture(f"node-{scheme}")
        who.open("Workers")
        who.page.locator("tr[data-service=texture]").get_by_text("texture").click()
        expect(who.page.locator("tr[data-member^=greenhouse]")).to_be_visible()
        workers = who.picture(f"workers-{scheme}")
        who.open("Topics")
        who.page.click("[data-topic='callboard/greenhouse']")
        who.page.click("[data-topic='callboard/greenhouse/announce']")
        expect(who.page.locator("pre[data-payload]")).to_be_visible()
        who.picture(f"topics-{scheme}")
        who.open("Refused")
        expect(who.page.get_by_role("heading", name="Refused", exact=True)).to_be_visible()
        who.picture(f"refused-{scheme}")
        if scheme == "light" and pictures_wanted():
            (ROOT / "docs/images").mkdir(exist_ok=True)
            (ROOT / "docs/images/console.png").write_bytes(overview.read_bytes())
            (ROOT / "docs/images/console-node.png").write_bytes(detail.read_bytes())
            (ROOT / "docs/images/console-workers.png").write_bytes(workers.read_bytes())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_empty_board_tells_how_to_add_the_first_node_and_that_works(tmp_path, browser, scheme):
    with running_board(tmp_path, console=True, node=False) as up:
        house = House(up, tmp_path, [])
        with visitor(browser, house.url, scheme=scheme) as who:
            who.log_in("operator", up.password("operator"))
            command = who.page.locator(".cb-command code").first
            expect(command).to_contain_text("callboard node")
            who.picture(f"empty-{scheme}")
            program, *words = shlex.split(command.text_content() or "")
            assert program == "callboard"
            node = subprocess.Popen([*CALLBOARD, *words, "--id", "first"], env=up.env)
            try:
                expect(row(who, "first")).to_contain_text("ready")
            finally:
                node.terminate()
                node.wait(30)


def test_an_admin_adds_a_user_who_gets_in_and_is_thrown_out_again(house, browser):
    with visitor(browser, house.url) as admin, visitor(browser, house.url) as guest:
        admin.log_in("admin", house.up.password("admin")).open("People")
        page = admin.page
        page.get_by_text("Add a user").click()
        page.get_by_label("Name", exact=True).fill("walter")
        page.get_by_role("button", name="Add", exact=True).click()
        secret = page.get_by_test_id("stCode").locator("code")
        expect(secret).to_be_visible()
        guest.log_in("walter", secret.inner_text().strip())
        admin.picture("console-people")
        page.locator("[data-act='remove:walter']").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(guest.page).to_have_url(LOGIN, timeout=30_000)
        expect(page.locator("[data-act='remove:walter']")).to_have_count(0)
        admin.open("Audit")
        expect(page.locator(".cb-audit tr", has_text="user.remove").first).to_contain_text("walter")
        admin.picture("console-audit")
        assert admin.errors == []
