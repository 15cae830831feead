"""Readings, roll-ups and answers on both databases, against figures computed the long way."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from statistics import fmean

import pytest

from callboard_broker.services.buffer import Series
from callboard_broker.services.history import History
from callboard_broker.services.resolution import RAW_LIMIT
from callboard_broker.services.upkeep import Keep
from callboard_broker.store.rollups import HOUR, MINUTE, Level
from callboard_core.errors import BadRequest, NotFound
from support.databases import DAY, Clock, Recorder

#: A full hour, and a full day in UTC.
START = 1_794_960_000.0
THING = ("greenhouse", "sensor", "temperature")
Figures = dict[int, tuple[float, float, float, int]]


def expected(data: list[tuple[float, float]], unit: int) -> Figures:
    groups = defaultdict(list)
    for t, value in data:
        micro = round(t * 1e6)
        groups[micro - micro % unit].append(value)
    return {t: (min(v), pytest.approx(fmean(v)), max(v), len(v)) for t, v in groups.items()}


def figures(recorder: Recorder, table: str) -> Figures:
    rows = recorder.rows(f"SELECT t, low, mean, high, n FROM {table}")
    return {t: (low, mean, high, n) for t, low, mean, high, n in rows}


def readings_of(hours: float, every: float, seed: int = 1) -> list[tuple[float, float]]:
    chance = random.Random(seed)
    count = int(hours * 3600 / every)
    return [(START + index * every, round(chance.gauss(20, 5), 3)) for index in range(count)]


@pytest.fixture
def recorder(database) -> Recorder:
    found = Recorder(database, clock=Clock(START))
    found.upkeep.load()
    return found


def test_minutes_and_hours_say_what_the_readings_say(recorder):
    data = readings_of(3, 7)
    recorder.add(*data)
    recorder.store()
    recorder.clock.now = START + 4 * 3600
    recorder.roll()
    assert figures(recorder, "minutes") == expected(data, MINUTE)
    assert figures(recorder, "hours") == expected(data, HOUR)
    assert recorder.rows("SELECT * FROM unrolled") == []


def test_readings_that_come_in_any_order_and_twice_give_the_same_roll_ups(recorder):
    data = readings_of(2, 11)
    chance = random.Random(2)
    recorder.clock.now = START + 3 * 3600
    rest = data + data[::3]
    chance.shuffle(rest)
    while rest:
        batch, rest = rest[:200], rest[200:]
        recorder.add(*batch)
        recorder.store()
        recorder.roll()
    assert figures(recorder, "minutes") == expected(data, MINUTE)
    assert figures(recorder, "hours") == expected(data, HOUR)
    assert recorder.writer.duplicates == len(data[::3])


def test_a_minute_is_rolled_only_when_it_is_over(recorder):
    recorder.add((START + 10, 1.0))
    recorder.store()
    recorder.clock.now = START + 62
    recorder.roll()
    assert figures(recorder, "minutes") == {}
    recorder.clock.now = START + 66
    recorder.roll()
    assert list(figures(recorder, "minutes")) == [round(START * 1e6)]


def test_a_new_start_goes_on_with_the_minutes_that_wait(recorder, database):
    recorder.add((START + 10, 1.0), (START + 20, 3.0))
    recorder.store()
    after = Recorder(database, clock=Clock(START + 3600))
    after.upkeep.load()
    after.roll()
    assert figures(after, "minutes") == {round(START * 1e6): (1.0, 2.0, 3.0, 2)}


def test_old_data_is_thinned_level_by_level_and_the_figures_stay(database):
    recorder = Recorder(database, clock=Clock(START), keep=Keep(raw=HOUR, minute=3 * HOUR, hour=5 * HOUR))
    recorder.upkeep.load()
    data = readings_of(8, 13)
    recorder.add(*data)
    recorder.store()
    recorder.clock.now = START + 8 * 3600 + 70
    recorder.roll()
    recorder.clock.now = START + 8 * 3600
    recorder.thin()
    assert {t for (t,) in recorder.rows("SELECT t FROM readings")} == {
        round(t * 1e6) for t, _ in data if t >= START + 7 * 3600
    }
    minutes, hours = expected(data, MINUTE), expected(data, HOUR)
    assert figures(recorder, "minutes") == {t: v for t, v in minutes.items() if t >= (START + 5 * 3600) * 1e6}
    assert figures(recorder, "hours") == {t: v for t, v in hours.items() if t >= (START + 3 * 3600) * 1e6}


def test_readings_later_than_the_raw_data_are_merged_into_the_roll_ups(database):
    recorder = Recorder(database, clock=Clock(START), keep=Keep(raw=HOUR, minute=3 * HOUR, hour=3650 * DAY))
    recorder.upkeep.load()
    data = readings_of(6, 13)
    late = [reading for index, reading in enumerate(data) if index % 4 == 0]
    on_time = [reading for index, reading in enumerate(data) if index % 4]
    recorder.add(*on_time)
    recorder.store()
    recorder.clock.now = START + 6 * 3600
    recorder.roll()
    recorder.thin()
    recorder.clock.now = START + 6 * 3600 + 70
    recorder.add(*late)
    recorder.store()
    recorder.add(*late[:50])  # delivered again before they are merged
    recorder.store()
    recorder.roll()
    recorder.clock.now = START + 6 * 3600
    recorder.thin()
    assert figures(recorder, "hours") == expected(data, HOUR)
    minutes = expected(data, MINUTE)
    assert figures(recorder, "minutes") == {t: v for t, v in minutes.items() if t >= (START + 3 * 3600) * 1e6}
    assert recorder.rows("SELECT * FROM late") == []
    assert all(t >= (START + 5 * 3600) * 1e6 for (t,) in recorder.rows("SELECT t FROM readings"))


def test_thinning_waits_for_what_is_not_rolled_up(database):
    recorder = Recorder(database, clock=Clock(START), keep=Keep(raw=HOUR, minute=DAY, hour=DAY))
    recorder.upkeep.load()
    recorder.add((START, 1.0))
    recorder.store()
    recorder.clock.now = START + 10 * 3600
    recorder.thin()
    assert len(recorder.rows("SELECT * FROM readings")) == 1


def test_texts_keep_their_changes_when_they_are_old(database):
    recorder = Recorder(database, clock=Clock(START), keep=Keep(raw=HOUR, minute=4 * HOUR, hour=DAY))
    recorder.upkeep.load()
    door = Series(("hall", "sensor", "door"))
    texts = [(START + n * 60.0, "open" if n // 30 % 2 else "closed") for n in range(240)]
    recorder.add(*texts, series=door)
    recorder.store()
    recorder.clock.now = START + 4 * 3600
    recorder.thin()
    kept = recorder.rows("SELECT t FROM texts ORDER BY t")
    assert len(kept) == 6 + 60  # a change each half hour for three hours, everything of the last one
    recorder.clock.now = START + 100 * 3600
    recorder.thin()
    assert recorder.rows("SELECT * FROM words") == []


class TestAnswers:
    """What History.ask says."""

    @pytest.fixture
    def history(self, recorder, database) -> History:
        self.data = readings_of(30, 10)
        recorder.add(*self.data)
        recorder.store()
        recorder.clock.now = START + 30 * 3600
        recorder.roll()
        return History(database, recorder.clock)

    def test_few_readings_come_as_they_are(self, history):
        answer = history.ask(THING, START, START + 600, 500)
        assert answer.resolution is Level.RAW
        assert [(b.t / 1e6, b.mean) for b in answer.buckets] == self.data[:60]
        assert {b.n for b in answer.buckets} == {1}

    def test_never_more_points_than_asked_for_and_every_reading_is_counted(self, history):
        for points, hours in itertools.product((1, 2, 7, 100, 500, 1234), (0.01, 0.5, 3, 29.99, 400)):
            answer = history.ask(THING, START, START + hours * 3600, points)
            inside = [value for t, value in self.data if t < START + hours * 3600]
            assert 0 < len(answer.buckets) <= points
            # Minutes and hours are whole ones, also at the end.
            assert len(inside) <= sum(b.n for b in answer.buckets) <= len(inside) + 360
            assert min(b.low for b in answer.buckets) <= min(inside)
            assert max(b.high for b in answer.buckets) >= max(inside)

    @pytest.mark.parametrize(
        ("points", "level"), [(20_000, Level.RAW), (2000, Level.RAW), (100, Level.MINUTE), (20, Level.HOUR)]
    )
    def test_the_level_follows_from_the_width_of_a_point(self, history, points, level):
        answer = history.ask(THING, START, START + 30 * 3600, points)
        assert answer.resolution is level
        total = sum(b.mean * b.n for b in answer.buckets) / sum(b.n for b in answer.buckets)
        assert total == pytest.approx(fmean(value for _, value in self.data))

    @pytest.mark.parametrize("points", [10, 100])
    def test_what_is_not_rolled_up_yet_is_in_the_answer(self, history, recorder, points):
        recorder.add((START + 30 * 3600 + 1, 1000.0), (START + 5.5, -1000.0))  # news, and one that was late
        recorder.store()
        recorder.clock.now += 10
        answer = history.ask(THING, START, None, points)
        assert max(b.high for b in answer.buckets) == 1000.0
        assert min(b.low for b in answer.buckets) == -1000.0
        assert sum(b.n for b in answer.buckets) == len(self.data) + 2

    def test_by_default_the_last_day_is_shown(self, history):
        answer = history.ask(THING, None, None, 20_000)
        assert answer.buckets[0].t / 1e6 == START + 6 * 3600

    def test_all_time_is_as_wide_as_the_data(self, history):
        assert len(history.ask(THING, 0.0, 9e9, 500).buckets) > 250

    def test_a_range_without_data_is_empty(self, history):
        assert history.ask(THING, START - 5000, START - 100, 10).buckets == []
        assert history.ask(THING, START + 40 * 3600, START + 50 * 3600, 10).buckets == []

    def test_what_has_no_history_is_not_found(self, history):
        with pytest.raises(NotFound, match="greenhouse/sensor/humidity has no history"):
            history.ask(("greenhouse", "sensor", "humidity"), None, None, 10)

    @pytest.mark.parametrize(("start", "end"), [(5.0, 5.0), (6.0, 5.0), (float("nan"), 5.0), (0.0, 1e300)])
    def test_a_range_that_is_none_is_refused(self, history, start, end):
        with pytest.raises(BadRequest, match="start"):
            history.ask(THING, start, end, 10)


def test_fast_readings_are_answered_from_minutes_when_they_are_too_many(recorder, database):
    count = RAW_LIMIT + 5000
    recorder.add(*((START + index * 0.01, float(index % 100)) for index in range(count)))
    recorder.store()
    recorder.clock.now = START + count * 0.01 + 3600
    recorder.roll()
    answer = History(database, recorder.clock).ask(THING, START, recorder.clock.now, 500)
    assert answer.resolution is Level.MINUTE
    assert sum(b.n for b in answer.buckets) == count


def test_texts_are_answered_with_their_times(recorder, database):
    recorder.add((START, "idle"), (START + 10, "running"), (START + 20, "done"))
    recorder.store()
    recorder.clock.now = START + 60
    answer = History(database, recorder.clock).ask(THING, None, None, 500)
    assert [(one.t / 1e6 - START, one.text, one.n) for one in answer.texts] == [
        (0, "idle", 1),
        (10, "running", 1),
        (20, "done", 1),
    ]
    assert len(History(database, recorder.clock).ask(THING, None, None, 2).texts) == 2
