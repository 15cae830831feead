"""Pieces that several pages share."""

from callboard_console.web.views import parts
from callboard_core.messages import StatusName
from support.console import snapshot


def test_a_status_is_a_colour_and_a_word():
    assert parts.status(StatusName.LOST) == '<span class="cb-status cb-bad">lost</span>'
    assert "unknown" in parts.status(None)


def test_every_status_has_a_tone():
    assert set(parts.TONES) == {*StatusName, None}


def test_a_sparkline_needs_two_points_and_stays_inside_its_box():
    assert parts.sparkline([1.0]) == ""
    drawn = parts.sparkline([0.0, 100.0, 50.0])
    assert "0.0,24.0 50.0,2.0 100.0,13.0" in drawn


def test_a_tremor_does_not_look_like_an_earthquake():
    drawn = parts.sparkline([100.0, 100.1])
    assert "12." in drawn.split('<polyline points="')[1]


def test_the_banner_is_there_only_while_the_broker_is_not_heard():
    assert parts.banner(snapshot()) == ""
    assert "since 00:00:09;" in parts.banner(snapshot(connected=False, changed=9.0))


def test_logging_out_is_a_form_that_proves_it_comes_from_the_page():
    drawn = parts.user_box("ada", "operator", "proof")
    assert 'method="post"' in drawn
    assert 'value="proof"' in drawn
    assert "<i>operator</i>" in drawn
    assert "<button" not in drawn
