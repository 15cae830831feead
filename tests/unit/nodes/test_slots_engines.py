"""POV-Ray, ffmpeg, commands and simulations: command lines, and what is read from captured output."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from callboard_core.errors import BadRequest, Forbidden
from callboard_core.farm.messages import Output
from callboard_nodes.slots.engines import make
from callboard_nodes.slots.engines.base import Begun, Progressed, Saved, Work, file_name
from callboard_nodes.slots.engines.command import Command, CommandArgs, Template
from callboard_nodes.slots.engines.ffmpeg import Ffmpeg, FfmpegArgs, FfmpegReader
from callboard_nodes.slots.engines.povray import Povray, PovrayArgs, PovrayReader, stretches
from callboard_nodes.slots.engines.simulated import Simulated, SimulatedArgs

POVRAY = """\
Rendering frame 1 of 2

Rendering frame 1 of 2
==== [Parsing...] ==========================================================
==== [Rendering...] ========================================================


Rendered 1024 of 4096 pixels (25%)Rendered 4096 of 4096 pixels (100%)
Rendering frame 2 of 2
==== [Parsing...] ==========================================================
==== [Rendering...] ========================================================


Rendered 2048 of 4096 pixels (50%)Rendered 4096 of 4096 pixels (100%)
POV-Ray finished
"""
FFMPEG = """\
frame=1
fps=0.00
out_time_ms=0
progress=continue
frame=8
fps=0.00
progress=end
"""


def work(args, **more) -> Work:
    given = {
        "frames": (),
        "main": Path("/in/scene.pov"),
        "inputs": {"scene.pov": Path("/in/scene.pov")},
        "folder": Path("/work"),
        "out": Path("/out"),
        "output": Output(format="png", pattern="f-##.png", width=64, height=48),
        "args": args,
        "program": "/usr/bin/program",
    }
    return Work(**{**given, **more})


def listen(reader, text: str) -> list:
    return [heard for line in text.splitlines() for heard in reader.line(line)]


@pytest.mark.parametrize(
    ("pattern", "frame", "name"),
    [
        ("f-####.png", 7, "f-0007.png"),
        ("f-##.png", 1234, "f-1234.png"),
        ("a##/b-##.png", 5, "a##/b-05.png"),
        ("f-###.png", -3, "f--003.png"),
        ("one.mp4", None, "one.mp4"),
    ],
)
def test_a_pattern_gives_a_name(pattern, frame, name):
    assert file_name(pattern, frame) == name


@pytest.mark.parametrize(("pattern", "frame"), [("f.png", 1), ("f-##.png", None)])
def test_a_pattern_that_does_not_fit_the_work_is_refused(pattern, frame):
    with pytest.raises(BadRequest, match=r"output.pattern"):
        file_name(pattern, frame)


def test_povrays_frames_are_read_and_saved_when_the_next_begins():
    saves = {10: Path("/a"), 11: Path("/b")}
    assert listen(PovrayReader((10, 11), saves), POVRAY) == [
        Begun(10),
        Progressed(0.25),
        Progressed(1.0),
        Saved(Path("/a")),
        Begun(11),
        Progressed(0.5),
        Progressed(1.0),
        Saved(Path("/b")),
    ]


def test_povray_says_what_is_wrong_with_a_scene():
    reader = PovrayReader((None,), {None: Path("/a")})
    listen(
        reader,
        "File '/s.pov' line 1: Parse Error: Expected 'numeric expression',\n End of File found\nRender failed",
    )
    trouble = reader.ended(1)
    assert trouble is not None
    assert (trouble.fault, trouble.code) == ("job", "bad_file")


def test_povray_gets_one_animation_for_each_stretch_whose_clock_is_the_jobs():
    args = PovrayArgs(frames_total=(-2, 9), declare={"Speed": 1.5}, region=(0.5, 0.0, 1.0, 0.5))
    first, second = Povray().programs(work(args, frames=(-2, -1, 9)))
    assert {"+KFI1", "+KFF12", "+SF1", "+EF2", "Declare=Speed=1.5", "+SC33", "+EC64", "+SR1", "+ER24"} <= set(
        first.argv
    )
    assert {"+SF12", "+EF12"} <= set(second.argv)
    assert dict(first.saves) == {-2: Path("/work/pov-01.png"), -1: Path("/work/pov-02.png")}
    assert dict(second.saves) == {9: Path("/work/pov-12.png")}


def test_stretches_are_consecutive():
    assert stretches([5, 1, 2, 9, 3]) == [(1, 2, 3), (5,), (9,)]


def test_povray_needs_a_size_and_names_that_are_names():
    with pytest.raises(BadRequest, match="width and height"):
        Povray().programs(work(PovrayArgs(), output=Output(format="png", pattern="x.png")))
    with pytest.raises(ValidationError):
        PovrayArgs(declare={"a=1 +I/etc/passwd": 1})


def test_ffmpegs_progress_is_a_share_of_the_inputs():
    target = Path("/out/shot.mp4")
    assert listen(FfmpegReader(16, target), FFMPEG) == [
        Begun(None),
        Progressed(1 / 16),
        Progressed(0.5),
        Saved(target),
    ]


def test_ffmpeg_lines_frames_up_in_the_order_they_were_given(tmp_path):
    files = {f"{name}.png": Path(f"/in/{name}.png") for name in ("b", "a", "c")}
    one = work(
        FfmpegArgs(crf=20), inputs=files, folder=tmp_path, output=Output(format="mp4", pattern="shot.mp4")
    )
    (program,) = Ffmpeg().programs(one)
    assert [link.readlink() for link in sorted((tmp_path / "sequence").iterdir())] == list(files.values())
    assert program.argv[-1] == "/out/shot.mp4"
    assert "-xerror" in program.argv


@pytest.mark.parametrize(
    ("args", "inputs", "frames"),
    [
        (FfmpegArgs(op="stack", columns=2, rows=2), {"a.png": Path("/a.png")}, ()),
        (FfmpegArgs(), {"a.png": Path("/a.png"), "b.jpg": Path("/b.jpg")}, ()),
        (FfmpegArgs(), {}, ()),
        (FfmpegArgs(), {"a.png": Path("/a.png")}, (1,)),
    ],
)
def test_ffmpeg_refuses_inputs_that_make_no_sense(tmp_path, args, inputs, frames):
    output = Output(format="mp4", pattern="shot.mp4")
    with pytest.raises(BadRequest):
        Ffmpeg().programs(work(args, inputs=inputs, frames=frames, folder=tmp_path, output=output))


CONVERT = Template(name="convert", argv=["/usr/bin/convert", "-size={size}", "{inputs}", "{output}"])


def test_a_command_is_the_nodes_and_only_its_gaps_are_the_jobs():
    engine = Command({"convert": CONVERT})
    one = work(CommandArgs(name="convert", values={"size": 64}), frames=(1, 2))
    first, second = engine.programs(one)
    assert first.argv == ("/usr/bin/convert", "-size=64", "/in/scene.pov", "/out/f-01.png")
    assert second.saves == {2: Path("/out/f-02.png")}


@pytest.mark.parametrize("values", [{}, {"size": 1, "more": 2}, {"size": "-rf"}])
def test_values_that_a_command_does_not_ask_for_are_refused(values):
    with pytest.raises(BadRequest, match="values"):
        Command({"convert": CONVERT}).programs(work(CommandArgs(name="convert", values=values)))


def test_a_value_cannot_bring_gaps_of_its_own():
    one = work(
        CommandArgs(name="convert", values={"size": "{output}"}), output=Output(format="x", pattern="made")
    )
    assert Command({"convert": CONVERT}).programs(one)[0].argv[1] == "-size={output}"


def test_a_command_that_is_not_allowed_is_not_run():
    with pytest.raises(Forbidden, match="it allows convert"):
        Command({"convert": CONVERT}).programs(work(CommandArgs(name="rm")))


@pytest.mark.parametrize("progress", ["(", "no group"])
def test_a_template_whose_progress_cannot_be_read_is_refused(progress):
    with pytest.raises(ValidationError, match="progress"):
        Template(name="x", argv=["x"], progress=progress)


def test_a_simulation_plays_its_frames_in_the_time_it_was_given():
    args = SimulatedArgs(seconds=1.2, startup=3, image=True)
    (play,) = Simulated().programs(work(args, frames=(1, 2)))
    assert sum(seconds for seconds, _ in play.steps) == pytest.approx(3 + 2.4)
    said = [heard for _, heard in play.steps if not isinstance(heard, Progressed)]
    assert said == [Begun(1), Saved(Path("/out/f-01.png")), Begun(2), Saved(Path("/out/f-02.png"))]


def test_a_simulated_hang_says_nothing_more():
    (play,) = Simulated().programs(work(SimulatedArgs(fail={2: "hang"}), frames=(1, 2, 3)))
    assert play.steps[-1][0] == math.inf


@pytest.mark.parametrize(
    "name", ["blender", "blender-persistent", "povray", "ffmpeg", "command", "simulated"]
)
def test_every_engine_is_made_by_its_name(name):
    assert make(name, {}).name == name
