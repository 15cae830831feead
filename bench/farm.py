"""The farm's promises, on a real board, a real broker and real nodes; the promised bar beside each number.

    python bench/farm.py                everything; takes some minutes
    python bench/farm.py --only gap     one part: gap, tasks, blender, restart or pass
    python bench/farm.py --quick        fewer tasks and frames
    python bench/farm.py --no-peers     without Celery and Dask

Gaps are taken from what the slots themselves say of when a task ended and the next one began. The scheduler's pass is
pure computing and given as processor time, the rest is time on the wall. The Blender rows need Debian's `blender`; those
of Celery and Dask need `redis-server` and a package index, and what cannot be had is said.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import peers  # noqa: E402
from load import processor  # noqa: E402

from callboard_broker.services.farm.lineup import Lineup  # noqa: E402
from callboard_broker.services.farm.model import Slot  # noqa: E402
from callboard_broker.services.farm.rules import Offer, Queue, Usage  # noqa: E402
from callboard_broker.services.farm.schedule import plan  # noqa: E402
from callboard_broker.services.farm.strip import SEGMENT  # noqa: E402
from callboard_broker.store import cards, nodes  # noqa: E402
from callboard_broker.store import farm as store  # noqa: E402
from callboard_broker.store.database import Database  # noqa: E402
from callboard_broker.store.nodes import NodeRecord  # noqa: E402
from callboard_core.calls.envelopes import read_call  # noqa: E402
from callboard_core.cards import NodeCard, SlotCard  # noqa: E402
from callboard_core.farm.requests import JobRequest  # noqa: E402
from callboard_core.link import Endpoint, Link, Message  # noqa: E402
from callboard_core.settings import Settings  # noqa: E402
from support.boards import BoardProcess, board_process, eventually  # noqa: E402
from support.engines import running  # noqa: E402
from support.farm import Agent, make_scene  # noqa: E402
from support.farm_alone import FarmAlone  # noqa: E402
from support.farmhands import crew  # noqa: E402

PARTS = ("gap", "tasks", "blender", "restart", "pass")
NODES, JOBS, FRAMES = 10_000, 1_000, 1_000
SCENE = """
scene.render.resolution_x, scene.render.resolution_y = 320, 180
scene.cycles.samples = 4
"""


@dataclass(frozen=True)
class Row:
    """One measured number and what was promised, in the same unit; None: nothing was."""

    what: str
    value: float
    bar: float | None
    unit: str
    least: bool = False

    def __str__(self) -> str:
        measured = f"{self.what:62} {self.value:>10,.2f} {self.unit:7}"
        if self.bar is None:
            return measured
        met = self.value >= self.bar if self.least else self.value <= self.bar
        return f"{measured} {'≥' if self.least else '≤'} {self.bar:>8,.2f}  {'met' if met else 'NOT MET'}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, help="measure one part")
    parser.add_argument("--quick", action="store_true", help="fewer tasks and frames")
    parser.add_argument("--no-peers", action="store_true", help="leave Celery and Dask out")
    parser.add_argument("--cache", type=Path, default=peers.CACHE, help="for what is installed")
    wanted = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
    measures: dict[str, Callable[[bool], Iterator[Row]]] = {
        "pass": scheduler_pass,
        "gap": gap,
        "tasks": lambda quick: tasks(quick, None if wanted.no_peers else wanted.cache),
        "restart": restart,
        "blender": blender,
    }
    for name, measure in measures.items():
        if wanted.only in {None, name}:
            for row in measure(wanted.quick):
                print(row, flush=True)


# -- gaps and tasks ---------------------------------------------------------------------------------------------


class Ear:
    """Hears what slots tell the board: when each task began and ended, by the slot's own clock."""

    def __init__(self, port: int) -> None:
        self.began: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.ended: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._seen: set[tuple[str, int]] = set()
        self.link = Link(client_id="ear", endpoint=Endpoint("127.0.0.1", port))
        self.link.subscribe("callboard/board/command/worker/attempt", self._hear, qos=0)
        self.link.start()
        self.link.wait_connected(10)

    def _hear(self, message: Message) -> None:
        call = read_call(message.payload)
        slot = (str(call.reply_to), str(call.args["slot"]))
        for event in call.args.get("events", []):  # type: ignore[union-attr]
            key = (str(call.args["attempt"]), int(event["seq"]))  # type: ignore[index,call-overload,arg-type]
            if key in self._seen:
                continue
            self._seen.add(key)
            if event["what"] == "started":  # type: ignore[index,call-overload]
                self.began[slot].append(event["t"])  # type: ignore[index,call-overload,arg-type]
            elif event["what"] == "done":  # type: ignore[index,call-overload]
                self.ended[slot].append(event["t"])  # type: ignore[index,call-overload,arg-type]

    def gaps(self) -> list[float]:
        found: list[float] = []
        for slot, ended in self.ended.items():
            began = sorted(self.began[slot])
            for end in sorted(ended)[:-1]:
                after = next((start for start in began if start >= end), None)
                if after is not None:
                    found.append(after - end)
        return sorted(found)

    def rate(self) -> float:
        """Tasks a second between the first and the last tenth of them."""
        times = sorted(t for ended in self.ended.values() for t in ended)
        cut = len(times) // 10
        inner = times[cut:-cut] if cut else times
        return (len(inner) - 1) / (inner[-1] - inner[0])


