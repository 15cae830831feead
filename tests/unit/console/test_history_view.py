"""Chart specifications."""

import json

import pytest

from callboard_console.web.views import history
from support.console import NOW, action, control, sensor, series


def test_raw_readings_are_one_line_and_thinned_ones_have_a_band():
    raw = history.chart(series(), title="Air", start=NOW - 900, end=NOW)
    thinned = history.chart(series(resolution="minute"), title="Air", start=NOW - 900, end=NOW)
    assert [line["name"] for line in raw["series"]] == ["Air"]
    assert [line["name"] for line in thinned["series"]] == ["minimum", "range", "Air"]
    assert thinned["series"][1]["data"][0][1] == pytest.approx(1.0)


def test_the_axis_is_the_chosen_window_in_milliseconds():
    axis = history.chart(series(), title="Air", start=1.0, end=2.0)["xAxis"]
    assert (axis["min"], axis["max"]) == (1000.0, 2000.0)


def test_a_specification_is_plain_json():
    json.dumps(history.chart(series(resolution="hour"), title="Air", start=0, end=1), allow_nan=False)


def test_booleans_are_steps_between_off_and_on():
    spec = history.chart(series(), title="Door", start=0, end=1, boolean=True)
    assert spec["series"][0]["step"] == "end"
    assert (spec["yAxis"]["min"], spec["yAxis"]["max"]) == (0, 1)
    assert "rgba" in spec["yAxis"]["splitLine"]["lineStyle"]["color"], "as faint on dark ground as on light"


def test_a_hole_in_the_data_is_a_hole_in_the_line():
    points = history.with_gaps([0, 1, 2, 60, 61], [1.0, 1.0, 1.0, 2.0, 2.0])
    assert [value for _, value in points] == [1.0, 1.0, 1.0, None, 2.0, 2.0]


def test_times_and_values_must_match():
    with pytest.raises(ValueError, match="must be equal"):
        history.with_gaps([1, 2], [1.0])


def test_a_percent_sign_is_escaped_in_the_tooltip_format():
    spec = history.chart(series() | {"unit": "%"}, title="CPU", start=0, end=1)
    assert spec["tooltip"]["valueFormatter"] == "%.4g %%"


def test_the_caption_says_how_much_of_what_is_shown():
    assert history.caption({"t": []}) == "No readings in this range."
    said = history.caption(series(resolution="minute"))
    assert "60 points · one point a minute" in said
    assert "18.5 °C to 21.5 °C" in said


def test_numbers_and_booleans_can_be_drawn():
    assert history.chartable(sensor("a", 1.0).card)
    assert history.chartable(control("a").card)
    assert not history.chartable(sensor("a", "text").card)
    assert not history.chartable(action("a").card)
    assert not history.chartable(None)
