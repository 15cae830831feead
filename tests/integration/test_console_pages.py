"""Every page of the console run by Streamlit itself, with a fake feed, a fake link and a fake board."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from callboard_console.web.snapshot import Thing
from callboard_console.web.views.words import plain
from callboard_core.calls.sessions import Session
from callboard_core.calls.survey import Member, Report, Service, Standing
from callboard_core.cards import WorkerCard
from callboard_core.errors import Failed, TimedOut, Unavailable
from callboard_core.messages import State, StatusName
from callboard_core.topics import Kind
from support.console import NOW, greenhouse, installed, node, sensor, snapshot
from support.console_page import ConsolePage


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    # Streamlit leaves the page's script as `__main__`, which every process spawned later would then run.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    with ExitStack() as stack:

        def make(role: str | None = "operator") -> ConsolePage:
            page = ConsolePage(role)
            stack.enter_context(installed(page.feed, page.session))
            return page

        yield make


def test_the_overview_shows_health_counts_and_every_node(open_page):
    page = open_page().run()
    assert "Degraded" in page.seen("summary")
    for name in ("Greenhouse", "attic", "Board"):
        assert name in page.seen("overview")


def test_the_overview_filters_by_words_and_by_state(open_page):
    page = open_page().run()
    page.app.text_input(key="overview_query").set_value("garden")
    assert page.run().seen("overview").count("data-node=") == 1
    page.app.text_input(key="overview_query").set_value("")
    page.app.button_group(key="overview_only").set_value("Away")
    assert 'data-node="attic"' in page.run().seen("overview")
    assert page.seen("overview").count("data-node=") == 1


def test_a_node_that_appears_is_in_the_next_refresh(open_page):
    page = open_page().run()
    assert "cellar" not in page.seen("overview")
    page.feed.put(node("cellar"))
    assert "cellar" in page.run().seen("overview")


def test_an_empty_board_tells_how_to_add_a_node_and_has_no_filter(open_page):
    page = open_page()
    page.feed.now = snapshot(node("board"))
    page.run()
    assert "callboard node" in page.seen("overview")
    assert len(page.app.text_input) == 0


def test_without_the_broker_a_banner_says_since_when_and_the_page_still_works(open_page):
    page = open_page()
    page.feed.now = replace(page.feed.now, connected=False, changed=NOW - 42)
    page.run()
    assert "No connection to the broker since" in page.seen("banner")
    assert "for 42 s" in page.seen("summary")
    assert "Greenhouse" in page.seen("overview")


def test_without_a_session_there_is_nothing_but_the_way_to_the_login(open_page):
    page = open_page(None).run()
    assert [json.loads(each.proto.json) for each in page.app.get("bidi_component")] == [
        {"html": "", "leave": True}
    ]
    assert len(page.app.text_input) == 0


def test_a_session_that_expires_ends_on_the_page(open_page):
    page = open_page().run()
    page.session.expires = time.time() - 1
    page.feed.put(node("secret"))
    page.run()
    assert any('"leave": true' in each.proto.json for each in page.app.get("bidi_component"))
    assert "secret" not in page.all_seen()


def test_the_node_page_shows_identity_readings_history_and_presence(open_page):
    page = open_page().go("node", node="greenhouse")
    assert "Greenhouse" in page.seen("identity")
    assert "21.4 °C" in page.seen("readings")
    assert "here 100.0%" in page.seen("presence")
    assert "humidity is high" in page.seen("log")
    assert len(page.app.get("echarts_chart")) == 1
    assert page.app.caption[0].value.startswith("60 points")


@pytest.mark.parametrize("window", ["1 h", "30 d"])
def test_the_range_of_the_history_can_be_chosen(open_page, window):
    page = open_page().go("node", node="greenhouse")
    page.app.button_group(key="history_range").set_value(window)
    page.run()
    assert any("history/greenhouse" in path for path in page.session.api.asked)


def test_a_custom_range_is_two_moments(open_page):
    page = open_page().go("node", node="greenhouse")
    page.app.button_group(key="history_range").set_value("Custom")
    page.run()
    assert len(page.app.datetime_input) == 2
    assert len(page.app.get("echarts_chart")) == 1


def test_a_history_that_is_not_available_says_why(open_page):
    page = open_page()
    page.session.api.answers["history"] = Unavailable("the board does not answer")
    page.go("node", node="greenhouse")
    assert "the board does not answer" in page.seen("chart_trouble")
    assert "21.4 °C" in page.seen("readings")


MOVES = [
    ("slider", "fan", 70, 70),
    ("toggle", "lamp", False, False),
    ("button_group", "mode", "night", "night"),
    ("selectbox", "scene", "c", "c"),
    ("text_input", "note", "good night", "good night"),
    ("color_picker", "colour", "#00ff00", "#00ff00"),
    ("number_input", "target", 23.0, 23.0),
]


@pytest.mark.parametrize(("widget", "name", "value", "sent"), MOVES)
def test_moving_a_control_sends_a_command_and_says_what_became_of_it(open_page, widget, name, value, sent):
    page = open_page().go("node", node="greenhouse")
    getattr(page.app, widget)(key=f"control:greenhouse:{name}:0").set_value(value)
    page.run()
    assert page.sent == [(f"callboard/greenhouse/command/control/{name}", {"value": sent})]
    assert 'data-order="done"' in page.seen(f"line:greenhouse:{name}")


@pytest.mark.parametrize(
    ("error", "stage"),
    [(Failed("ValueError: too fast"), "failed"), (TimedOut("no answer within 10 s"), "timed out")],
)
def test_a_failed_command_shows_the_error_and_the_widget_returns_to_the_truth(open_page, error, stage):
    page = open_page().go("node", node="greenhouse")
    page.link.answer = lambda future: future.set_exception(error)
    page.app.slider(key="control:greenhouse:fan:0").set_value(70)
    page.run()
    line = page.seen("line:greenhouse:fan")
    assert f'data-order="{stage}"' in line
    assert str(error) in line
    assert page.app.slider[0].value == 40


def test_a_command_under_way_shows_acknowledged_and_running(open_page):
    page = open_page().go("node", node="greenhouse")
    page.link.answer = lambda future: None
    page.app.slider(key="control:greenhouse:fan:0").set_value(70)
    assert 'data-order="sent"' in page.run().seen("line:greenhouse:fan")
    page.link.on_ack()
    assert "acknowledged" in page.run().seen("line:greenhouse:fan")
    page.link.on_progress(0.5)
    assert "50%" in page.run().seen("line:greenhouse:fan")
    assert page.app.slider(key="control:greenhouse:fan:0").value == 70


def test_a_control_moved_by_somebody_else_moves_here_too(open_page):
    page = open_page().go("node", node="greenhouse")
    here = greenhouse()
    fan = here.things[Kind.CONTROL, "fan"]
    moved = Thing(Kind.CONTROL, "fan", fan.card, State(v=90, t=NOW), NOW)
    page.feed.put(replace(here, things={**here.things, (Kind.CONTROL, "fan"): moved}))
    page.run()
    assert page.app.slider[0].value == 90
    assert page.sent == []


def test_an_action_without_questions_is_sent_at_once(open_page):
    page = open_page().go("node", node="greenhouse")
    page.app.button(key="action:greenhouse:ping").click()
    page.run()
    assert page.sent == [("callboard/greenhouse/command/action/ping", {})]
    assert "done" in page.seen("orders")


def test_an_action_that_asks_is_not_sent_before_the_answer(open_page):
    page = open_page().go("node", node="greenhouse")
    page.app.button(key="action:greenhouse:open-vent").click()
    page.run()
    assert page.sent == []
    assert page.app.markdown[0].value == "**Really open the vent?**"
    assert {"Run", "Cancel"} <= {button.label for button in page.app.button}


def test_an_action_with_parameters_has_a_form(open_page):
    page = open_page().go("node", node="greenhouse")
    page.app.button(key="action:greenhouse:water").click()
    page.run()
    labels = [each.label for each in (*page.app.number_input, *page.app.text_input)]
    assert {"Seconds", "Zone (optional)"} <= set(labels)


def test_what_is_away_cannot_be_commanded(open_page):
    page = open_page()
    page.feed.put(replace(greenhouse(), status=StatusName.LOST))
    page.go("node", node="greenhouse")
    assert page.app.slider(key="control:greenhouse:fan:0").disabled
    assert page.app.button(key="action:greenhouse:ping").disabled
    assert "is away" in page.seen("line:greenhouse:fan")


def test_a_viewer_sees_values_and_no_buttons_at_all(open_page):
    for page_name in ("overview", "node", "topics", "refused"):
        page = open_page("viewer").go(page_name, node="greenhouse")
        assert len(page.app.button) == 0
        assert not page.app.slider
        assert not page.app.toggle
    page = open_page("viewer").go("node", node="greenhouse")
    assert "40 %" in page.seen("in-force:fan")


def test_a_node_that_is_not_there_says_so(open_page):
    page = open_page().go("node", node="ghost")
    assert "ghost is not on the board." in page.seen("identity")


def test_the_first_guest_is_shown_when_none_is_asked_for(open_page):
    assert "Greenhouse" in open_page().go("node").seen("identity")


def test_another_node_can_be_picked(open_page):
    page = open_page().go("node", node="greenhouse")
    page.app.selectbox(key="node_picker:greenhouse").select("attic")
    assert "attic" in page.run().seen("identity")
    assert page.app.query_params["node"] == "attic"


def test_a_node_page_without_any_node_points_to_the_overview(open_page):
    page = open_page()
    page.feed.now = snapshot()
    assert "No node has signed in yet." in page.go("node").seen("none")


def test_the_topics_are_a_tree_with_a_search(open_page):
    page = open_page()
    page.feed.held = {"callboard/a/status": b'{"status":"ready"}', "callboard/b/status": b"{}", "odd": b"1"}
    page.go("topics")
    assert page.feed.sweeps == 1
    tree = page.seen("topic_tree")
    assert 'data-topic="callboard/a"' in tree
    assert 'data-topic="odd"' in tree
    page.app.text_input(key="topics_query").set_value("ready")
    assert page.run().seen("topic_tree").count("data-topic=") == 1


def test_an_operator_publishes_a_command_and_sees_the_answer(open_page):
    page = open_page().go("topics")
    page.link.answer = lambda future: future.set_result({"now": 55})
    page.app.text_input(key="publish_topic").set_value("callboard/greenhouse/command/control/fan")
    page.app.text_area(key="publish_args").set_value('{"value": 55}')
    page.app.button(key="publish_send").click()
    page.run()
    assert page.sent == [("callboard/greenhouse/command/control/fan", {"value": 55})]
    assert 'data-order="done"' in page.seen("topic_orders")


def test_publishing_to_an_action_that_asks_asks(open_page):
    page = open_page().go("topics")
    page.app.text_input(key="publish_topic").set_value("callboard/greenhouse/command/action/open-vent")
    page.app.button(key="publish_send").click()
    page.run()
    assert page.sent == []
    assert page.app.markdown[0].value == "**Really open the vent?**"


def test_publishing_nonsense_is_refused_with_a_reason(open_page):
    page = open_page().go("topics")
    page.app.text_input(key="publish_topic").set_value("callboard/greenhouse/status")
    page.app.button(key="publish_send").click()
    page.run()
    assert page.sent == []
    assert "is not a command topic" in page.app.error[0].value


def test_refused_messages_come_from_the_board_or_else_from_the_console_itself(open_page):
    page = open_page().go("refused")
    assert "a/b/c" in page.seen("refused")
    page.session.api.answers["refused"] = Unavailable("the board does not answer")
    again = page.run().seen("refused")
    assert "the board does not answer" in again
    assert "callboard/x/state/sensor/y" in again


def test_two_hundred_nodes_cost_no_more_than_their_share(open_page):
    page = open_page()
    few = refresh_seconds(page, 20)
    assert refresh_seconds(page, 200) < 10 * few + 0.5


def refresh_seconds(page, count):
    """The best of a few refreshes."""
    page.feed.put(*(node(f"n{i:03d}", *(sensor(f"s{j}") for j in range(10))) for i in range(count)))
    page.run()
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        page.run()
        taken.append(time.perf_counter() - started)
    return min(taken)


def with_workers(page: ConsolePage, **more: object) -> ConsolePage:
    card = WorkerCard(
        name="texture",
        epoch=1,
        service="texture",
        description="A table of numbers.",
        timeout=7.0,
        parameters={
            "type": "object",
            "properties": {
                "x": {"type": "integer"},
                "y": {"type": "integer", "default": 2},
                "at": {"type": "object", "properties": {"a": {"type": "integer"}}},
            },
            "required": ["x"],
        },
    )
    members = (Member("greenhouse", "texture", card, Standing.READY, Report(running=1, p50=0.1)),)
    talk = Session("http:anna", "board", "texture", 3.0, NOW)
    page.feed.now = replace(page.feed.now, services=(Service("texture", members),), sessions=(talk,), **more)
    return page


def test_the_workers_page_shows_services_members_and_sessions(open_page):
    page = with_workers(open_page()).go("workers")
    assert "1 service · 1 member · 1 in flight" in page.seen("workers_summary")
    assert "http:anna" in page.seen("sessions")
    assert "data-member" not in page.seen("services")
    page.app.session_state["workers_opened"] = frozenset({"texture"})
    assert "drain:greenhouse/texture" in page.run().seen("services")
    page.app.text_input(key="workers_query").set_value("nothing")
    assert "No service passes" in page.run().seen("services")


def test_a_service_is_called_with_a_form_made_of_its_schema(open_page):
    page = with_workers(open_page()).go("workers")
    page.link.answer = lambda future: future.set_result([[0, 0]])
    page.app.selectbox(key="workers_service").select("texture")
    page.run()
    page.app.button(key="workers_call").click()
    assert page.run().app.error[0].value == plain("X: this is needed")
    page.app.number_input(key="call:texture:x").set_value(4)
    page.app.text_area(key="call:texture:at").set_value('{"a": 1}')
    page.app.button(key="workers_call").click()
    page.run()
    assert page.sent == [
        (
            "callboard/board/command/worker/call",
            {"service": "texture", "args": {"x": 4, "y": 2, "at": {"a": 1}}, "timeout": 7.0},
        )
    ]
    assert "[[0, 0]]" in page.seen("workers_orders")


def test_a_viewer_sees_the_workers_and_calls_nothing(open_page):
    page = with_workers(open_page("viewer"))
    page.app.session_state["workers_opened"] = frozenset({"texture"})
    page.go("workers")
    assert "data-member" in page.seen("services")
    assert "drain:" not in page.seen("services")
    assert not page.app.button
    assert not page.app.selectbox


def user(name: str, **more: object) -> dict[str, object]:
    base = {
        "name": name,
        "role": "operator",
        "rights": ["read"],
        "disabled": False,
        "client_id": "",
        "certificate": "",
    }
    return base | more


def people_page(open_page):
    page = open_page("admin")
    role = {
        "name": "operator",
        "built_in": True,
        "note": "",
        "publish": [],
        "subscribe": [],
        "never": [],
        "http": ["read"],
    }
    page.session.api.answers |= {
        "/users": {
            "items": [user("admin", role="admin"), user("ann")],
            "password": "made-for-you",
            "token": "t",
        },
        "/roles": {"items": [role]},
        "/tokens": {"items": [], "token": "callboard_made-for-you"},
    }
    return page


def test_an_admin_sees_users_adds_one_and_is_shown_its_password_once(open_page):
    page = people_page(open_page).go("people")
    assert 'data-act="disable:ann"' in page.seen("people_users")
    page.app.text_input(key="people_name").set_value("ben")
    page.app.button[0].click()
    page.run()
    new = {"name": "ben", "role": "operator", "client_id": ""}
    assert ("POST", "/api/v1/users", new) in page.session.api.posted
    assert [code.value for code in page.app.code] == ["made-for-you"]
    page.app.button(key="people_done").click()
    assert not page.run().app.code


def test_roles_and_tokens_are_behind_their_tabs(open_page):
    page = people_page(open_page).go("people")
    page.app.button_group(key="people_part").set_value("Roles")
    assert "operator" in page.run().seen("people_roles")
    page.app.button_group(key="people_part").set_value("Tokens")
    assert "There are no tokens" in page.run().seen("people_tokens")
    page.app.multiselect(key="token_scope").set_value(["read"])
    page.app.button[0].click()
    page.run()
    assert [path for _, path, _ in page.session.api.posted] == ["/api/v1/tokens"]
    assert [code.value for code in page.app.code] == ["callboard_made-for-you"]


def test_what_the_board_refuses_is_told_on_the_page(open_page):
    page = people_page(open_page).go("people")
    page.session.api.answers["/users"] = Failed("the users file is damaged")
    page.run()
    assert "damaged" in page.app.error[0].value


def test_who_is_no_admin_is_not_offered_the_pages(open_page):
    page = open_page("operator")
    page.run()
    assert not page.app.get("people_users")
    assert "/users" not in "".join(page.session.api.asked)


def test_the_audit_log_is_shown_filtered_and_exported(open_page):
    page = open_page("admin")
    entry = {
        "id": 3, "t": NOW, "who": "ann", "origin": "10.0.0.7 anns-phone", "what": "command", "count": 1, "detail": "",
        "subject": "callboard/pump/command/control/fan", "result": "ok",
    }  # fmt: skip
    page.session.api.answers["/audit"] = {"items": [entry], "next": None}
    page.go("audit")
    assert "anns-phone" in page.seen("audit")
    page.session.api.answers["/audit"] = {"items": [], "next": None}
    page.app.selectbox(key="audit_result").set_value("Failed")
    assert "Nothing of that kind" in page.run().seen("audit")


def test_operators_see_updates_and_stop_them(open_page):
    page = open_page()
    node = {
        "node": "attic",
        "stage": "trial",
        "progress": None,
        "reason": "",
        "version": "",
        "started": NOW,
        "ended": None,
    }
    update = {"id": "3f2a", "number": 7, "kind": "release", "version": "0.2.0", "created": NOW, "by": "ann"}
    answer = {"items": [{**update, "state": "running", "reason": "", "nodes": [node]}]}
    release = {"number": 7, "version": "0.2.0", "note": "faster"}
    page.session.api.answers = {
        "manifests": {"items": [release]},
        "updates": answer,
        **page.session.api.answers,
    }
    page.go("updates")
    assert "release 0.2.0" in page.seen("updates")
    assert "trial" in page.seen("updates")
    page.app.button[0].click()
    page.run()
    ((method, path, body),) = page.session.api.posted
    assert (method, path) == ("POST", "/api/v1/updates")
    assert body == {"number": 7, "nodes": [], "all": True, "terms": {"canary": 0.1}}
