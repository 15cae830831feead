"""The Workers page as markup."""

from __future__ import annotations

import pytest

from callboard_console.web.views import workers as view
from callboard_core.calls.sessions import Session
from callboard_core.calls.survey import Member, Report, Service, Standing
from callboard_core.cards import WorkerCard
from support.console import NOW, node, snapshot

BUSY = Report(running=2, waiting=3, done=1200, failed=4, refused=1, p50=0.0421, p95=1.25)


def member(
    node_: str, service: str = "texture", standing: Standing = Standing.READY, report=BUSY, **card
) -> Member:
    made = WorkerCard(name=service.replace(":", "-"), epoch=1, service=service, process="m/77/x", **card)
    return Member(node_, made.name, made, standing, report)


def shown(*members: Member, **more):
    by_service: dict[str, list[Member]] = {}
    for one in members:
        by_service.setdefault(one.card.service, []).append(one)
    services = tuple(Service(name, tuple(them)) for name, them in sorted(by_service.items()))
    return snapshot(node("a"), node("b"), services=services, **more)


def test_a_service_is_one_line_until_it_is_opened():
    seen = shown(member("a"), member("b", report=Report(running=1)), member("b", "zoom", report=None))
    closed = view.table(seen, "", frozenset(), may_command=True)
    assert closed.count("data-service=") == 2
    assert "data-member=" not in closed
    assert "2 ready" in closed
    assert "<td>3</td>" in closed  # in flight, of both
    opened = view.table(seen, "", frozenset({"texture"}), may_command=True)
    assert opened.count("data-member=") == 2
    assert "pid 77" in opened
    assert "42 ms" in opened
    assert "4 failed, 1 refused" in opened


def test_members_that_do_not_take_calls_are_told_apart():
    seen = shown(
        member("a", standing=Standing.DRAINING, draining=True),
        member("b", standing=Standing.SILENT),
        member("c", standing=Standing.AWAY),
    )
    html = view.table(seen, "", frozenset({"texture"}), may_command=True)
    for said in ("0 ready", "1 draining", "1 silent", "1 away"):
        assert said in html
    assert 'data-act="enable:a/texture"' in html
    assert 'data-act="drain:b/texture"' in html
    assert ":c/texture" not in html
    assert 'data-act="call:' not in html


def test_a_viewer_can_call_and_drain_nothing():
    html = view.table(shown(member("a")), "", frozenset({"texture"}), may_command=False)
    assert "drain:" not in html
    assert "call:" not in html
    assert "node?node=a" in html


def test_services_are_found_by_name_node_and_tag():
    seen = shown(member("a"), member("b", "zoom", tags=["gpu"]))
    for query, found in (
        ("text", ["texture"]),
        ("GPU", ["zoom"]),
        ("b zoom", ["zoom"]),
        ("", ["texture", "zoom"]),
    ):
        assert [one.name for one in view.choose(seen, query)] == found
    assert "No service passes the filter." in view.table(seen, "nothing", frozenset(), may_command=True)
    assert "Nobody offers a service." in view.table(shown(), "", frozenset(), may_command=True)


def test_what_the_board_offers_comes_last_and_is_not_drained():
    seen = shown(member("board", "call", report=None), member("a"))
    assert [one.name for one in view.choose(seen, "")] == ["texture", "call"]
    html = view.table(seen, "", frozenset({"call"}), may_command=True)
    assert "drain:board" not in html
    assert html.count("<td>—</td>") == 12  # nothing is told of its calls


def test_what_somebody_else_wrote_is_never_markup():
    seen = shown(
        member("a", description="<script>alert(1)</script>"),
        sessions=(Session("<b>", "a", "<i>", 1.0, NOW),),
    )
    html = view.table(seen, "", frozenset({"texture"}), may_command=True) + view.sessions(seen)
    assert "<script>" not in html
    assert "<b>" not in html
    assert "<i>" not in html


def test_only_what_is_there_can_be_called():
    seen = shown(
        member("a", "one"),
        member("a", "two", Standing.AWAY),
        member("b", "three", Standing.DRAINING, draining=True),
    )
    assert view.callable_services(seen) == ["one", "three"]
    assert view.card_of(seen, "one").service == "one"
    assert view.card_of(seen, "two") is None
    assert view.card_of(seen, "four") is None


def test_sessions_tell_who_calls_whom():
    seen = shown(
        member("a"),
        sessions=(
            Session("http:anna", "board", "texture", 12.0, NOW),
            Session("b", "a", "texture", 0.4, NOW - 2),
            Session("*", "a", "gone", 0.2, NOW - 2),
        ),
    )
    html = view.sessions(seen)
    assert html.count("data-session=") == 3
    for said in ("http:anna", "chosen by the board", "12.0/s", "node?node=b", "all others", "gone"):
        assert said in html
    assert "Nothing is being called." in view.sessions(shown())


def test_many_of_anything_are_cut_and_counted():
    members = [member(f"n-{i}", f"s-{i // 300}") for i in range(300 * 101)]
    seen = shown(*members, sessions=tuple(Session(f"c-{i}", "a", "x", 1.0, NOW) for i in range(60)))
    html = view.table(seen, "", frozenset({"s-0"}), may_command=True)
    assert html.count("data-service=") == view.PAGE_SIZE
    assert "1 more; search for them" in html
    assert "200 more members" in html
    assert "10 more" in view.sessions(seen)


def test_the_heading_sums_up():
    assert "1 service · 2 members · 4 in flight · 6 waiting" in view.summary(shown(member("a"), member("b")))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "—"),
        (0.00042, "0.4 ms"),
        (0.0099, "9.9 ms"),
        (0.00999, "10 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (72.0, "72.0 s"),
    ],
)
def test_times_are_short(value, said):
    assert view.seconds(value) == said


def test_opening_and_closing():
    assert view.toggle(view.toggle(frozenset(), "a"), "a") == frozenset()
