"""The farm of a real board on a real broker, with slots that pretend to render: nothing is lost, nothing done twice."""

from __future__ import annotations

import io
import json
import random
import sqlite3
import subprocess
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import pytest

from callboard_core.errors import CallboardError, Forbidden, NotFound
from callboard_core.farm.logs import heading
from callboard_core.farm.messages import Assignment
from callboard_core.farm.states import JobState
from callboard_core.link import Endpoint, Link
from callboard_core.messages import State, parse
from callboard_core.topics import BOARD, Address, Kind, Leaf
from support.boards import BoardProcess, board_process, eventually
from support.engines import Engine, running
from support.farmhands import Crew, Hand, crew
from support.timing import Stopwatch

FARM = {"lease": 2.0, "node_grace": 0.5, "state_seconds": 0.1, "state_keep": 1.0}
JPEG = b"\xff\xd8\xff\xe0 as small as a picture can be"


@pytest.fixture(scope="module")
def broker() -> Iterator[Engine]:
    with running("embedded") as engine:
        yield engine


@pytest.fixture(scope="module")
def board(broker, tmp_path_factory) -> Iterator[BoardProcess]:
    with board_process(tmp_path_factory.mktemp("board") / "state", broker.port, farm=FARM) as started:
        yield started
        assert "Traceback" not in started.log


class Desk:
    """What a person does with the farm."""

    def __init__(self, board: BoardProcess) -> None:
        self.board = board

    @property
    def http(self) -> httpx.Client:
        return self.board.client()

    def get(self, path: str, **query: Any) -> Any:
        with self.http as client:
            return client.get(f"/api/v1{path}", params=query).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        with self.http as client:
            answer = client.post(f"/api/v1{path}", json=body)
            assert answer.is_success, answer.text
            return answer.json()

    def submit(self, frames: str = "1-20", *, chunk: int = 1, **fields: Any) -> str:
        settings = {"engine": "simulated", "frames": frames, "chunk": chunk} | fields.pop("settings", {})
        return self.post("/jobs", {"type": "render", "settings": settings} | fields)["job"]

    def act(self, job: str, do: str, **fields: Any) -> None:
        self.post(f"/jobs/{job}/act", {"do": do} | fields)

    def job(self, job: str) -> Any:
        return self.get(f"/jobs/{job}")

    def wait(self, job: str, *states: str, timeout: float = 20.0) -> Any:
        def look() -> Any:
            found = self.job(job)
            return found if found["state"] in (states or ("done",)) else None

        return eventually(look, timeout=timeout)

    def wait_busy(self, job: str, count: int = 1) -> Any:
        return eventually(lambda: len(self.job(job)["attempts"]) >= count and self.job(job))


@pytest.fixture
def desk(board) -> Iterator[Desk]:
    yield Desk(board)
    board.ensure()
    with board.client() as client:
        everything = {"filter": {"state": list(JobState)}, "action": {"do": "delete"}}
        assert client.post("/api/v1/jobs/act", json=everything).is_success
        for place in reversed(client.get("/api/v1/projects").json()["items"]):
            client.delete(f"/api/v1/projects/{place['id']}")
        for slot in client.get("/api/v1/farm").json()["slots"]:
            if not slot["live"]:
                client.delete(f"/api/v1/farm/slots/{slot['node']}/{slot['slot']}")


def made(crews: list[Crew]) -> Counter[tuple[str, int]]:
    return Counter(one for each in crews for hand in each.hands for one in hand.begun)


