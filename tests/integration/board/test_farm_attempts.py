"""What slots say of attempts, event by event: repeated, out of order, of others' frames, after the end."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

import pytest

from callboard_core.errors import BadRequest, Forbidden, NotFound
from callboard_core.farm.messages import AttemptCall, AttemptEvent, AttemptReply, SlotReport
from callboard_core.farm.requests import JobAction, JobRequest
from callboard_core.farm.states import FrameState, SlotState
from support.farm_alone import FarmAlone, farm_alone

__all__ = ["farm_alone"]


def submit(farm: FarmAlone, frames: str = "1-4", chunk: int = 4, **fields: Any) -> str:
    settings = {"engine": "simulated", "frames": frames, "chunk": chunk}
    return farm.farm.submit(
        JobRequest.model_validate({"type": "render", "settings": settings} | fields), "ann"
    )


def say(farm: FarmAlone, given: dict[str, Any], *events: dict[str, Any], node: str = "one") -> AttemptReply:
    made = [AttemptEvent.model_validate({"t": time.time()} | event) for event in events]
    return farm.farm.take(AttemptCall(attempt=given["attempt"], slot="s1", events=made), node).result(10)


def states(farm: FarmAlone, job: str) -> list[str]:
    with farm.farm.reading() as book:
        strip = book.job(job).steps[0].strip
        return [strip.state(index).value for index in range(len(strip))]


STARTED = {"seq": 1, "what": "started", "seconds": 0.1}


@pytest.fixture
def given(farm_alone) -> dict[str, Any]:
    farm_alone.slot("one")
    submit(farm_alone)
    return farm_alone.given()[0]


def test_an_assignment_says_all_a_slot_needs(given):
    assert given["frames"] == [1, 2, 3, 4]
    assert (given["job"], given["task"], given["engine"], given["work"]) == (
        "1",
        "1-1",
        "simulated",
        "frames",
    )
    assert (given["lease"], given["frame_timeout"], given["start_timeout"]) == (60, 3600, 300)
    assert given["log_limit"] == 256 * 1024


def test_shared_folders_are_told_by_the_platform_of_each_node(farm_alone):
    shows = {"shows": {"linux": "/mnt/shows", "windows": "S:", "darwin": "/Volumes/shows"}}
    change = {"item": "setting", "action": "update", "filters": {"name": "variables"}}
    farm_alone.api.handle(change | {"values": {"value": shows}}, who="ann")
    farm_alone.slot("one")
    submit(farm_alone, inputs=[{"name": "walk.blend", "path": "{shows}/dune/walk.blend"}])
    given = farm_alone.given()[0]
    assert given["variables"] == shows
    assert [(one["name"], one["path"]) for one in given["inputs"]] == [
        ("walk.blend", "{shows}/dune/walk.blend")
    ]


def test_frames_become_done_one_by_one(farm_alone, given):
    assert states(farm_alone, "1") == ["assigned"] * 4
    assert say(farm_alone, given, STARTED).seq == 1
    assert states(farm_alone, "1") == ["rendering", "assigned", "assigned", "assigned"]
    say(farm_alone, given, {"seq": 2, "what": "frame", "frame": 1, "seconds": 2.0})
    assert states(farm_alone, "1") == ["done", "rendering", "assigned", "assigned"]


def test_repeated_events_count_once_and_a_gap_is_refused(farm_alone, given):
    frame = {"seq": 2, "what": "frame", "frame": 1}
    say(farm_alone, given, STARTED, frame)
    assert say(farm_alone, given, STARTED, frame).seq == 2
    with pytest.raises(BadRequest, match="4 came where 3 is next"):
        say(farm_alone, given, {"seq": 4, "what": "frame", "frame": 2})
    assert states(farm_alone, "1")[:2] == ["done", "rendering"]
    assert farm_alone.farm.core.frames_done == 1


def test_events_that_cannot_be_taken_change_nothing(farm_alone, given):
    with pytest.raises(BadRequest, match="99 is not one of"):
        say(farm_alone, given, STARTED, {"seq": 2, "what": "frame", "frame": 99})
    assert states(farm_alone, "1") == ["assigned"] * 4
    with pytest.raises(Forbidden):
        say(farm_alone, given, STARTED, node="two")


def test_done_without_all_frames_is_a_failure_and_the_rest_is_made_elsewhere(farm_alone, given):
    farm_alone.slot("two")
    say(farm_alone, given, STARTED, {"seq": 2, "what": "frame", "frame": 1}, {"seq": 3, "what": "done"})
    again = farm_alone.given(2)[1]
    assert again["frames"] == [2, 3, 4]
    row = farm_alone.read("frame", job="1", number=2)[0]
    assert (row["status"], row["tries"]) == ("assigned", 1)


def test_what_comes_after_the_end_is_void(farm_alone, given):
    frames = [{"seq": n + 1, "what": "frame", "frame": n} for n in (1, 2, 3, 4)]
    say(farm_alone, given, STARTED, *frames, {"seq": 6, "what": "done"})
    with pytest.raises(NotFound, match="drop it"):
        say(farm_alone, given, {"seq": 6, "what": "done"})
    with farm_alone.farm.reading() as book:
        assert book.job("1").state == "done"


def test_a_cancelled_attempt_finishes_nothing_any_more(farm_alone, given):
    say(farm_alone, given, STARTED, {"seq": 2, "what": "frame", "frame": 1})
    farm_alone.farm.act(["1"], JobAction(do="cancel"))
    reply = say(farm_alone, given, {"seq": 3, "what": "frame", "frame": 2})
    assert reply.cancel
    assert states(farm_alone, "1") == ["done", "cancelled", "cancelled", "cancelled"]
    say(farm_alone, given, {"seq": 4, "what": "cancelled"})
    with pytest.raises(NotFound):
        say(farm_alone, given)


def test_frames_taken_from_an_attempt_are_safe_from_what_it_still_says(farm_alone, given):
    """Paused work that was sent ahead goes back; another slot may have it long before the first one has stopped."""
    say(farm_alone, given, STARTED)
    with farm_alone.farm.reading() as book:
        attempt = book.attempts[given["attempt"]]
    farm_alone.slot("two")

    def take_back() -> None:
        from callboard_core.farm.states import FrameEvent

        farm_alone.farm.control.stop(attempt, FrameEvent.RELEASED)

    farm_alone.farm.do(take_back)
    second = farm_alone.given(2)[1]
    assert second["frames"] == [1, 2, 3, 4]
    say(farm_alone, given, {"seq": 2, "what": "frame", "frame": 1}, {"seq": 3, "what": "cancelled"})
    assert states(farm_alone, "1") == ["assigned"] * 4
    say(farm_alone, second, STARTED, {"seq": 2, "what": "frame", "frame": 1}, node="two")
    assert states(farm_alone, "1")[0] == "done"


def test_a_frame_that_takes_every_node_with_it_is_given_up(farm_alone):
    submit(farm_alone, "1", 1)
    tries = farm_alone.settings.retry.node_tries
    for number in range(tries):
        farm_alone.slot(f"n{number}")
        given = farm_alone.given(number + 1)[number]
        say(farm_alone, given, STARTED, node=f"n{number}")
        farm_alone.farm.do(lambda number=number: farm_alone.farm.roster.remove((f"n{number}", "s1")))
    assert states(farm_alone, "1") == ["failed"]
    with farm_alone.farm.reading() as book:
        assert book.job("1").state == "failed"


def test_everything_is_as_it_was_after_a_crash(farm_alone, given):
    say(
        farm_alone,
        given,
        STARTED,
        {"seq": 2, "what": "frame", "frame": 1},
        {"seq": 3, "what": "log", "lines": ["x"]},
    )
    farm_alone.farm.do(
        lambda: farm_alone.farm.roster.wish([farm_alone.farm.core.book.slot(("one", "s1"))], "draining")
    )
    farm_alone.farm.act(["1"], JobAction(do="pause"))
    before = states(farm_alone, "1")
    farm_alone.end()  # it saves nothing, so it is as good as a crash
    farm_alone.begin()
    assert states(farm_alone, "1") == before
    with farm_alone.farm.reading() as book:
        job, slot = book.job("1"), book.slot(("one", "s1"))
        assert (job.state, slot.wanted, slot.live) == ("paused", "draining", False)
        attempt = book.attempts[given["attempt"]]
        assert (attempt.seq, attempt.done, attempt.slot) == (3, 1, ("one", "s1"))
        assert job.count(FrameState.DONE) == 1
    assert (
        say(
            farm_alone,
            given,
            {"seq": 4, "what": "frame", "frame": 2},
            {"seq": 5, "what": "log", "lines": ["y"]},
        ).seq
        == 5
    )
    with sqlite3.connect(f"{farm_alone.folder}/board.db") as database:
        assert database.execute("SELECT count(*) FROM farm_logs").fetchone() == (2,)
    database.close()


def test_logs_end_at_their_limit_but_tell_of_the_failure(farm_alone, given):
    lines = ["x" * 1000] * 50
    say(farm_alone, given, STARTED, *({"seq": n, "what": "log", "lines": lines} for n in range(2, 12)))
    fault = {
        "seq": 12,
        "what": "failed",
        "fault": "job",
        "code": "python",
        "message": "no",
        "lines": ["the end"],
    }
    say(farm_alone, given, fault)
    from callboard_broker.services.farm.archive import log_text
    from callboard_broker.store import farm as store

    with farm_alone.farm.stored() as connection:
        text = b"".join(log_text(store.logs(connection, 1, given["attempt"]))).decode()
        size = sum(len(part.data) for part in store.logs(connection, 1, given["attempt"]))
    assert 256 * 1024 <= len(text) <= 310 * 1024
    assert text.endswith("the end\n")
    assert size < 5000


def test_a_node_that_was_killed_gets_work_of_the_job_again(farm_alone):
    for slot in ("s1", "s2", "s3"):
        farm_alone.slot("one", slot)
    farm_alone.slot("two")
    submit(farm_alone, "1-8", 2)
    farm_alone.given(4)
    killed = {"what": "failed", "fault": "node", "code": "restarted", "message": "the node was started again"}
    for number, (node, _, _) in enumerate(farm_alone.slots.given[:4]):
        if node == "one":
            farm_alone.say(number, {"what": "started"}, killed)
    farm_alone.given(7)
    again = farm_alone.slots.given[4:7]
    assert [node for node, _, _ in again] == ["one"] * 3
    assert farm_alone.read("frame", job="1", number=again[0][2]["frames"][0])[0]["tries"] == 1


def test_a_limit_of_licences_holds_over_all_slots(farm_alone):
    wanted = {
        "item": "setting",
        "action": "update",
        "filters": {"name": "limits"},
        "values": {"value": {"nuke": 2}},
    }
    farm_alone.api.handle(wanted, who="ann")
    for number in range(5):
        farm_alone.slot(f"n{number}")
    submit(farm_alone, "1-10", 1, limits=["nuke"])
    given = farm_alone.given(2)
    farm_alone.farm.do(lambda: None)
    assert len(farm_alone.slots.given) == 2
    node = farm_alone.slots.given[0][0]
    say(
        farm_alone,
        given[0],
        STARTED,
        {"seq": 2, "what": "frame", "frame": 1},
        {"seq": 3, "what": "done"},
        node=node,
    )
    farm_alone.given(3)


def test_a_slot_that_says_it_is_asleep_gets_nothing(farm_alone):
    farm_alone.slot("one")
    asleep = SlotReport(state=SlotState.ASLEEP, since=time.time())
    farm_alone.farm.do(lambda: farm_alone.farm.roster.note_report(("one", "s1"), asleep))
    submit(farm_alone)
    assert [reason.code for _, reasons in farm_alone.farm.why("1") for reason in reasons] == ["closed"]
    awake = SlotReport(state=SlotState.IDLE, since=time.time())
    farm_alone.farm.do(lambda: farm_alone.farm.roster.note_report(("one", "s1"), awake))
    farm_alone.given()