@contextlib.contextmanager
def farm(slots: str, count: int = 1) -> Iterator[tuple[BoardProcess, Ear, list[Agent]]]:
    """A board, a broker and nodes with slots that pretend, each a process."""
    with tempfile.TemporaryDirectory(prefix="farm-") as folder, running("embedded") as engine:
        home = Path(folder)
        with board_process(home / "state", engine.port) as board:
            agents = [
                Agent(home / f"node-{n}", node_settings(home / f"node-{n}", f"node-{n}", engine.port, slots))
                for n in range(count)
            ]
            ear = Ear(engine.port)
            try:
                for agent in agents:
                    agent.start()
                yield board, ear, agents
            finally:
                for agent in agents:
                    agent.kill()
                ear.link.stop()


def node_settings(home: Path, node: str, port: int, slots: str) -> Settings:
    return Settings.model_validate(
        {
            "state": home,
            "discovery": {"enabled": False},
            "node": {
                "id": node,
                "board": f"mqtt://127.0.0.1:{port}",
                "builtin_sensors": False,
                "state": home / "node",
                "username": "node",
                "password": "node-password",
                "farm": {"slots": slots, "min_free_mb": 1},
            },
        }
    )


def render(board: BoardProcess, frames: int, *, timeout: float = 300, **settings: Any) -> tuple[str, float]:
    """Submit a job and wait until it is done; return its id and how long that took."""
    with board.client() as client:
        body = {"type": "render", "settings": {"engine": "simulated", "frames": f"1-{frames}"} | settings}
        began = time.monotonic()
        answer = client.post("/api/v1/jobs", json=body)
        assert answer.is_success, answer.text
        job = answer.json()["job"]
        eventually(
            lambda: client.get(f"/api/v1/jobs/{job}").json()["state"] == "done", timeout=timeout, every=0.2
        )
        return job, time.monotonic() - began


def gap(quick: bool) -> Iterator[Row]:
    with farm("simulated=1") as (board, ear, _):
        count = 200 if quick else 1000
        render(board, 20, chunk=1)
        ear.began.clear()
        ear.ended.clear()
        render(board, count, chunk=1)
        time.sleep(0.5)  # what was heard last is on its way
        gaps = [1000 * one for one in ear.gaps()]
        yield Row(
            f"gap between two frames on one slot, {len(gaps)} frames, p50", statistics.median(gaps), 20, "ms"
        )
        yield Row("the same, p95", statistics.quantiles(gaps, n=100)[94], 50, "ms")
        yield Row("tasks on one slot", ear.rate(), None, "/s")


def tasks(quick: bool, cache: Path | None) -> Iterator[Row]:
    count = 2000 if quick else 6000
    with (
        running("embedded") as engine,
        tempfile.TemporaryDirectory(prefix="farm-") as folder,
        board_process(Path(folder) / "state", engine.port) as board,
        crew(engine.port, slots=200),
    ):
        render(board, 400, chunk=1)
        before = processor.seconds([board.pid])
        _, seconds = render(board, count, chunk=1)
        spent = processor.seconds([board.pid]) - before
        text = f"{count} tasks of 0 ms through 200 slots that only keep the protocol"
        yield Row(text, count / seconds, 200, "/s", least=True)
        yield Row("processor time of the board for one task", 1000 * spent / count, None, "ms")
    with farm("simulated=50", 4) as (board, ear, agents):
        render(board, 400, chunk=1)
        ear.began.clear()
        ear.ended.clear()
        pids = [board.pid, *(agent.process.pid for agent in agents if agent.process is not None)]
        before = processor.seconds(pids)
        _, seconds = render(board, count, chunk=1)
        spent = processor.seconds(pids) - before
        yield Row("the same through 200 slots of four real nodes", ear.rate(), 200, "/s", least=True)
        yield Row("the same, from submitting to the last frame", count / seconds, None, "/s")
        yield Row("processor time of board and nodes for one task", 1000 * spent / count, None, "ms")
    if cache is not None:
        yield from others(count, cache)


