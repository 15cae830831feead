"""Slots with real renderers: Blender, POV-Ray and ffmpeg as Debian packs them."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from PIL import Image

from callboard_core.farm.logs import heading, of_frame
from support.farm import Farm, assignment, blend, farm_node, inputs, make_scene, scene
from support.mosquitto import mosquitto

__all__ = ["blend", "mosquitto", "scene"]

PNG = {"format": "png", "pattern": "frame-####.png"}


@pytest.fixture
def farm(mosquitto):
    found = Farm(mosquitto.endpoint)
    yield found
    found.close()


@pytest.mark.parametrize("engine", ["blender", "blender-persistent"])
async def test_blender_renders_frames_and_each_is_told_of_as_it_lands(
    mosquitto, farm, tmp_path, blend, engine
):
    async with farm_node(mosquitto.endpoint, tmp_path, slots=f"{engine}=1") as node:
        await node.state(engine, "idle", timeout=30)
        given = [
            assignment("blender", frames, inputs=inputs(node.store, blend), main=blend.name, output=PNG)
            for frames in ([1, 3], [5, 6])
        ]
        for one in given:
            await node.assign(engine, one)
        for one in given:
            end = await asyncio.to_thread(farm.end, one.attempt, 60)
            assert end.what == "done", farm.events[one.attempt]
            frames = farm.frames(one.attempt)
            assert [frame.frame for frame in frames] == one.frames
            assert all(frame.size == [64, 64] and frame.thumbnail for frame in frames)
            with Image.open(node.store.path(frames[0].artifact)) as image:
                assert image.getextrema()[0][1] > 100, "it is black"
            printed = [line for event in farm.events[one.attempt] for line in event.lines or ()]
            assert [line for line in printed if line.startswith("---")] == [heading(n) for n in one.frames]
            for frame in one.frames:
                of_its_own = [line for line in of_frame(printed, frame) if "Saved: " in line]
                assert len(of_its_own) == 1, printed
                assert f"frame-{frame:04d}.png" in of_its_own[0]
        assert len(node.store.fetched) == 1, "the second attempt fetched the scene again"


async def test_a_border_is_cut_out_and_the_size_asked_for_is_made(mosquitto, farm, tmp_path, blend):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="blender=2") as node:
        await node.state("blender-2", "idle", timeout=30)
        tile = assignment(
            "blender",
            [1],
            inputs=inputs(node.store, blend),
            main=blend.name,
            output={**PNG, "width": 32, "height": 16},
            args={"border": [0.5, 0.0, 1.0, 0.25], "size": [64, 64], "samples": 1},
        )
        large = assignment(
            "blender",
            [2],
            inputs=inputs(node.store, blend),
            main=blend.name,
            output={"format": "exr", "pattern": "####.exr", "width": 40, "height": 24},
            args={"threads": 1},
        )
        await node.assign("blender-1", tile)
        await node.assign("blender-2", large)
        for one, size in ((tile, [32, 16]), (large, [40, 24])):
            end = await asyncio.to_thread(farm.end, one.attempt, 60)
            assert end.what == "done", farm.events[one.attempt]
            assert farm.frames(one.attempt)[0].size == size
            assert farm.frames(one.attempt)[0].thumbnail


@pytest.mark.parametrize(
    ("engine", "spoil", "code"),
    [
        ("blender", "missing", "input_missing"),
        ("blender", "garbage", "bad_file"),
        ("blender", "truncated", "bad_file"),
        ("blender", "camera", "no_camera"),
        ("blender", "scene", "python"),
        ("blender", "scripts", "refused"),
        ("blender-persistent", "missing", "input_missing"),
        ("blender-persistent", "garbage", "bad_file"),
        ("blender-persistent", "truncated", "bad_file"),
        ("blender-persistent", "camera", "no_camera"),
        ("blender-persistent", "scene", "python"),
    ],
)
async def test_a_file_that_is_no_good_fails_the_job_and_says_why(
    mosquitto, farm, tmp_path, blend, engine, spoil, code
):
    async with farm_node(mosquitto.endpoint, tmp_path, slots=f"{engine}=1") as node:
        await node.state(engine, "idle", timeout=30)
        file, args = tmp_path / "bad.blend", {}
        match spoil:
            case "garbage":
                file.write_bytes(b"no scene at all")
            case "truncated":
                whole = make_scene(
                    tmp_path / "whole.blend", "bpy.context.preferences.filepaths.use_file_compression = False"
                )
                file.write_bytes(whole.read_bytes()[:-2000])
            case "camera":
                make_scene(file, "bpy.data.objects.remove(bpy.data.objects['Camera'])")
            case _:
                shutil.copy(blend, file)
                args = {"scene": {"scene": "nowhere"}, "scripts": {"autoexec": True}}.get(spoil, {})
        given = assignment(
            "blender", [1], inputs=inputs(node.store, file), main=file.name, output=PNG, args=args
        )
        if spoil == "missing":
            node.store.path(given.inputs[0].artifact).unlink()
        await node.assign(engine, given)
        end = await asyncio.to_thread(farm.end, given.attempt, 60)
        fault = "node" if spoil == "scripts" else "job"
        assert (end.what, end.fault, end.code) == ("failed", fault, code), end
        assert farm.frames(given.attempt) == []
        await node.state(engine, "idle")


RIG = """
script = bpy.data.texts.new("rig.py")
script.use_module = True
script.write({!r})
"""
AT_ONCE = "raise RuntimeError('the rig is broken')"
LATER = """
import bpy

