"""Jobs of every type on real Blender and ffmpeg, submitted from the add-on and from the shell."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.farm import blend, make_scene
from support.up import CALLBOARD, Up, eventually, running_board

__all__ = ["blend"]

ADDON = Path(__file__).parents[2] / "addons" / "callboard_render.py"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    slots = {"CALLBOARD_NODE_FARM_SLOTS": "blender=2,ffmpeg=1"}
    with running_board(tmp_path_factory.mktemp("farm"), env=slots) as up:
        eventually(lambda: len(as_json(up, "farm", "ls")["slots"]) == 3, "three slots", 60)
        yield up


def as_json(up: Up, *words: str) -> Any:
    command = [*CALLBOARD, *words, "--state", str(up.state), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=up.env, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{up.logs()}"
    return json.loads(done.stdout)


def submit(up: Up, job_type: str, scene: Path, *sets: str, frames: str | None = None) -> str:
    words = [word for one in sets for word in ("--set", one)]
    words += ["--frames", frames] if frames else []
    return str(as_json(up, "job", "submit", str(scene), "--type", job_type, *words)["job"])


def files_of(up: Up, job: str, folder: Path) -> dict[str, Path]:
    """Wait for a job's end; fetch what it has made."""
    command = [*CALLBOARD, "job", "watch", job, "--state", str(up.state)]
    watched = subprocess.run(command, capture_output=True, text=True, timeout=300, env=up.env, check=False)
    attempts = as_json(up, "job", "log", job)
    assert watched.returncode == 0, f"{watched.stdout}{watched.stderr}\n{attempts}"
    found = as_json(up, "job", "download", job, "--to", str(folder / job))
    return {Path(file).name: Path(file) for file in found}


def size(png: Path) -> tuple[int, int]:
    """Width and height, by the image's header (PNG specification, section 11.2.1)."""
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG")
    return struct.unpack(">II", data[16:24])  # type: ignore[return-value]


def likeness(one: Path, other: Path) -> float:
    """Peak signal-to-noise ratio in dB; above 30 the same picture but for noise."""
    command = ["ffmpeg", "-i", str(one), "-i", str(other), "-lavfi", "psnr", "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stderr
    return float(re.findall(r"average:(\S+)", told)[-1])


def addon(up: Up, scene: Path, *args: str) -> subprocess.CompletedProcess[str]:
    file = up.state / "credentials" / "operator.password"
    command = [
        "blender",
        "--background",
        str(scene),
        "--python",
        str(ADDON),
        "--",
        "--board",
        up.runtime.http.url,
    ]
    return subprocess.run(
        [*command, "--password-file", str(file), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.timeout(400)  # Blender starts eight times
def test_jobs_of_every_type_make_what_they_promise(board, blend, tmp_path):
    video = submit(board, "render-video", blend, "fps=12", frames="1-3")
    tiles = submit(board, "tiles", blend, "columns=2", "rows=2", "width=67", "height=51", "frame=2")
    whole = submit(board, "render", blend, "width=67", "height=51", frames="2")
    simulated = submit(board, "simulate-render", blend, frames="4")
    made = files_of(board, video, tmp_path)
    assert set(made) == {"frame-0001.png", "frame-0002.png", "frame-0003.png", "cube.mp4"}
    probe = [
        "ffprobe",
        "-v",
        "error",
        "-count_frames",
        "-show_entries",
        "stream=nb_read_frames,r_frame_rate",
        "-of",
        "csv=p=0",
    ]
    told = subprocess.run(
        [*probe, str(made["cube.mp4"])], capture_output=True, text=True, check=True, timeout=30
    )
    assert told.stdout.strip() == "12/1,3"
    made = files_of(board, tiles, tmp_path)
    assert size(made["cube.png"]) == (67, 51)
    assert size(made["tile-00-00-0002.png"]) == (33, 26)
    assert len(made) == 5
    assert likeness(made["cube.png"], files_of(board, whole, tmp_path)["frame-0002.png"]) > 30
    made = files_of(board, simulated, tmp_path)
    assert size(made["frame-0004.png"]) == (64, 64)
    assert made["cube-simulated.blend"].stat().st_size > 10_000


def test_the_add_on_sends_the_open_file_with_its_textures(board, tmp_path):
    folder = tmp_path / "shot"
    (folder / "textures").mkdir(parents=True)
    picture = "image = bpy.data.images.new('wall', 8, 8)\nimage.filepath_raw = {path!r}\nimage.file_format = 'PNG'\nimage.save()\n"
    inside = picture.format(path=str(folder / "textures" / "wall.png"))
    outside = picture.format(path=str(tmp_path / "sky.png"))
    use = "image.source = 'FILE'; image.use_fake_user = True\n"
    scene = make_scene(
        folder / "shot.blend", inside + use + "image.filepath = '//textures/wall.png'\n" + outside + use
    )
    done = addon(board, scene, "--frames", "1-2", "--project", "Dune", "--chunk", "2")
    assert done.returncode == 0, done.stderr
    assert f"callboard: not sent, pack it: {os.path.realpath(tmp_path / 'sky.png')}" in done.stderr
    (job,) = (one for one in as_json(board, "job", "ls")["items"] if one["project"] == "Dune")
    assert f"callboard: job {job['job']}: shot.blend" in done.stdout
    inputs = board.get(f"/api/v1/jobs/{job['job']}")["request"]["inputs"]
    assert [one["name"] for one in inputs] == ["shot.blend", "textures/wall.png"]
    assert set(files_of(board, job["job"], tmp_path)) == {"frame-0001.png", "frame-0002.png"}


CHECK = """
import importlib.util, sys, bpy
addon, url, right, wrong = sys.argv[sys.argv.index("--") + 1 :]
spec = importlib.util.spec_from_file_location("callboard_render", addon)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.register()
bpy.context.scene.callboard.frames = "1-2"
job = module.job_of(bpy.context.scene, frames=bpy.context.scene.callboard.frames, chunk=3, name="n")
assert job["settings"] == {"frames": "1-2", "scene": "Scene", "chunk": 3} and job["name"] == "n", job
assert "submit" in dir(bpy.ops.callboard)
module.unregister()
assert not hasattr(bpy.context.scene, "callboard")
assert module.main(["--board", url, "--password-file", wrong]) == 1
assert module.main(["--board", url, "--password-file", right, "--frames", "9-1"]) == 1
assert module.main(["--board", "http://127.0.0.1:9", "--password-file", right]) == 1
"""


def test_the_add_on_goes_again_and_says_what_the_board_refuses(board, tmp_path):
    for name, text in (("check.py", CHECK), ("right", board.password("operator")), ("wrong", "guessed")):
        (tmp_path / name).write_text(text)
    command = ["blender", "--background", "--factory-startup", "--python-exit-code", "9", "--python"]
    given = [str(ADDON), board.runtime.http.url, str(tmp_path / "right"), str(tmp_path / "wrong")]
    done = subprocess.run(
        [*command, str(tmp_path / "check.py"), "--", *given],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("callboard: ")]
    assert "user" in told[0]
    assert told[1] == "callboard: settings.frames: '9-1' runs backwards; write 1-9"
    assert told[2].startswith("callboard: http://127.0.0.1:9 does not answer: ")
