"""callboard_core.calls.survey."""

from __future__ import annotations

import pytest

from callboard_core.calls.survey import Report, Service, Standing, Survey, read_reports
from callboard_core.cards import SensorCard, WorkerCard
from callboard_core.topics import Kind
from callboard_core.view import Entry


def worker(node: str, service: str = "texture", *, live: bool = True, **card: object) -> Entry:
    made = WorkerCard(
        name=service.replace(":", "-"),
        epoch=1,
        service=service,
        **{"heartbeat": 1.5, "process": "m/7/x", **card},
    )
    return Entry(node, Kind.WORKER, made.name, made, live)


def test_members_of_a_service_stand_together_with_what_they_told():
    survey = Survey(0.0)
    survey.note(
        "b", {"workers": {"texture": {"running": 2, "waiting": 1, "done": 5, "p50": 0.1, "p95": 0.4}}}, 1.0
    )
    survey.note("a", {"workers": {"texture": {"running": 1, "failed": 2, "p50": 0.3, "p95": 0.9}}}, 1.0)
    other = Entry("a", Kind.SENSOR, "cpu", SensorCard(name="cpu", epoch=1), True)
    texture, zoom = survey.services([worker("b"), worker("a"), other, worker("c", "zoom")], 2.0)
    assert [member.node for member in texture.members] == ["a", "b"]
    assert texture.total == Report(running=3, waiting=1, done=5, failed=2, p50=0.2, p95=0.9)
    assert texture.members[0].pid == "7"
    assert (zoom.name, zoom.members[0].report, zoom.total) == ("zoom", None, Report())


@pytest.mark.parametrize(
    ("entry", "heard", "now", "standing"),
    [
        (worker("a"), None, 4.0, Standing.READY),
        (worker("a"), None, 5.0, Standing.SILENT),
        (worker("a"), 3.0, 7.0, Standing.READY),
        (worker("a"), 3.0, 8.0, Standing.SILENT),
        (worker("a", heartbeat=None), 3.0, 80.0, Standing.READY),
        (worker("a", draining=True), 3.0, 4.0, Standing.DRAINING),
        (worker("a", live=False, draining=True), 3.0, 80.0, Standing.AWAY),
    ],
)
def test_how_a_member_stands(entry, heard, now, standing):
    survey = Survey(0.0)
    survey.services([entry], 0.0)
    if heard is not None:
        survey.note("a", {}, heard)
    [service] = survey.services([entry], now)
    assert service.members[0].standing is standing
    assert service.ready == (standing is Standing.READY)


def test_who_has_just_come_or_could_not_be_heard_is_not_silent():
    survey = Survey(0.0)
    assert survey.services([worker("a")], 100.0)[0].ready == 1
    survey.note("a", {}, 101.0)
    survey.begin_again(200.0)
    assert survey.services([worker("a")], 203.0)[0].ready == 1
    assert survey.services([worker("a", live=False)], 300.0)[0].ready == 0
    assert survey.services([worker("a")], 400.0)[0].ready == 1  # it is back


def test_what_is_gone_is_forgotten_and_what_an_absent_one_told_does_not_count():
    survey = Survey(0.0)
    survey.note("a", {"workers": {"texture": {"running": 2}}}, 1.0)
    [service] = survey.services([worker("a", live=False)], 2.0)
    assert service.members[0].report == Report(running=2)
    assert service.total == Report()
    survey.services([], 3.0)
    assert not survey.heard("a")
    assert Service("x", ()).total == Report()


def test_what_is_no_figure_is_none():
    told = {"running": "many", "done": -1, "failed": True, "p50": "slow", "p95": True, "waiting": 3}
    assert read_reports({"workers": {"x": told, "y": 5}}) == {"x": Report(waiting=3)}
    assert read_reports({"workers": []}) == read_reports({}) == {}
