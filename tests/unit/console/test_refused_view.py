"""The table of refused messages."""

from callboard_console.web.views import refused
from support.console import NOW


def test_the_boards_list_comes_newest_first():
    items = [{"t": 1, "topic": "a"}, {"t": 2, "topic": "b", "node": "n", "reason": "no", "size": 5}]
    found = refused.from_http(items)
    assert [each.topic for each in found] == ["b", "a"]
    assert (found[1].node, found[1].size) == (None, 0)


def test_every_refusal_says_when_who_what_and_why():
    found = refused.from_http([{"t": NOW, "topic": "a/<b>", "node": "n", "reason": "t: missing", "size": 5}])
    drawn = refused.render(found, total=7, trouble=None)
    for said in ("a/&lt;b&gt;", "t: missing", "5 B", 'data-act="node:n"', "7 messages refused"):
        assert said in drawn


def test_nothing_refused_and_trouble_with_the_board_are_both_said():
    drawn = refused.render([], total=0, trouble="the board does not answer")
    assert "Nothing was refused." in drawn
    assert "the board does not answer" in drawn
