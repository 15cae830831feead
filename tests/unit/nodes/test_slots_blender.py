"""What Blender prints, as captured from 3.4.1 and, for 4.5 and 5.0, written after their documented form; and its command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from callboard_core.errors import BadPayload, BadRequest
from callboard_core.farm.messages import Output
from callboard_nodes.slots.engines.base import (
    Begun,
    Finished,
    Progressed,
    Saved,
    Sized,
    Trouble,
    Work,
    read_args,
)
from callboard_nodes.slots.engines.blender import Blender, BlenderArgs, BlenderReader
from callboard_nodes.slots.engines.blender_persistent import BlenderPersistent

RENDERED = """\
Blender 3.4.1
Read blend: /tmp/scene.blend
Fra:1 Mem:9.05M (Peak 10.83M) | Time:00:00.00 | Mem:0.00M, Peak:0.00M | Scene, ViewLayer | Synchronizing object | Cube
Fra:1 Mem:9.91M (Peak 10.83M) | Time:00:00.05 | Mem:0.76M, Peak:0.76M | Scene, ViewLayer | Sample 0/2
Fra:1 Mem:10.05M (Peak 10.83M) | Time:00:00.05 | Remaining:00:00.00 | Mem:0.90M, Peak:0.90M | Scene, ViewLayer | Sample 1/2
Fra:1 Mem:10.12M (Peak 10.83M) | Time:00:00.05 | Mem:0.90M, Peak:0.90M | Scene, ViewLayer | Finished
Saved: '/tmp/o/out-0001.png'
 Time: 00:00.20 (Saving: 00:00.14)

Fra:3 Mem:9.30M (Peak 10.83M) | Time:00:00.00 | Mem:0.00M, Peak:0.00M | Scene, ViewLayer | Synchronizing object | Cube
Fra:3 Mem:10.05M (Peak 10.83M) | Time:00:00.00 | Mem:0.90M, Peak:0.90M | Scene, ViewLayer | Rendered 1/4 Tiles, Sample 32/64
Saved: '/tmp/o/out-0003.png'
 Time: 00:00.00 (Saving: 00:00.00)


Blender quit
"""
FIVE = """\
Blender 5.0.0 (hash a37564c4df7a built 2025-11-18 09:05:12)
00:00.937  blend            | Read blend: "/tmp/scene.blend"
00:01.402  render           | Saved: '/tmp/o/0001.png'
00:01.403  render           | Time: 00:00.46 (Saving: 00:00.01)
"""


RAISED = """\
Traceback (most recent call last):
  File "/tmp/scene.blend/rig.py", line 3, in turn
