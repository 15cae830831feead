"""The whole farm on one machine: a board process, a broker, nodes as processes, real renderers, and kills at random."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from callboard_core.artifacts import HttpArtifacts
from callboard_core.link import Credential, Endpoint
from callboard_core.settings import Settings
from callboard_nodes.slots.engines.simulated import png
from callboard_nodes.slots.guard import marked
from support.boards import PASSWORDS, BoardProcess, board_process, eventually
from support.farm import Agent, blend
from support.mosquitto import durable

__all__ = ["blend", "durable"]

ROUNDS = 30 if os.environ.get("CALLBOARD_LONG") else 1
FRAMES = 200


#: Takes a picture's time, and makes the one that is expected, in a process that can be killed.
PAINT = 'sleep 0.05; exec cp "$1/$(basename "$2")" "$2"'


def make_agent(folder: Path, endpoint: Endpoint, node: str, slots: str) -> Agent:
    settings = Settings(
        state=folder / "state",
        node={
            "id": node,
            "board": str(endpoint),
            "username": "node",
            "password": PASSWORDS["node"],
            "builtin_sensors": False,
            "farm": {"slots": slots, "min_free_mb": 1},
        },
    )
    argv = ["/bin/sh", "-c", PAINT, "sh", str(folder.parent / "pictures"), "{output}"]
    copy = {"name": "copy", "argv": ["/bin/cp", "{main}", "{output}"]}
    settings.commands = [{"name": "paint", "argv": argv}, copy]
    return Agent(folder, settings)


@pytest.fixture
def board(durable, tmp_path) -> Iterator[BoardProcess]:
    with board_process(tmp_path / "board", durable.port) as found:
        yield found


@pytest.fixture
def agents(durable, tmp_path, board) -> Iterator[dict[str, Agent]]:
    """Two nodes, not started."""
    slots = {"render-1": "blender=1,command=2", "render-2": "blender=1,ffmpeg=1,command=2"}
    made = {node: make_agent(tmp_path / node, durable.endpoint, node, what) for node, what in slots.items()}
    yield made
    for agent in made.values():
        agent.kill(signal.SIGTERM)
    assert not renderers(tmp_path), "renderers are left"


def renderers(folder: Path) -> list[int]:
    """Processes of our nodes' renderers; another run of these tests may have nodes of the same names."""
    found = []
    for pid in marked("callboard/render-"):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder):
                found.append(pid)
    return sorted(found)


def submit(client: httpx.Client, kind: str, settings: dict[str, Any], *files: Path) -> str:
    store = HttpArtifacts(str(client.base_url), Credential("operator", PASSWORDS["operator"]))
    inputs = [{"name": one.name, "artifact": store.put_file(one).model_dump()} for one in files]
    store.close()
    answer = client.post("/api/v1/jobs", json={"type": kind, "settings": settings, "inputs": inputs})
    return str(answer.raise_for_status().json()["job"])


def job_of(client: httpx.Client, job: str) -> Any:
    return client.get(f"/api/v1/jobs/{job}").raise_for_status().json()


def test_two_nodes_render_a_scene_with_blender_and_a_video_is_made_of_it(board, agents, blend):
    for agent in agents.values():
        agent.start()
    with board.client() as client:
        job = submit(client, "render-video", {"frames": "1-12", "chunk": 3, "samples": 1}, blend)
        eventually(lambda: job_of(client, job)["state"] in {"done", "failed"}, timeout=90, every=0.1)
        found = job_of(client, job)
        attempts = client.get(f"/api/v1/jobs/{job}/attempts").json()["items"]
        assert found["state"] == "done", (found, attempts)
        assert {one["node"] for one in attempts if one["step"] == "render"} == set(agents)
        images = set()
        for frame in range(1, 13):
            image = client.get(f"/api/v1/jobs/{job}/frames/{frame}/image").raise_for_status().content
            assert Image.open(io.BytesIO(image)).size == (64, 64)
            images.add(hashlib.sha256(image).hexdigest())
        assert len(images) == 12, "the cube does not turn"
        archive = client.get(f"/api/v1/jobs/{job}/files.zip").raise_for_status().content
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            assert sum(name.endswith(".png") for name in files.namelist()) == 12


