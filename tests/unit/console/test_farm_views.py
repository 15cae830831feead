"""Slots, jobs and frames as they are drawn."""

import pytest

from callboard_console.web.farm import Attempt, Farm, Frames, Job, Page, Slot, Step, Why
from callboard_console.web.views import farm, job, jobs
from callboard_core.cards import SlotCard
from callboard_core.farm.messages import SlotReport
from callboard_core.farm.reports import FrameCounts, JobReport
from callboard_core.farm.states import FrameState, JobState, SlotState, TaskState


def slot(name="blender", *, state="idle", **more):
    card = SlotCard(name=name, epoch=1, engine="blender", version="3.4.1")
    return Slot(node="pi", slot=name, live=True, wanted="on", state=state, card=card, **more)


def a_farm(*slots, **more):
    given = {"jobs": {"active": 1}, "frames": FrameCounts(waiting=7), "frames_per_minute": 3.2} | more
    return Farm(slots=list(slots), **given)


def report(**more):
    given = {"job": "4", "name": "cube.blend", "state": JobState.ACTIVE, "type": "render", "created": 1.0}
    return JobReport(**given | {"frames": FrameCounts(done=3, failed=1, waiting=6), "progress": 0.3} | more)


def step(**more):
    given = {"name": "render", "type": "render", "engine": "blender", "work": "frames", "depends": []}
    return Step(**given | {"state": TaskState.RUNNING, "counts": FrameCounts(done=3)} | more)


def a_job(*steps, **more):
    return Job(**report(**more).model_dump(), steps=list(steps or [step()]), attempts=[])


def frames(states, seconds=None, nodes=None):
    many = len(states)
    return Frames(
        step="render",
        frames=list(range(1, many + 1)),
        states=states,
        tries=[1] * many,
        seconds=seconds or [None] * many,
        nodes=nodes or [None] * many,
    )


def test_a_busy_slot_shows_its_job_frame_progress_and_time_left():
    busy = SlotReport(
        state=SlotState.RENDERING,
        job="4",
        frame=17,
        frames_done=2,
        frames_total=8,
        progress=0.25,
        eta=90,
        since=1,
    )
    shown = farm.slots(a_farm(slot(state="rendering", report=busy)), "", may_command=False)
    for part in ("Job 4", "frame 17", "2 of 8", "1 min left", 'aria-valuenow="25"', "rendering"):
        assert part in shown
    assert 'data-act="drain' not in shown


@pytest.mark.parametrize(
    ("wanted", "state", "offered"),
    [
        ("on", "idle", {"drain", "disable"}),
        ("on", "rendering", {"drain", "disable", "pause"}),
        ("on", "paused", {"drain", "disable", "resume"}),
        ("draining", "draining", {"enable", "disable"}),
        ("off", "disabled", {"enable"}),
    ],
)
def test_a_slot_offers_what_can_be_done_to_it(wanted, state, offered):
    shown = farm.slots(a_farm(slot(state=state).model_copy(update={"wanted": wanted})), "", may_command=True)
    assert {
        do
        for do in ("drain", "disable", "enable", "pause", "resume")
        if f'data-act="{do}:pi/blender"' in shown
    } == offered


def test_a_slot_that_takes_nothing_says_why():
    shown = farm.slots(
        a_farm(slot(state="disabled", closed="disabled by anna", note="new fan")), "", may_command=True
    )
    assert "new fan" in shown


def test_the_farm_says_what_is_wrong_before_anything_else():
    shown = farm.summary(a_farm(slot(), problem="the disk is full"))
    assert "In trouble" in shown
    assert "the disk is full" in shown


def test_what_nodes_say_is_never_markup():
    bad = slot(state="disabled", note="<script>alert(1)</script>")
    assert "<script>" not in farm.slots(a_farm(bad), "", may_command=True)


def test_slots_are_found_by_all_words():
    found = farm.choose(a_farm(slot(), slot("povray")), "PI pov")
    assert [one.slot for one in found] == ["povray"]


def test_jobs_show_how_far_they_are_and_what_failed():
    shown = jobs.table(Page(total=1, items=[report()]), frozenset({"4"}), filtered=False, may_command=True)
    for part in ("cube.blend", "3 of 10", "1 failed", 'aria-checked="true"', "active"):
        assert part in shown


def test_a_viewer_cannot_pick_jobs():
    assert 'data-act="pick' not in jobs.table(
        Page(total=1, items=[report()]), frozenset(), filtered=False, may_command=False
    )


