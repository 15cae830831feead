"""For tests of slots: a board that only hands out attempts and writes down what becomes of them, and scenes to render."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from callboard_core.callee import Callee, Request
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.cards import NodeCard
from callboard_core.errors import NotFound, Unavailable
from callboard_core.farm.messages import Assignment, AttemptCall, AttemptReply, Input, Output, as_args
from callboard_core.link import Endpoint, Link
from callboard_core.presence import Presence, new_instance
from callboard_core.processes import dying_with_parent
from callboard_core.settings import Settings
from callboard_core.topics import Kind
from callboard_nodes.slots.bank import Bank
from support.nodes import Observer

__all__ = ["Agent", "Farm", "FolderStore", "assignment", "blend", "farm_node", "make_scene", "scene"]

_NUMBERS = itertools.count(1)


class FolderStore:
    """Artifacts in a folder; ``down`` makes it fail, ``delay`` makes it slow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.down: Exception | None = None
        self.delay = 0.0
        self.fetched: list[str] = []
        self.reached = 0

    def reach(self) -> None:
        self.reached += 1
        if self.down is not None:
            raise self.down

    def path(self, ref: ArtifactRef | dict[str, Any]) -> Path:
        sha = ref["sha256"] if isinstance(ref, dict) else ref.sha256
        return self.folder / str(sha)

    def put(self, data: bytes, *, type: str = "application/octet-stream") -> ArtifactRef:  # noqa: A002
        if self.down is not None:
            raise self.down
        time.sleep(self.delay)
        sha = hashlib.sha256(data).hexdigest()
        (self.folder / sha).write_bytes(data)
        return ArtifactRef(sha256=sha, size=len(data), type=type, url=f"/api/v1/artifacts/{sha}")

    def put_file(self, path: Path, *, type: str | None = None, progress: Any = None) -> ArtifactRef:  # noqa: A002
        return self.put(path.read_bytes(), type=type or "application/octet-stream")

    def get(self, ref: ArtifactRef) -> bytes:
        if self.down is not None:
            raise self.down
        try:
            return self.path(ref).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"there is no artifact {ref.sha256}") from None

    def get_file(self, ref: ArtifactRef, path: Path, *, progress: Any = None) -> Path:
        self.fetched.append(ref.sha256)
        path.write_bytes(self.get(ref))
        return path


class Farm:
    """A board with the worker ``attempt``: events are kept by attempt, gapless and once each."""

    def __init__(self, endpoint: Endpoint, *, lease: float = 30.0) -> None:
        self.lease = lease
        self.calls: list[AttemptCall] = []
        self.events: dict[str, list[Any]] = {}
        self.unwanted: set[str] = set()
        self.taken_back: set[str] = set()
        self.silent = False
        self.beats: dict[str, int] = {}
        self.on_event: Callable[[str, Any], object] = lambda attempt, event: None
        self._changed = threading.Condition()
        self.link = Link(client_id="board", endpoint=endpoint)
        card = NodeCard(name="board", epoch=1, version="1")
        self._presence = Presence(self.link, card=card, epoch=1, instance=new_instance())
        self._callee = Callee(self.link, self._presence)
        self._callee.handle(Kind.WORKER, "attempt", self._take, concurrency=50)
        self.link.start()
        self.link.wait_connected(10)

    def _take(self, request: Request) -> Any:
        call = AttemptCall.model_validate(dict(request.args))
        if self.silent:
            raise Unavailable("the board is busy with itself")
        with self._changed:
            if call.attempt in self.unwanted:
                raise NotFound(f"there is no attempt {call.attempt}")
            self.calls.append(call)
            if not call.events:
                self.beats[call.attempt] = self.beats.get(call.attempt, 0) + 1
            known = self.events.setdefault(call.attempt, [])
            for event in call.events:
                if event.seq <= len(known):
                    continue
                assert event.seq == len(known) + 1, f"a gap before {event}"
                known.append(event)
            self._changed.notify_all()
        for event in call.events:
            self.on_event(call.attempt, event)
        return as_args(AttemptReply(seq=len(known), lease=self.lease, cancel=call.attempt in self.taken_back))

    def what(self, attempt: str) -> list[str]:
        """The kinds of an attempt's events, without log and progress."""
        with self._changed:
            return [one.what for one in self.events.get(attempt, ()) if one.what not in {"log", "progress"}]

    def frames(self, attempt: str) -> list[Any]:
        with self._changed:
            return [one for one in self.events.get(attempt, ()) if one.what == "frame"]

    def wait(self, attempt: str, what: str, timeout: float = 20.0) -> Any:
        """Wait for an event and return it."""
        return self.wait_for(
            lambda: next((one for one in self.events.get(attempt, ()) if one.what == what), None),
            timeout,
            attempt,
        )

    def end(self, attempt: str, timeout: float = 30.0) -> Any:
        """Wait for the event that ends an attempt."""
        return self.wait_for(
            lambda: next(
                (one for one in self.events.get(attempt, ()) if one.what in {"done", "failed", "cancelled"}),
                None,
            ),
            timeout,
            attempt,
        )

    def wait_for(self, look: Callable[[], Any], timeout: float, attempt: str = "") -> Any:
        with self._changed:
            assert self._changed.wait_for(look, timeout), f"only {self.events.get(attempt)}"
            return look()

    def close(self) -> None:
        self._callee.close()
        self.link.stop(farewell=self._presence.farewell())


class Desk:
    """The parts of a running node that slots use."""

    def __init__(self, endpoint: Endpoint | Callable[[], Endpoint], node: str) -> None:
        self.link = Link(client_id=node, endpoint=endpoint)
        card = NodeCard(name=node, epoch=1, version="1")
        self.presence = Presence(self.link, card=card, epoch=1, instance=new_instance())
        self.callee = Callee(self.link, self.presence)