def turn(scene):
    if scene.frame_current == 2:
        raise RuntimeError("the rig is broken")

bpy.app.handlers.frame_change_pre.append(turn)
"""


@pytest.mark.parametrize("engine", ["blender", "blender-persistent"])
async def test_a_script_in_the_file_that_raises_fails_its_frame_unless_that_is_to_be_ignored(
    mosquitto, farm, tmp_path, engine
):
    at_once, later = (
        make_scene(tmp_path / f"{name}.blend", RIG.format(script))
        for name, script in (("at-once", AT_ONCE), ("later", LATER))
    )
    async with farm_node(mosquitto.endpoint, tmp_path, slots=f"{engine}=1", scripts=True) as node:
        await node.state(engine, "idle", timeout=30)

        async def render(file, **args):
            given = assignment(
                "blender",
                [1, 2, 3],
                inputs=inputs(node.store, file),
                main=file.name,
                output=PNG,
                args={"autoexec": True, **args},
            )
            await node.assign(engine, given)
            end = await asyncio.to_thread(farm.end, given.attempt, 60)
            return end, [one.frame for one in farm.frames(given.attempt)]

        end, made = await render(at_once)
        assert (end.fault, end.code, end.frame, made) == ("job", "python", 1, []), end
        assert "the rig is broken" in end.message
        end, made = await render(later)
        assert (end.fault, end.code, end.frame, made) == ("job", "python", 2, [1]), end
        end, made = await render(later, ignore_script_errors=True)
        assert (end.what, made) == ("done", [1, 2, 3]), end


async def test_povray_renders_stretches_of_frames_with_one_clock(mosquitto, farm, tmp_path, scene):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="povray=1") as node:
        await node.state("povray", "idle", timeout=30)
        output = {**PNG, "width": 32, "height": 24}
        args = {"frames_total": [0, 12], "antialias": 0.3}
        given = assignment(
            "povray", [0, 1, 12], inputs=inputs(node.store, scene), main=scene.name, output=output, args=args
        )
        await node.assign("povray", given)
        end = await asyncio.to_thread(farm.end, given.attempt)
        assert end.what == "done", farm.events[given.attempt]
        frames = {one.frame: one for one in farm.frames(given.attempt)}
        assert list(frames) == [0, 1, 12]
        assert frames[12].name == "frame-0012.png"
        assert len({frame.artifact.sha256 for frame in frames.values()}) == 3, "the clock stands still"


async def test_ffmpeg_makes_a_video_a_preview_and_one_image_of_tiles(mosquitto, farm, tmp_path):
    async with farm_node(mosquitto.endpoint, tmp_path, slots="ffmpeg=1") as node:
        await node.state("ffmpeg", "idle", timeout=30)
        frames = []
        for number in (3, 1, 7, 9):
            frames.append(tmp_path / f"frame-{number}.png")
            Image.new("RGB", (65, 33), (number * 20, 0, 0)).save(frames[-1])
        sources = inputs(node.store, *frames)
        video = assignment(
            "ffmpeg", inputs=sources, output={"format": "mp4", "pattern": "shot.mp4"}, args={"fps": 12}
        )
        preview = assignment(
            "ffmpeg",
            inputs=sources,
            output={"format": "webm", "pattern": "small.webm"},
            args={"op": "preview", "codec": "vp9", "width": 32},
        )
        tiles = assignment(
            "ffmpeg",
            inputs=sources,
            output={"format": "png", "pattern": "whole.png", "width": 130, "height": 66},
            args={"op": "stack", "columns": 2, "rows": 2},
        )
        for one in (video, preview, tiles):
            await node.assign("ffmpeg", one)
            end = await asyncio.to_thread(farm.end, one.attempt)
            assert end.what == "done", farm.events[one.attempt]
            made = farm.frames(one.attempt)[0]
            assert (made.frame, made.name) == (None, one.output.pattern)
            assert node.store.path(made.artifact).stat().st_size > 100