RuntimeError: the rig is broken
"""
BROKEN = Trouble("job", "python", "a script raised RuntimeError: the rig is broken")


def read(text: str, *, strict: bool = False) -> tuple[list, BlenderReader]:
    reader = BlenderReader(strict=strict)
    return [heard for line in text.splitlines() for heard in reader.line(line)], reader


def test_frames_samples_tiles_and_files_are_read():
    heard, reader = read(RENDERED)
    assert heard == [
        Begun(1),
        Progressed(0.0),
        Progressed(0.5),
        Saved(Path("/tmp/o/out-0001.png")),
        Begun(3),
        Progressed(0.375),
        Saved(Path("/tmp/o/out-0003.png")),
    ]
    assert reader.ended(0) is None


def test_blender_5_tells_only_what_it_has_saved():
    assert read(FIVE)[0] == [Saved(Path("/tmp/o/0001.png"))]


@pytest.mark.parametrize(
    ("printed", "code", "fault", "name"),
    [
        ("Error: Cannot read file '/tmp/none.blend': No such file or directory", 1, "job", "bad_file"),
        ("Error: File format is not supported in file '/tmp/garbage.blend'", 1, "job", "bad_file"),
        ("Error: Failed to read blend file '/tmp/trunc.blend': Missing DNA block", 1, "job", "bad_file"),
        ("Error: Cannot render, no camera", 1, "job", "no_camera"),
        ("Error: engine not found 'NOENGINE'", 1, "job", "bad_args"),
        ("Error: Render error (Invalid argument) cannot save: '/proc/x.png'", 1, "node", "unwritable"),
        ("Error: Render error (No space left on device) cannot save: '/x.png'", 1, "node", "disk_full"),
        ("Error: Out of memory in CUDA queue enqueue", 1, "node", "out_of_memory"),
        ("Error: Build without OpenImageDenoiser", 1, "node", "unsupported"),
        ("Error: could not check out a license", 1, "licence", "licence"),
        ("Blender quit", 1, "job", "exit_code"),
        ("Fra:1 Mem:1M", -11, "node", "crashed"),
    ],
)
def test_an_end_that_is_no_good_is_explained(printed, code, fault, name):
    _, reader = read(printed)
    trouble = reader.ended(code)
    assert trouble is not None
    assert (trouble.fault, trouble.code) == (fault, name)
    assert trouble.message


def test_the_last_line_of_a_traceback_is_what_people_read():
    _, reader = read(
        "Error: Python: Traceback (most recent call last):\n"
        '  File "<string>", line 1, in <module>\n'
        "ValueError: there is no scene 'nowhere' in the file\n"
        "\n"
        "Error: script failed, expr: 'x', exiting.\n"
    )
    trouble = reader.ended(9)
    assert trouble is not None
    assert (trouble.fault, trouble.code) == ("job", "python")
    assert "no scene 'nowhere'" in trouble.message


@pytest.mark.parametrize(
    ("printed", "heard"),
    [
        (f"{RAISED}Fra:1 Mem:1M\nSaved: '/o/1'\nFra:2 Mem:1M\n", [Begun(1), BROKEN, Saved(Path("/o/1")), Begun(2)]),
        (f"Fra:1 Mem:1M\nSaved: '/o/1'\n{RAISED}Fra:2 Mem:1M\n", [Begun(1), Saved(Path("/o/1")), Begun(2), BROKEN]),
        (f"Fra:1 Mem:1M\n{RAISED}Saved: '/o/1'\n", [Begun(1), BROKEN, Saved(Path("/o/1"))]),
        (f'CALLBOARD {{"begun": 4}}\n{RAISED}', [Begun(4), BROKEN]),
        (f'CALLBOARD {{"saved": "/o/4"}}\n{RAISED}CALLBOARD {{"finished": true}}', [Saved(Path("/o/4")), BROKEN, Finished()]),
    ],
)  # fmt: skip
def test_what_a_script_in_the_file_raises_fails_the_frame_it_was_raised_for(printed, heard):
    assert read(printed, strict=True)[0] == heard
    assert BROKEN not in read(printed)[0], "scripts that were not asked for are not judged"


def test_what_is_raised_after_the_last_frame_fails_the_end():
    _, reader = read(f"Fra:1 Mem:1M\nSaved: '/o/1'\n{RAISED}Blender quit\n", strict=True)
    assert reader.ended(0) == BROKEN
    assert read(RAISED)[1].ended(0) is None


def test_lines_of_our_own_scripts_are_read_and_nonsense_among_them_is_not():
    text = "\n".join(
        f"CALLBOARD {one}"
        for one in (
            '{"size": [64, 48]}',
            '{"begun": 4}',
            '{"saved": "/x.png"}',
            '{"finished": true}',
            "{no",
            "3",
        )
    )
    assert read(text)[0] == [Sized(64, 48), Begun(4), Saved(Path("/x.png")), Finished()]


def work(**more) -> Work:
    given = {
        "frames": (1, 3),
        "main": Path("/in/shot.blend"),
        "inputs": {},
        "folder": Path("/work"),
        "out": Path("/out"),
        "output": Output(format="png", pattern="f-####.png", width=320, height=180),
        "args": BlenderArgs(samples=4, threads=8),
        "threads": 2,
        "program": "/usr/bin/blender",
    }
    return Work(**{**given, **more})


def test_the_exit_code_for_errors_comes_before_everything_that_could_raise():
    (program,) = Blender().programs(work())
    argv = list(program.argv)
    assert argv[:6] == [
        "/usr/bin/blender",
        "--background",
        "--factory-startup",
        "--python-exit-code",
        "9",
        "--disable-autoexec",
    ]
    assert argv[argv.index("--threads") + 1] == "2", "the slot's limit counts"
    assert argv[argv.index("--render-frame") + 1] == "1,3"
    assert argv.index("--python") < argv.index("--render-frame") < argv.index("--")
    settings = json.loads(argv[-1])
    assert (settings["width"], settings["height"], settings["samples"], settings["format"]) == (
        320,
        180,
        4,
        "PNG",
    )
    assert program.saves == {1: Path("/out/f-0001.png"), 3: Path("/out/f-0003.png")}


def test_with_a_border_the_output_size_is_that_of_the_cut_out():
    (program,) = Blender().programs(work(args=BlenderArgs(border=(0, 0, 0.5, 0.5))))
    settings = json.loads(program.argv[-1])
    assert "width" not in settings
    assert settings["crop"] is True


def test_warm_work_asks_for_the_same_process_only_if_file_and_arguments_are_the_same():
    engine = BlenderPersistent()
    keys = [
        engine.programs(one)[0].warm
        for one in (
            work(),
            work(frames=(7,), folder=Path("/work2"), out=Path("/out2")),
            work(args=BlenderArgs(samples=5)),
            work(main=Path("/in/other.blend")),
        )
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    request = json.loads(engine.programs(work())[0].request or "")
    assert request["frames"] == [[1, "/out/f-0001.png"], [3, "/out/f-0003.png"]]


@pytest.mark.parametrize(
    "args", [{"sampels": 3}, {"border": [0.5, 0, 0.5, 1]}, {"renderer": "cycles; rm"}, {"samples": 0}]
)
def test_arguments_that_are_wrong_are_refused(args):
    with pytest.raises(BadPayload):
        read_args(BlenderArgs, args)


def test_a_format_that_could_not_be_checked_is_refused():
    with pytest.raises(BadRequest, match=r"output.format"):
        Blender().programs(work(output=Output(format="cineon", pattern="f-##.cin")))