def test_a_scene_with_a_flipped_bit_on_the_boards_disk_is_not_rendered_until_it_is_sent_again(
    board, agents, tmp_path
):
    scene = tmp_path / "scene.bin"
    scene.write_bytes(b"all is well" * 1000)
    digest = hashlib.sha256(scene.read_bytes()).hexdigest()
    with board.client() as client:
        job = submit(client, "command", {"command": "copy", "output": "made.bin"}, scene)
        kept = board.state / "artifacts" / digest[:2] / digest
        kept.write_bytes(b"ALL is well" + kept.read_bytes()[11:])
        agents["render-1"].start()
        eventually(lambda: job_of(client, job)["state"] == "failed", timeout=20, every=0.1)
        assert digest in job_of(client, job)["reason"]
        submit(client, "command", {"command": "copy", "output": "made.bin"}, scene)
        client.post(f"/api/v1/jobs/{job}/act", json={"do": "requeue"}).raise_for_status()
        eventually(lambda: job_of(client, job)["state"] == "done", timeout=20, every=0.1)
        (made,) = client.get(f"/api/v1/jobs/{job}/results").json()["items"]
        assert made["artifact"]["sha256"] == digest


def picture(name: str) -> bytes:
    """A frame as it must come out."""
    return png(16, 16, seed=zlib.crc32(name.encode()))


class Chaos:
    """Kills what there is, each once and in any order, and starts it again."""

    def __init__(
        self, seed: int, board: BoardProcess, broker: Any, agents: dict[str, Agent], folder: Path
    ) -> None:
        self.folder = folder
        self.dice = random.Random(seed)
        self.victims = {"board": board, "broker": broker, **agents}
        self.left = [*self.victims, "renderer", "renderer"]
        self.dice.shuffle(self.left)
        self.log: list[str] = []

    def strike(self) -> None:
        name = self.left.pop()
        self.log.append(name)
        if name == "renderer":
            self._kill_renderer()
            return
        victim = self.victims[name]
        victim.kill()
        time.sleep(self.dice.uniform(0, 0.5))  # the outage itself
        if isinstance(victim, Agent):
            victim.start(wait=False)
        else:
            victim.start()

    def _kill_renderer(self) -> None:
        with contextlib.suppress(IndexError, ProcessLookupError):  # none works at this moment
            os.kill(self.dice.choice(renderers(self.folder)), signal.SIGKILL)
            self.log[-1] = "renderer that works"


@pytest.mark.timeout(90 * ROUNDS)
def test_through_kills_of_everything_every_frame_is_there_once_and_right(board, durable, agents, tmp_path):
    (tmp_path / "pictures").mkdir()
    for frame in range(1, FRAMES + 1):
        name = f"frame-{frame:04d}.png"
        (tmp_path / "pictures" / name).write_bytes(picture(name))
    for agent in agents.values():
        agent.start()
    killed = 0
    for number in range(ROUNDS):
        chaos = Chaos(number, board, durable, agents, tmp_path)
        with board.client() as client:
            wanted = {"command": "paint", "frames": f"1-{FRAMES}", "output": "frame-####.png"}
            job = submit(client, "command", wanted)
        deadline = time.monotonic() + 80
        while (found := still(board, job)) is None or found["state"] not in {"done", "failed"}:
            assert time.monotonic() < deadline, (chaos.log, found)
            time.sleep(chaos.dice.uniform(0.1, 0.8))
            if chaos.left:
                chaos.strike()
        assert found["state"] == "done", (chaos.log, found)
        assert found["frames"]["done"] == FRAMES, (chaos.log, found)
        check_results(board, job)
        killed += chaos.log.count("renderer that works")
    assert ROUNDS == 1 or killed >= ROUNDS / 2, "hardly any renderer was there to be killed"


def still(board: BoardProcess, job: str) -> Any:
    """The job as the board tells it, or None while the board is not there."""
    try:
        with board.client() as client:
            return job_of(client, job)
    except (httpx.HTTPError, json.JSONDecodeError):
        return None


def check_results(board: BoardProcess, job: str) -> None:
    with board.client() as client:
        content = client.get(f"/api/v1/jobs/{job}/files.zip").raise_for_status().content
    with zipfile.ZipFile(io.BytesIO(content)) as files:
        names = files.namelist()
        assert len(names) == len(set(names)) == FRAMES
        for name in names:
            assert files.read(name) == picture(Path(name).name), name