def stored(board: BoardProcess, statement: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{board.state}/board.db?mode=ro", uri=True) as database:
        rows = database.execute(statement).fetchall()
    database.close()
    return rows


def exactly_once(board: BoardProcess, job: str, frames: int) -> None:
    """Every frame has one result, and it is that of an attempt that was there for it."""
    rows = stored(board, f"SELECT frame, attempt FROM farm_results WHERE job = {job}")
    assert sorted(frame for frame, _ in rows) == list(range(1, frames + 1))
    attempts = {row[0] for row in stored(board, f"SELECT id FROM farm_attempts WHERE job = {job}")}
    assert {attempt for _, attempt in rows} <= attempts


class TestWorking:
    """From submitting to done."""

    def test_a_job_is_cut_over_all_slots_and_every_frame_is_done_once(self, broker, board, desk):
        with crew(broker.port, "one", slots=2) as one, crew(broker.port, "two", slots=2) as two:
            job = desk.submit("1-60", name="Walk", project="Film", shot="s010", note="fast", tags=[])
            view = desk.wait(job)
            assert view["frames"]["done"] == 60
            assert view["progress"] == 1
            assert (view["name"], view["project"], view["shot"]) == ("Walk", "Film", "s010")
            assert view["owner"] == "operator"
            assert made([one, two]).total() == 60
            assert all(hand.begun for each in (one, two) for hand in each.hands)
        exactly_once(board, job, 60)
        attempts = desk.get(f"/jobs/{job}/attempts", limit=1000)["items"]
        assert len(attempts) == 60
        assert {attempt["state"] for attempt in attempts} == {"done"}
        frames = desk.get(f"/jobs/{job}/frames")
        assert frames["numbers"] == "1-60"
        assert set(frames["states"]) == {"done"}
        assert {*frames["nodes"]} == {"one", "two"}

    def test_chunks_grow_when_frames_are_quick(self, broker, board, desk):
        with crew(broker.port, slots=1):
            job = desk.submit("1-200", chunk=0)
            desk.wait(job)
            attempts = desk.get(f"/jobs/{job}/attempts", limit=1000)["items"]
            assert len(attempts) < 50

    def test_a_node_a_hundred_times_slower_holds_nobody_up(self, broker, board, desk):
        with (
            crew(broker.port, "quick", seconds=0.005) as quick,
            crew(broker.port, "slow", seconds=0.5) as slow,
        ):
            job = desk.submit("1-400", chunk=0)
            watch = Stopwatch()
            desk.wait(job)
            assert watch.within(10), f"{watch}; half of it on the slow one takes 100 s"
            assert 0 < made([slow]).total() < 15
            assert made([quick, slow]).total() == 400
        exactly_once(board, job, 400)

    def test_a_clock_that_is_a_day_off_moves_nothing(self, broker, board, desk, monkeypatch):
        honest = Hand._note

        def skewed(hand: Hand, work: Any, what: str, **fields: Any) -> None:
            honest(hand, work, what, **fields)
            work.unsent[-1] = work.unsent[-1].model_copy(update={"t": time.time() - 86_400})

        monkeypatch.setattr(Hand, "_note", skewed)
        with crew(broker.port, slots=2):
            began = time.time()
            job = desk.submit("1-10")
            view = desk.wait(job)
            attempts = desk.get(f"/jobs/{job}/attempts")["items"]
            times = [
                view["started"],
                view["ended"],
                *(a[name] for a in attempts for name in ("started", "ended")),
            ]
            assert all(began - 1 <= t <= time.time() + 1 for t in times), times

    def test_jobs_are_submitted_and_steered_over_mqtt(self, broker, board, desk):
        link = Link(client_id="studio", endpoint=Endpoint("127.0.0.1", broker.port))
        link.start()
        link.wait_connected(10)

        def call(worker: str, **args: Any) -> Any:
            address = Address(link.site, BOARD, Leaf.COMMAND, Kind.WORKER, worker)
            return link.call(address, args, timeout=5).result()

        try:
            wanted = {"type": "render", "settings": {"engine": "simulated", "frames": "1-4"}, "hold": True}
            job = call("submit", **wanted)["job"]
            assert desk.job(job)["owner"] == "studio"
            assert call("job", job=job, action={"do": "release"})["state"] in {"queued", "active"}
            with crew(broker.port):
                desk.wait(job)
            assert call("job", job=job)["frames"]["done"] == 4
            with pytest.raises(CallboardError, match="rendr"):
                call("submit", **wanted | {"type": "rendr"})
        finally:
            link.stop()

    def test_steps_wait_for_each_other_and_get_each_others_files(self, broker, board, desk):
        folder = board.state / "jobtypes"
        folder.mkdir(exist_ok=True)
        (folder / "film.py").write_text(JOB_TYPE)
        order: list[tuple[str, list[str]]] = []

        def fate(assignment: Assignment, frame: int) -> None:
            del frame
            order.append((assignment.work, [one.name for one in assignment.inputs]))

        with crew(broker.port, slots=2) as hands:
            hands.fate = fate
            hands.file = lambda frame: file_of(board, f"frame {frame}".encode(), f"frame-{frame:04d}.png")
            job = desk.post("/jobs", {"type": "film"})["job"]
            view = desk.wait(job)
            assert [step["state"] for step in view["steps"]] == ["done", "done"]
        assert order[-1] == ("single", [f"frame-{n:04d}.png" for n in range(1, 6)])
        assert [work for work, _ in order[:-1]] == ["frames"] * 5

    def test_tiers_and_priorities_go_first_and_a_job_that_waits_says_why(self, broker, board, desk):
        with crew(broker.port, slots=1) as hands:
            hands.hands[0].released.clear()
            first = desk.submit("1-2", name="first")
            desk.wait_busy(first)
            low = desk.submit("1-2", name="low", priority=10)
            high = desk.submit("1-2", name="high", priority=90)
            assert "busy" in {r["code"] for r in desk.get(f"/jobs/{low}/why")["items"][0]["reasons"]}
            elsewhere = desk.submit("1", tags=["gpu"])
            assert "tags" in {r["code"] for r in desk.get(f"/jobs/{elsewhere}/why")["items"][0]["reasons"]}
            hands.hands[0].released.set()
            desk.wait(low)
            tasks = [task for task, _ in hands.hands[0].begun]
            assert tasks.index(f"{high}-2") < tasks.index(f"{low}-1")


class TestControl:
    """What people do."""

    def test_cancel_stops_what_runs_within_a_second(self, broker, board, desk):
        with crew(broker.port, slots=2, seconds=30) as hands:
            job = desk.submit("1-10")
            desk.wait_busy(job, 2)
            begun = Stopwatch()
            desk.act(job, "cancel")
            eventually(lambda: not desk.job(job)["attempts"])
            assert begun.within(1), begun
            view = desk.job(job)
            assert (view["state"], view["frames"]["cancelled"]) == ("cancelled", 10)
            assert all(not hand.works for hand in hands.hands)
            hands.seconds = 0
            desk.act(job, "requeue")
            assert desk.wait(job)["frames"]["done"] == 10

    def test_pause_keeps_what_runs_and_resume_goes_on(self, broker, board, desk):
        with crew(broker.port, slots=1) as hands:
            hands.hands[0].released.clear()
            job = desk.submit("1-3")
            desk.wait_busy(job)
            desk.act(job, "pause")
            eventually(lambda: ("s0", "pause") in hands.commands)
            hands.hands[0].released.set()
            eventually(lambda: not desk.job(job)["attempts"])
            assert desk.job(job)["state"] == "paused"
            assert desk.job(job)["frames"]["done"] == 1
            desk.act(job, "resume")
            desk.wait(job)

    def test_frames_are_made_again_and_what_depends_on_them_too(self, broker, board, desk):
        with crew(broker.port, slots=2) as hands:
            job = desk.submit("1-10")
            desk.wait(job)
            desk.act(job, "requeue", what="frames", frames="3,5-6")
            eventually(lambda: made([hands]).total() == 13)
            desk.wait(job)
            again = Counter(frame for _, frame in made([hands]).elements())
            assert {frame for frame, count in again.items() if count == 2} == {3, 5, 6}
            exactly_once(board, job, 10)
            with desk.http as client:
                wrong = client.post(f"/api/v1/jobs/{job}/act", json={"do": "requeue", "frames": "99"})
            assert wrong.status_code == 404

    def test_mass_operations_happen_to_all_that_match_or_to_none(self, broker, board, desk):
        jobs = [desk.submit("1-2", project="Film") for _ in range(3)]
        other = desk.submit("1-2")
        assert desk.post("/jobs/act", {"filter": {"project": "Film"}, "action": {"do": "hold"}}) == {
            "count": 3
        }
        assert [desk.job(job)["state"] for job in jobs] == ["held"] * 3
        assert desk.job(other)["state"] == "queued"
        with desk.http as client:
            wrong = client.post(
                "/api/v1/jobs/act", json={"filter": {"ids": [*jobs, other]}, "action": {"do": "pause"}}
            )
            assert wrong.status_code == 409
            assert desk.job(other)["state"] == "queued"
            client.patch("/api/v1/jobs", json={"filter": {"project": "Film"}, "values": {"priority": 80}})
            assert client.patch(f"/api/v1/jobs/{other}", json={"priority": 101}).status_code == 400
            nobody = client.post("/api/v1/jobs/act", json={"filter": {}, "action": {"do": "cancel"}})
            assert nobody.status_code == 400
        found = desk.get("/jobs", project="Film", sort="oldest", limit=2)
        assert found["total"] == 3
        assert [one["job"] for one in found["items"]] == jobs[:2]
        assert {one["priority"] for one in found["items"]} == {80}
        assert desk.get("/jobs", state=["held"])["total"] == 3

    def test_slots_are_drained_disabled_and_enabled_also_over_a_restart(self, broker, board, desk):
        with crew(broker.port, slots=1) as hands:
            eventually(lambda: desk.get("/farm")["slots"] and not desk.get("/farm")["slots"][0]["closed"])
            wanted = {"filter": {"node": "farmer"}, "do": "disable", "note": "noisy"}
            assert desk.post("/farm/slots/act", wanted) == {"count": 1}
            eventually(lambda: ("s0", "disable") in hands.commands)
            board.kill()
            board.start()
            job = desk.submit("1-3")
            eventually(lambda: desk.get("/farm")["slots"][0]["live"])
            slot = desk.get("/farm/slots/farmer/s0")
            assert (slot["closed"], slot["note"]) == ("disabled", "noisy")
            assert desk.job(job)["state"] == "queued"
            desk.post("/farm/slots/act", {"filter": {"node": "farmer"}, "do": "enable"})
            desk.wait(job)

    def test_a_deleted_job_leaves_nothing(self, broker, board, desk):
        with crew(broker.port, slots=1, seconds=10) as hands:
            job = desk.submit("1-3")
            desk.wait_busy(job)
            with desk.http as client:
                assert client.delete(f"/api/v1/jobs/{job}", params={"files": "remove"}).status_code == 204
                assert client.get(f"/api/v1/jobs/{job}").status_code == 404
            eventually(lambda: not hands.hands[0].works)
            for table in ("farm_jobs", "farm_segments", "farm_attempts", "farm_results"):
                column = "id" if table == "farm_jobs" else "job"
                assert stored(board, f"SELECT count(*) FROM {table} WHERE {column} = {job}") == [(0,)], table
            hands.seconds = 0
            assert desk.submit("1-2") != job
            desk.wait(str(int(job) + 1))


class TestFailing:
    """What goes wrong, and where it goes from there."""

    def test_a_node_that_keeps_failing_gets_no_more_of_the_job(self, broker, board, desk):
        fault = {"fault": "node", "code": "crashed", "message": "signal 11"}
        with crew(broker.port, "good") as good, crew(broker.port, "bad") as bad:
            bad.fate = lambda assignment, frame: fault
            good.seconds = 0.05
            job = desk.submit("1-20")
            view = desk.wait(job)
            assert view["steps"][0]["blocked"] == ["bad"]
            assert made([bad]).total() == 2
            assert made([good]).total() == 20
        failed = [a for a in desk.get(f"/jobs/{job}/attempts")["items"] if a["state"] == "failed"]
        assert {(a["node"], a["fault"], a["code"], a["message"]) for a in failed} == {
            ("bad", "node", "crashed", "signal 11")
        }

    def test_a_frame_that_is_the_jobs_fault_fails_and_the_others_are_made(self, broker, board, desk):
        fault = {"fault": "job", "code": "python", "message": "NameError"}
        with crew(broker.port, slots=2) as hands:
            hands.fate = lambda assignment, frame: fault if frame == 7 else None
            job = desk.submit("1-10")
            view = desk.wait(job, "failed")
            assert (view["frames"]["done"], view["frames"]["failed"]) == (9, 1)
            assert "NameError" in view["reason"]
            hands.fate = lambda assignment, frame: None
            desk.act(job, "requeue")
            assert desk.wait(job)["frames"]["done"] == 10

    def test_a_file_that_cannot_be_read_fails_the_whole_job(self, broker, board, desk):
        fault = {"fault": "job", "code": "bad_file", "message": "not a .blend"}
        with crew(broker.port, slots=1) as hands:
            hands.fate = lambda assignment, frame: fault
            job = desk.submit("1-100")
            desk.wait(job, "failed")
            assert made([hands]).total() < 10

    def test_a_missing_licence_makes_the_job_wait(self, broker, board, desk):
        fault = {"fault": "licence", "code": "licence", "message": "none left"}
        with crew(broker.port, slots=1) as hands:
            hands.fate = lambda assignment, frame: fault
            job = desk.submit("1-3")
            found = eventually(
                lambda: [
                    r for r in desk.get(f"/jobs/{job}/why")["items"][0]["reasons"] if r["code"] == "wait"
                ]
            )
            assert "no licence" in found[0]["text"]
            assert made([hands]).total() == 1

    def test_frames_of_a_lost_node_go_elsewhere_and_what_it_says_later_is_void(self, broker, board, desk):
        with crew(broker.port, "first", seconds=30) as first:
            job = desk.submit("1-4", chunk=4)
            desk.wait_busy(job)
            attempt = desk.job(job)["attempts"][0]["id"]
            first.vanish()
            with crew(broker.port, "second") as second:
                desk.wait(job)
                assert made([second]).total() == 4
        ended = {a["id"]: a for a in desk.get(f"/jobs/{job}/attempts")["items"]}[attempt]
        assert ended["code"] == "node_lost"
        exactly_once(board, job, 4)

    def test_a_node_that_comes_back_in_time_goes_on(self, broker, desk):
        with crew(broker.port, seconds=0.7) as hands:
            job = desk.submit("1-2", chunk=2)
            desk.wait_busy(job)
            before = desk.job(job)["attempts"][0]["id"]
            for status in ("lost", "ready"):
                say(hands, status)
            desk.wait(job)
            attempts = desk.get(f"/jobs/{job}/attempts")["items"]
            assert [(a["id"], a["state"]) for a in attempts] == [(before, "done")]

    def test_a_silent_slots_lease_ends_and_its_frames_go_elsewhere(self, broker, board, desk):
        with crew(broker.port, "mute", seconds=1) as mute:
            job = desk.submit("1-2", chunk=2)
            desk.wait_busy(job)
            mute.report = lambda call: _never()  # type: ignore[method-assign]
            with crew(broker.port, "second") as second:
                desk.wait(job)
                assert made([second]).total() >= 1
        codes = {a["code"] for a in desk.get(f"/jobs/{job}/attempts")["items"] if a["node"] == "mute"}
        assert codes == {"lease"}

    def test_only_the_slot_that_has_an_attempt_may_speak_of_it(self, broker, board, desk):
        link = Link(client_id="thief", endpoint=Endpoint("127.0.0.1", broker.port))
        link.start()
        link.wait_connected(10)
        try:
            with crew(broker.port, seconds=5):
                job = desk.submit("1")
                attempt = desk.wait_busy(job)["attempts"][0]["id"]
                say = Address(link.site, BOARD, Leaf.COMMAND, Kind.WORKER, "attempt")
                done = {"attempt": attempt, "slot": "s0", "events": [{"seq": 1, "t": 1.0, "what": "done"}]}
                with pytest.raises(Forbidden):
                    link.call(say, done, timeout=5).result()
                with pytest.raises(NotFound):
                    link.call(say, done | {"attempt": "void"}, timeout=5).result()
                with pytest.raises(CallboardError, match="attempt"):
                    link.call(say, {"slot": "s0"}, timeout=5).result()
                assert desk.job(job)["frames"]["done"] == 0
        finally:
            link.stop()


class TestCrashing:
    """kill -9."""

    def test_a_board_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice(
        self, broker, board, desk
    ):
        dice = random.Random(5)
        with crew(broker.port, "one", slots=2, seconds=0.02) as one, crew(broker.port, "two", slots=2) as two:
            two.seconds = 0.03
            job = desk.submit("1-200", chunk=3)
            for _ in range(3):
                time.sleep(dice.uniform(0.05, 0.4))  # a random moment is what is wanted
                board.kill()
                board.start()
            desk.wait(job, timeout=40)
            exactly_once(board, job, 200)
            begun = made([one, two])
            adopted = begun.total() - 200
            assert adopted < 20, f"{adopted} frames were made again: slots were not adopted"
        assert stored(board, "SELECT count(*) FROM farm_attempts WHERE ended IS NULL") == [(0,)]

    def test_what_runs_while_the_board_is_away_is_adopted(self, broker, board, desk):
        with crew(broker.port, seconds=0.5) as hands:
            job = desk.submit("1-4", chunk=4)
            desk.wait_busy(job)
            attempt = desk.job(job)["attempts"][0]["id"]
            board.kill()
            eventually(lambda: len(hands.hands[0].begun) >= 3)
            board.start()
            desk.wait(job)
            assert [a["id"] for a in desk.get(f"/jobs/{job}/attempts")["items"]] == [attempt]
            assert made([hands]).total() == 4

    def test_stopping_needs_no_saving(self, broker, board, desk):
        with crew(broker.port, seconds=0.01, slots=2):
            job = desk.submit("1-1000", chunk=1)
            desk.wait_busy(job)
            board.stop()
            done = stored(board, f"SELECT count(*) FROM farm_results WHERE job = {job}")[0][0]
            board.start()
            assert desk.job(job)["frames"]["done"] >= done


class TestSeeing:
    """What is shown."""

    def test_states_events_and_the_last_picture_are_on_mqtt(self, broker, board, desk):
        link = Link(client_id="watcher", endpoint=Endpoint("127.0.0.1", broker.port))
        seen: list[tuple[str, bytes]] = []
        news = threading.Event()

        def note(message: Any) -> None:
            seen.append((message.topic.removeprefix("callboard/board/"), message.payload))
            news.set()

        for what in ("state/job/+", "event/job", "stream/camera/last-rendered"):
            link.subscribe(f"callboard/board/{what}", note)
        link.start()
        link.wait_connected(10)
        try:
            with crew(broker.port, seconds=0.05) as hands:
                hands.file = lambda frame: file_of(board, JPEG, f"{frame}.png")
                job = desk.submit("1-10")
                desk.wait(job)
                states = lambda: [parse(State, p) for t, p in seen if t == f"state/job/{job}" and p]  # noqa: E731
                eventually(lambda: states()[-1:] and states()[-1].v == "done")
                assert states()[-1].data["frames"]["done"] == 10
                events = [json.loads(p)["data"]["what"] for t, p in seen if t == "event/job"]
                assert events == ["submitted", "started", "done"]
                eventually(lambda: ("stream/camera/last-rendered", JPEG) in seen)
                eventually(lambda: (f"state/job/{job}", b"") in seen)  # farm.state_keep later
        finally:
            link.stop()

    def test_logs_pictures_and_everything_as_a_zip(self, broker, board, desk):
        with crew(broker.port) as hands:
            hands.file = lambda frame: file_of(board, f"frame {frame}".encode(), f"frame-{frame:04d}.png")
            hands.lines = ["Blender 3.4", heading(1), "Saved: 'x.png'", heading(2), "Saved: 'y.png'"]
            job = desk.submit("1-3", name="Walk cycle")
            desk.wait(job)
        attempt = desk.get(f"/jobs/{job}/attempts")["items"][-1]
        with desk.http as client:
            log = client.get(f"/api/v1/jobs/{job}/attempts/{attempt['id']}/log")
            assert log.text.splitlines() == hands.lines
            of_two = client.get(f"/api/v1/jobs/{job}/attempts/{attempt['id']}/log", params={"frame": 2})
            assert of_two.text == "Blender 3.4\n--- frame 2 ---\nSaved: 'y.png'\n"
            assert client.get(f"/api/v1/jobs/{job}/attempts/none/log").status_code == 404
            assert client.get(f"/api/v1/jobs/{job}/frames/2/image").content == b"frame 2"
            assert client.get(f"/api/v1/jobs/{job}/frames/9/image").status_code == 404
            assert client.get(f"/api/v1/jobs/{job}/last").content == b"frame 3"
            assert client.get(f"/api/v1/jobs/{job}/video").status_code == 404
            archive = client.get(f"/api/v1/jobs/{job}/files.zip")
        assert 'filename="' + job + '-Walk-cycle.zip"' in archive.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
            assert opened.testzip() is None
            assert opened.namelist() == [f"frame-{n:04d}.png" for n in (1, 2, 3)]
            assert opened.read("frame-0002.png") == b"frame 2"
        results = desk.get(f"/jobs/{job}/results")["items"]
        assert [one["frame"] for one in results] == [1, 2, 3]

    def test_a_frame_whose_file_the_board_does_not_have_is_not_done(self, broker, board, desk):
        missing = {"artifact": {"sha256": "0" * 64, "size": 1, "type": "image/png", "url": "x"}}
        with crew(broker.port) as hands:
            hands.file = lambda frame: missing
            job = desk.submit("1")
            desk.wait_busy(job)
            eventually(lambda: hands.refused)
            assert "upload it first" in hands.refused[0]
            assert desk.job(job)["frames"]["done"] == 0

    def test_projects_hold_sequences_and_shots(self, board, desk):
        project = desk.post("/projects", {"name": "Film", "note": "short"})
        shot = desk.post("/projects", {"kind": "shot", "name": "s010", "parent": "Film"})
        desk.submit("1-4", project="Film", shot="s010")
        with desk.http as client:
            assert client.post("/api/v1/projects", json={"name": "Film"}).status_code == 409
            assert client.delete(f"/api/v1/projects/{shot['id']}").status_code == 409
            assert client.patch(f"/api/v1/projects/{shot['id']}", json={"name": "s020"}).is_success
        places = {one["name"]: one for one in desk.get("/projects")["items"]}
        assert places["s020"]["parent"] == project["id"]
        assert places["Film"]["frames"]["waiting"] == 4

    def test_a_viewer_sees_and_changes_nothing(self, board, desk):
        job = desk.submit("1")
        with board.client("viewer") as viewer:
            assert viewer.get(f"/api/v1/jobs/{job}").is_success
            assert viewer.post(f"/api/v1/jobs/{job}/act", json={"do": "cancel"}).status_code == 403
            assert viewer.post("/api/v1/jobs", json={"type": "render"}).status_code == 403
            read = {"item": "job", "action": "read", "filters": {"id": job}}
            assert viewer.post("/api/v1/farm/api", json=read).json()["count"] == 1
            change = {"item": "job", "action": "update", "filters": {"id": job}, "values": {"priority": 1}}
            assert viewer.post("/api/v1/farm/api", json=change).status_code == 403
            assert viewer.get("/api/v1/farm/settings").json()["lease"] == FARM["lease"]


def test_the_farm_works_on_postgresql(embedded, postgres, tmp_path):
    with board_process(
        tmp_path / "state", embedded.port, database=postgres.new_database(), farm=FARM
    ) as board:
        desk = Desk(board)
        with crew(embedded.port, slots=2, seconds=0.01) as hands:
            hands.lines = ["a line"]
            job = desk.submit("1-60", chunk=2, project="Film")
            desk.wait_busy(job)
            board.kill()
            board.start()
            desk.wait(job)
            desk.act(job, "requeue", what="frames", frames="1-3")
            desk.wait(job)
            assert set(desk.get(f"/jobs/{job}/frames")["states"]) == {"done"}
            assert len(desk.get(f"/jobs/{job}/results")["items"]) == 60
            desk.act(job, "delete")
        assert "Traceback" not in board.log


def test_a_full_disk_of_the_board_loses_no_frame(embedded, tmp_path):
    """On a real file system of 16 MiB."""
    state = tmp_path / "state"
    state.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", state], check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        with board_process(state, embedded.port, farm=FARM) as board, crew(embedded.port, slots=2) as hands:
            desk = Desk(board)
            hands.seconds, hands.lines = 0.02, [random.Random(n).randbytes(500).hex() for n in range(8)]
            job = desk.submit("1-200", chunk=5)
            desk.wait_busy(job)
            ballast = state / "ballast"
            with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            eventually(lambda: hands.refused)
            stuck = desk.job(job)["frames"]["done"]
            assert stuck < 200
            ballast.unlink()
            desk.wait(job, timeout=30)
            exactly_once(board, job, 200)
    finally:
        subprocess.run(["umount", "-l", state], check=True)


JOB_TYPE = '''"""A film: frames, then one file of them."""

from callboard_broker.services.farm.jobtypes import JobSettings, TaskSpec


class Settings(JobSettings):
    """Nothing."""


def tasks(job, settings):
    frames = TaskSpec(name="frames", engine="simulated", frames="1-5", chunk=1)
    film = TaskSpec(name="film", engine="simulated", work="single", inputs_from=["frames"], inputs=[])
    return [film, frames]
'''


def file_of(board: BoardProcess, data: bytes, name: str) -> dict[str, Any]:
    """Upload as a slot does, and return what its event says."""
    digest = sha256(data).hexdigest()
    kind = "image/jpeg" if data is JPEG else "image/png"
    with board.client("node") as client:
        answer = client.put(f"/api/v1/artifacts/{digest}", content=data, headers={"Content-Type": kind})
        assert answer.is_success, answer.text
    return {"artifact": answer.json(), "thumbnail": answer.json(), "name": name}


def say(hands: Crew, status: str) -> None:
    from callboard_core.messages import Status, StatusName
    from callboard_core.topics import status as topic

    found = Status(status=StatusName(status), epoch=1, t=time.time(), instance=hands.presence.instance)
    hands.link.publish(topic("callboard", hands.node), found, qos=1, retain=True).result(5)


def _never() -> Any:
    from concurrent.futures import Future

    future: Future[Any] = Future()
    future.set_exception(CallboardError("nobody hears"))
    return future
