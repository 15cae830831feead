"""Numbers, ages and times as people read them."""

from datetime import UTC

import pytest

from callboard_console.web.views import words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (200_000, "2 d")],
)
def test_a_duration_is_said_in_its_largest_unit(seconds, said):
    assert words.duration(seconds) == said


@pytest.mark.parametrize(("then", "said"), [(None, "—"), (99.0, "just now"), (70.0, "30 s ago")])
def test_ago_counts_from_now(then, said):
    assert words.ago(then, 100.0) == said


@pytest.mark.parametrize(
    ("v", "unit", "said"),
    [
        (None, None, "—"),
        (True, None, "on"),
        (False, None, "off"),
        ("dusk", None, "dusk"),
        (3, None, "3"),
        (12_345, None, "12\u202f345"),
        (0.12345, "V", "0.123 V"),
        (3.14159, "V", "3.14 V"),
        (21.0, "°C", "21.0 °C"),
        (1234.5, "hPa", "1234 hPa"),
        (38.0, "%", "38.0 %"),
        (38, "%", "38 %"),
        (1_500_000, "B", "1.5 MB"),
        (812.0, "B/s", "812 B/s"),
        (90_000.0, "s", "1 d"),
        (1.5, "s", "1.50 s"),
    ],
)
def test_a_value_is_said_with_its_unit(v, unit, said):
    assert words.value(v, unit) == said


def test_numbers_of_one_size_have_equally_many_decimals_so_that_nothing_jumps():
    assert {len(words.number(v)) for v in (20.0, 20.55, 99.9)} == {4}


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 B"), (999.4, "999 B"), (999.6, "1 kB"), (1.46e9, "1.46 GB")]
)
def test_bytes_are_said_with_three_figures(size, said):
    assert words.bytes_(size) == said


def test_an_unknown_time_zone_is_utc():
    assert words.zone("Mars/Olympus") is UTC
    assert words.zone(None).utcoffset(None) in {None, UTC.utcoffset(None)}


def test_moments_and_clock_times_use_the_time_zone():
    assert words.clock(0, words.zone("Europe/Berlin")) == "01:00:00"
    assert words.moment(0) == "1 Jan 00:00:00"


def test_counting_uses_the_plural():
    assert words.count(1, "node") == "1 node"
    assert words.count(2000, "node") == "2\u202f000 nodes"
    assert words.count(2, "node is", "nodes are") == "2 nodes are"


def test_payloads_are_shown_as_indented_json_text_or_hexadecimal():
    assert words.pretty(b'{"a":1}') == '{\n  "a": 1\n}'
    assert words.pretty(b"plain") == "plain"
    assert words.pretty(b"\xff\x00").startswith("2 bytes, not text: ff 00")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Open the vent (50 %)", "Open the vent (50 %)"),
        ("[Click](http://evil.example/)", r"\[Click\](http\://evil.example/)"),
        ("![i](x)", r"\!\[i\](x)"),
        (":red[now] $x$ *y*", r"\:red\[now\] \$x\$ \*y\*"),
        ("a\\b", r"a\\b"),
    ],
)
def test_texts_of_nodes_are_shown_as_they_are(text, shown):
    assert words.plain(text) == shown