def test_only_what_can_be_done_to_a_job_is_asked_for():
    some = [report(), report(job="5", state=JobState.DONE), report(job="6", state=JobState.PAUSED)]
    assert jobs.allowed("cancel", some) == ["4", "6"]
    assert jobs.allowed("resume", some) == ["6"]
    assert jobs.allowed("delete", some) == ["4", "5", "6"]


def test_settings_that_no_field_can_express_are_left_to_json():
    schema = {
        "properties": {"frames": {"type": "string"}, "args": {"type": "object"}},
        "required": ["frames", "args"],
    }
    simple, rest = jobs.expressible(schema)
    assert (list(simple["properties"]), simple["required"], rest) == (["frames"], ["frames"], ["args"])


def test_every_frame_has_a_cell_with_its_state_time_and_node():
    shown = job.strip(frames([FrameState.DONE, FrameState.FAILED], [1.5, None], ["pi", None]), 2)
    assert shown.count("data-act=") == 2
    assert "frame 1 · done · 1.50 s · pi" in shown
    assert 'class="cb-cell cb-bad cb-chosen"' in shown


def test_of_many_frames_in_one_cell_the_failed_one_is_seen():
    states = [FrameState.DONE] * 100_000
    states[50_000] = FrameState.FAILED
    shown = job.strip(frames(states), None)
    assert shown.count("data-act=") <= job.CELLS
    assert shown.count('data-state="failed"') == 1


def test_by_time_the_slowest_frame_is_the_darkest():
    shown = job.strip(frames([FrameState.DONE, FrameState.DONE], [1.0, 4.0]), None, by="Time")
    assert "--share:0.25" in shown
    assert "--share:1.00" in shown


def test_pictures_are_shown_of_frames_that_are_done():
    shown = job.pictures(a_job(), frames([FrameState.DONE, FrameState.WAITING]))
    assert "board-files/jobs/4/frames/1/thumbnail" in shown
    assert "frames/2" not in shown
    assert not job.pictures(a_job(step(engine="simulated")), frames([FrameState.DONE]))


def test_a_chosen_frame_can_be_seen_and_taken_away():
    tried = [
        Attempt(
            id=f"a{n}", step="render", node="pi", slot="blender", frames=some, state=TaskState.DONE, made=1.0
        )
        for n, some in enumerate(["1-4", "5-8"])
    ]
    shown = job.chosen(a_job(), frames([FrameState.DONE], [0.5], ["pi"]), 1, tried)
    assert "board-files/jobs/4/frames/1/image" in shown
    assert 'data-act="log:a0@1"' in shown
    assert "log:a1" not in shown
    assert not job.chosen(a_job(), frames([FrameState.DONE]), 99, [])


def test_a_frame_that_is_over_may_be_made_again_unless_the_job_is_held():
    shown = frames([FrameState.DONE, FrameState.FAILED, FrameState.RENDERING, FrameState.WAITING])
    assert [n for n in range(9) if job.may_be_made_again(a_job(), shown, n)] == [1, 2]
    assert not job.may_be_made_again(a_job(state=JobState.HELD), shown, 1)


def test_the_last_picture_is_shown_while_more_are_coming():
    assert "board-files/jobs/4/last" in job.heading(a_job(), 5.0)
    assert "jobs/4/last" not in job.heading(a_job(state=JobState.DONE), 5.0)
    assert "jobs/4/last" not in job.heading(a_job(step(engine="simulated")), 5.0)


def test_a_waiting_job_says_why_and_a_running_one_does_not():
    why = [
        Why.model_validate(
            {"step": "render", "reasons": [{"code": "tags", "text": "no slot has the tag gpu"}]}
        )
    ]
    assert "no slot has the tag gpu" in job.why(a_job(state=JobState.QUEUED), why)
    assert not job.why(a_job(), why)


def test_files_and_video_are_offered_once_they_are_there():
    video = step(name="video", type="encode", work="single", engine="ffmpeg", state=TaskState.DONE)
    shown = job.heading(a_job(step(), video), 5.0)
    assert "board-files/jobs/4/files.zip" in shown
    assert "board-files/jobs/4/video" in shown
    nothing = job.heading(a_job(frames=FrameCounts(waiting=3), progress=0), 5.0)
    assert "board-files" not in nothing


def test_attempts_say_who_is_to_blame():
    one = Attempt(
        id="a1", step="render", node="pi", slot="blender", frames="1-4", state=TaskState.FAILED, made=1.0,
        started=2.0, ended=4.5, fault="node", message="the disk is full",
    )  # fmt: skip
    shown = job.attempts([one], "a1")
    for part in ("frames 1-4", "2.5 s", "the disk is full (the node&#x27;s fault)", "Hide log"):
        assert part in shown