class FarmNode:
    """Slots on a link of their own, and somebody who gives them orders."""

    def __init__(self, bank: Bank, store: FolderStore, observer: Observer, node: str) -> None:
        self.bank, self.store, self.observer, self.node = bank, store, observer, node

    async def order(self, slot: str, do: str, **args: Any) -> Any:
        call = self.observer.begin(self.node, "slot", slot, do=do, **args)
        return await asyncio.wrap_future(call)

    async def assign(self, slot: str, given: Assignment) -> Any:
        return await self.order(slot, "assign", assignment=as_args(given))

    async def state(self, slot: str, *wanted: str, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
        ending = f"{self.node}/state/slot/{slot}"
        return await asyncio.to_thread(
            self.observer.wait_for,
            lambda: next((one for one in self.observer.of(ending)[-1:] if one and one["v"] in wanted), None),
            timeout,
        )


@asynccontextmanager
async def farm_node(
    endpoint: Endpoint,
    folder: Path,
    *,
    node: str = "render-1",
    slots: str = "auto",
    search: str | None = None,
    observer: Observer | None = None,
    tables: list[dict[str, Any]] | None = None,
    commands: list[dict[str, Any]] | None = None,
    **farm: Any,
) -> AsyncIterator[FarmNode]:
    """Slots of a node on a broker."""
    settings = Settings(
        state=folder / "state",
        node={"id": node, "farm": {"slots": slots, "min_free_mb": 1, **farm}},
        slots=tables or [],
        commands=commands or [],
    )
    desk = Desk(endpoint, node)
    store = FolderStore(folder / "artifacts")
    desk.link.artifacts = store  # type: ignore[assignment]
    bank = Bank(desk, settings, folder / node, search=search)  # type: ignore[arg-type]
    watching = observer or Observer(endpoint, f"observer-{node}")
    try:
        bank.start()
        desk.link.start()
        await asyncio.to_thread(desk.link.wait_connected, 10)
        yield FarmNode(bank, store, watching, node)
    finally:
        await bank.stop()
        await asyncio.to_thread(desk.callee.close)
        await asyncio.to_thread(desk.link.stop)
        if observer is None:
            await asyncio.to_thread(watching.close)


def assignment(engine: str, frames: list[int] | None = None, **more: Any) -> Assignment:
    """An assignment with a fresh id."""
    number = next(_NUMBERS)
    given: dict[str, Any] = {
        "attempt": f"attempt-{number}",
        "job": "job-1",
        "task": f"job-1-{number}",
        "engine": engine,
        "work": "single" if frames is None else "frames",
        "frames": frames or [],
        "lease": 30.0,
        "output": Output(format="png", pattern="output.bin" if frames is None else "frame-####.png"),
        **more,
    }
    return Assignment.model_validate(given)


def inputs(store: FolderStore, *files: Path) -> list[Input]:
    """Store files, and return them as inputs."""
    return [Input(name=file.name, artifact=store.put(file.read_bytes())) for file in files]


class Agent:
    """A node's agent as a process; its state outlives a kill.

    Args:
        folder: where its state and its output lie.
        settings: what it runs with.
        store: a folder of artifacts; the board's when None.
    """

    def __init__(self, folder: Path, settings: Settings, store: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "settings.json"
        file.write_text(settings.model_dump_json())
        child = Path(__file__).with_name("farm_child.py")
        self.log = folder / "agent.log"
        self._argv = [sys.executable, str(child), str(file), *([str(store)] if store is not None else [])]
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it is on the board."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one prctl call
            )
        if wait:
            assert self.process.stdout is not None
            assert self.process.stdout.readline() == "ready\n", self.log.read_text()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it with a signal."""
        process, self.process = self.process, None
        if process is not None and process.stdout is not None:
            process.send_signal(number)
            process.wait(10)
            process.stdout.close()


SCENE = """
import bpy, sys
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.device, scene.cycles.use_denoising = 1, "CPU", False
scene.render.resolution_x = scene.render.resolution_y = 64
scene.render.resolution_percentage = 100
scene.frame_start, scene.frame_end = 1, 24
cube = bpy.data.objects["Cube"]
cube.rotation_euler[2] = 0
cube.keyframe_insert("rotation_euler", frame=1)
cube.rotation_euler[2] = 3
cube.keyframe_insert("rotation_euler", frame=24)
exec(sys.argv[sys.argv.index("--") + 2])
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[sys.argv.index("--") + 1], compress=True)
"""


def make_scene(path: Path, change: str = "") -> Path:
    """Have Blender write its first cube, turning, as 64x64 pixels; ``change`` is Python run before it is saved."""
    script = path.with_suffix(".py")
    script.write_text(SCENE)
    argv = [
        "blender",
        "--background",
        "--factory-startup",
        "--python-exit-code",
        "9",
        "--python",
        str(script),
    ]
    subprocess.run([*argv, "--", str(path), change], check=True, stdout=subprocess.DEVNULL, timeout=120)
    return path


@pytest.fixture(scope="session")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The test's .blend, made once."""
    folder = tmp_path_factory.mktemp("scene")
    yield make_scene(folder / "cube.blend")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene for POV-Ray."""
    path = tmp_path_factory.mktemp("pov") / "ball.pov"
    path.write_text(
        "#version 3.7;\nglobal_settings { assumed_gamma 1 }\n"
        "camera { location <0,2,-5> look_at 0 }\nlight_source { <5,5,-5> color rgb 1 }\n"
        "sphere { <clock,0,0>, 1 pigment { color rgb <1,0,0> } }\n"
    )
    return path
