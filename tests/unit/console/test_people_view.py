"""The People and Audit pages' tables, and what is asked of the board for them."""

from __future__ import annotations

from typing import Any

import pytest

from callboard_console.web.views import audit, people
from support.console import NOW


def user(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "role": "operator", "rights": ["read", "command"], "disabled": False, "client_id": "", "certificate": "",
    } | more  # fmt: skip


def test_a_user_is_shown_with_what_can_be_done_about_it():
    shown = people.users([user("ann", client_id="anns-phone")], me="ann")
    for act in ("password:ann", "role:ann", "disable:ann", "remove:ann"):
        assert f'data-act="{act}"' in shown
    assert "you" in shown
    assert "anns-phone" in shown
    assert 'data-act="enable:ann"' in people.users([user("ann", disabled=True)], me="x")


def test_the_built_in_users_can_be_disabled_and_the_boards_own_not_even_that():
    shown = people.users([user("viewer"), user("board")], me="admin")
    assert 'data-act="disable:viewer"' in shown
    assert "remove:viewer" not in shown
    assert ":board" not in shown


@pytest.mark.parametrize("text", ["<b>", '"><script>', "a&b"])
def test_what_people_wrote_is_never_markup(text: str):
    role = {
        "name": text,
        "built_in": False,
        "note": text,
        "publish": [text],
        "subscribe": [],
        "never": [text],
        "http": [],
    }
    token = {"id": text, "username": text, "note": text, "scope": [], "expires": None, "used": None}
    entry = {
        "id": 1, "t": NOW, "who": text, "origin": text, "what": text, "subject": text, "result": text, "detail": text, "count": 2,
    }  # fmt: skip
    for shown in (
        people.users([user(text)], me=""),
        people.roles([role]),
        people.tokens([token], NOW),
        audit.render([entry]),
    ):
        assert text not in shown


def test_a_token_says_when_it_ends_and_when_it_was_used():
    token = {
        "id": "1",
        "username": "ann",
        "note": "",
        "scope": ["read"],
        "expires": NOW + 7300,
        "used": NOW - 61,
    }
    assert "in 2 h" in people.tokens([token], NOW)
    assert "1 min ago" in people.tokens([token], NOW)
    assert "has ended" in people.tokens([token | {"expires": NOW - 1}], NOW)
    assert "when removed" in people.tokens([token | {"expires": None}], NOW)
    assert "no tokens" in people.tokens([], NOW)


def test_patterns_are_typed_one_a_line():
    made = people.rule(publish=" a/# \n\nb\n", subscribe="", never="\n", http=["read"], note=" x ")
    assert made == {"publish": ["a/#", "b"], "subscribe": [], "never": [], "http": ["read"], "note": "x"}


def test_the_filters_become_a_question():
    everything = audit.asked(
        who="", what="Everything", result="Any result", span="All time", subject="", now=NOW
    )
    assert set(everything.values()) == {None}
    some = audit.asked(
        who=" ann ", what="Commands", result="Failed", span="Last hour", subject="fan", now=NOW
    )
    assert some == {
        "who": "ann",
        "what": "command",
        "result": "failed",
        "subject": "fan",
        "since": NOW - 3600,
    }


def test_an_entry_says_who_did_what_and_how_it_ended():
    entry = {
        "id": 7, "t": NOW, "who": "ann", "origin": "10.0.0.7", "what": "command", "subject": "callboard/x/command/action/y",
        "result": "timeout", "detail": "no answer came", "count": 3,
    }  # fmt: skip
    shown = audit.render([entry, entry | {"result": "ok", "count": 1}])
    assert "3 times" in shown
    assert 'cb-status cb-bad">timeout' in shown
    assert 'cb-status cb-ok">ok' in shown
    assert "Nothing of that kind" in audit.render([])