def others(count: int, cache: Path) -> Iterator[Row]:
    """As many tasks that do nothing, from submitting to the last result; nothing of them is on a disk."""
    for name, measure in {
        "Celery 5.5.3, Redis, 2 worker processes": peers.celery_rate,
        "Dask distributed 2025.9.1, 2 worker processes": peers.dask_rate,
    }.items():
        found = measure(cache, count)
        if isinstance(found, peers.Missing):
            print(f"{name}: not measured; {found.why}", flush=True)
        else:
            yield Row(f"{count} tasks of {name}", found, None, "/s")


# -- Blender ----------------------------------------------------------------------------------------------------


def blender(quick: bool) -> Iterator[Row]:
    if shutil.which("blender") is None:
        print("blender is not installed: its rows are left out")
        return
    with tempfile.TemporaryDirectory(prefix="scene-") as folder:
        scene = make_scene(Path(folder) / "scene.blend", SCENE)
        argv = [
            "blender",
            "-b",
            str(scene),
            "-o",
            f"{folder}/frame-####",
            "-F",
            "PNG",
            "-s",
            "1",
            "-e",
            "24",
            "-a",
        ]
        ways = {
            ("auto", 0): ("what a node offers by itself, cut automatically", 1.15),
            ("blender=1", 24): ("a process for each task, one task", 1.15),
            ("blender=1", 0): ("a process for each task, cut automatically", None),
        }
        alone, took = [], defaultdict(list)
        for _ in range(1 if quick else 3):  # by turns, since a machine is not equally fast all the time
            alone.append(_seconds(argv))
            for slots, chunk in ways:
                with farm(slots) as (board, _ear, _agents):
                    took[slots, chunk].append(_render_scene(board, scene, chunk))
        yield Row("24 frames by one `blender -a`, best", min(alone), None, "s")
        for way, (text, bar) in ways.items():
            yield Row(f"24 frames, one slot: {text}", min(took[way]) / min(alone), bar, "times")


def _seconds(argv: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def _render_scene(board: BoardProcess, scene: Path, chunk: int) -> float:
    data = scene.read_bytes()
    digest = sha256(data).hexdigest()
    with board.client() as client:
        answer = client.put(f"/api/v1/artifacts/{digest}", content=data)
        assert answer.is_success, answer.text
        eventually(
            lambda: any(slot["slot"] == "blender" for slot in client.get("/api/v1/farm").json()["slots"]),
            timeout=60,
        )
        body = {
            "type": "render",
            "inputs": [{"name": "scene.blend", "artifact": answer.json()}],
            "settings": {"frames": "1-24", "chunk": chunk},
        }
        submitted = client.post("/api/v1/jobs", json=body)
        assert submitted.is_success, submitted.text
        job = submitted.json()["job"]

        def over() -> dict[str, Any] | None:
            found: dict[str, Any] = client.get(f"/api/v1/jobs/{job}").json()
            assert found["state"] != "failed", found["reason"]
            return found if found["state"] == "done" else None

        # Seldom: to be asked costs the board time that the renderer could have.
        found = eventually(over, timeout=300, every=0.5)
        return float(found["ended"] - found["created"])


# -- restart ----------------------------------------------------------------------------------------------------


def restart(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="farm-") as folder, running("embedded") as engine:
        state = Path(folder) / "state"
        jobs = JOBS // 10 if quick else JOBS
        fill(state, jobs)
        text = f"{NODES:,} nodes and {jobs * FRAMES:,} frames"
        with crew(engine.port, "alive") as hands:
            board = BoardProcess(state, engine.port)
            began = time.monotonic()
            try:
                board.start()
                eventually(lambda: hands.hands[0].begun, timeout=60, every=0.01)
                yield Row(f"restart with {text} to the first frame", time.monotonic() - began, 5, "s")
                yield Row("of it, processor time of the board", processor.seconds([board.pid]), None, "s")
                rss = int(Path(f"/proc/{board.pid}/statm").read_text().split()[1]) * os.sysconf(
                    "SC_PAGE_SIZE"
                )
                yield Row("the board's memory then", rss / 2**20, None, "MiB")
            finally:
                board.kill()
        began = time.monotonic()
        alone = FarmAlone(state)
        yield Row("of it, loading the farm", time.monotonic() - began, None, "s")
        began = time.monotonic()
        alone.farm.stop()
        yield Row("saving at shutdown", time.monotonic() - began, 0.1, "s")
        alone.database.close()


def fill(state: Path, jobs: int) -> None:
    """Write what a large farm has when half of it is done: every node known, every job half rendered."""
    state.mkdir(parents=True, exist_ok=True)
    first = FarmAlone(state)
    asked = {"type": "render", "settings": {"engine": "simulated", "frames": f"1-{FRAMES}"}}
    first.farm.submit(JobRequest.model_validate(asked), "ann")
    first.end()
    database = Database(f"sqlite:///{state}/board.db")
    with database.read() as connection:
        model = store.load(connection).jobs[0]
    half = bytes([3]) * (FRAMES // 2) + bytes(FRAMES - FRAMES // 2) + bytes(FRAMES)
    assert FRAMES <= SEGMENT
    now = time.time()
    with database.write() as connection:
        changes = store.Changes()
        for job in range(1, jobs + 1):
            document = json.loads(model.document)
            document["ticket"] |= {"name": f"job {job}", "owner": f"owner-{job % 20}"}
            changes.jobs[job] = {
                "id": job,
                "state": "queued",
                "document": json.dumps(document | {"order": float(job)}),
                "spec": model.spec,
            }
            changes.segments[job, 0, 0] = {"job": job, "step": 0, "segment": 0, "states": half}
            for frame in range(1, FRAMES // 2 + 1):
                changes.results[job, 0, frame] = {
                    "job": job,
                    "step": 0,
                    "frame": frame,
                    "attempt": f"{job}-{frame}",
                    "t": now,
                    "seconds": 1.0,
                    "width": 1920,
                    "height": 1080,
                    "artifact": None,
                    "thumbnail": None,
                }
        for number in range(NODES):
            node = f"node-{number}"
            slot = Slot(
                node,
                "simulated-1",
                SlotCard(name="simulated-1", epoch=1, engine="simulated"),
                Offer(key=(node, "")),
            )
            changes.slots[node, "simulated-1"] = slot.row()
            card = NodeCard(name=node, epoch=1, version="1").model_dump_json()
            nodes.save(connection, NodeRecord(node, now, now, now, card, "lost", 1, 0.0))
            cards.save(connection, (node, "slot", "simulated-1"), slot.row()["card"], now)
        store.save(connection, changes)
    database.close()


# -- the scheduler's pass ---------------------------------------------------------------------------------------


def scheduler_pass(quick: bool) -> Iterator[Row]:
    del quick
    many = Lineup(
        Queue(
            key=(str(job), 0),
            owner=f"owner-{job % 50}",
            priority=50 + job % 3,
            order=job,
            engine="blender",
            ready=1,
        )
        for job in range(10_000)
    )
    one = Lineup([Queue(key=("1", 0), engine="blender", ready=10_000, chunk=1)])
    kinds = {
        "1,000 idle slots": (many, 2),
        "1,000 busy slots that get one ahead": (many, 1),
        "1,000 slots, one of them free": (many, 0),
        "of one job, 1,000 idle slots that work on it": (one, 2),
    }
    for text, (lineup, room) in kinds.items():
        offers = [
            Offer(key=(f"node-{n}", "a"), engine="blender", room=2 if n == 0 else room, eta=1.0, at="1")
            for n in range(1000)
        ]
        took = []
        for _ in range(20):
            began = time.process_time()
            picks = plan(lineup, offers, Usage(now=1.0))
            took.append(1000 * (time.process_time() - began))
        assert len(picks) == (1000 if room else 1)
        yield Row(f"scheduler pass, 10,000 queued tasks, {text}", statistics.median(took), 50, "ms")


if __name__ == "__main__":
    main()
