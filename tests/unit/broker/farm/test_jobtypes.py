"""Job types turn settings into steps that can be done, and tell file and line when one of them is broken."""

import os
from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard_broker.services.farm.jobtypes import BUILT_IN, JobTypes, TaskSpec, load_job_types
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.errors import BadRequest, CallboardError, Failed, NotFound
from callboard_core.farm.frames import parse_frames
from callboard_core.farm.messages import Input
from callboard_core.farm.requests import JobRequest

OURS = load_job_types()


def request(type: str = "render", main: str | None = "scene.blend", **given):  # noqa: A002 - the field's name
    ref = ArtifactRef(sha256="ab" * 32, size=1, type="application/octet-stream", url="/x")
    inputs = [Input(name=main, artifact=ref)] if main else []
    return JobRequest(type=type, inputs=inputs, settings=given)


def steps(type: str, main: str | None = "scene.blend", **given) -> list[TaskSpec]:  # noqa: A002
    return OURS.get(type).tasks(request(type, main, **given))


def test_every_job_type_says_what_it_is_and_has_a_form():
    assert {one.name.replace("-", "_") for one in OURS.all()} == set(BUILT_IN)
    for one in OURS.all():
        assert one.label.endswith(".")
        assert one.description
        jsonschema.Draft202012Validator.check_schema(one.schema())
        assert all(field.description for field in one.settings.model_fields.values()), one.name


def test_render_is_one_step_with_all_frames():
    (step,) = steps("render", frames="1-240", width=64, height=48, samples=4, chunk=10)
    assert (step.name, step.engine, step.work, step.frames, step.chunk) == (
        "render",
        "blender",
        "frames",
        "1-240",
        10,
    )
    assert step.args == {"samples": 4}
    assert step.output.pattern == "frame-####.png"
    assert (step.output.width, step.output.height) == (64, 48)


@pytest.mark.parametrize(
    ("main", "given", "engine"),
    [
        ("a.blend", {}, "blender"),
        ("A.POV", {"width": 8, "height": 8}, "povray"),
        (None, {"engine": "simulated"}, "simulated"),
    ],
)
def test_the_engine_goes_by_the_main_file(main, given, engine):
    assert steps("render", main, **given)[0].engine == engine


def test_the_clock_of_povray_runs_over_all_frames_whichever_are_in_a_task():
    assert steps("render", "a.pov", frames="3-9", width=8, height=8)[0].args["frames_total"] == [3, 9]


def test_a_video_waits_for_all_frames_and_gets_nothing_else():
    render, video = steps("render-video", frames="1-24", codec="vp9", crf=30)
    assert render.name == "render"
    assert (video.engine, video.work, video.inputs, video.inputs_from) == ("ffmpeg", "single", [], ["render"])
    assert video.args == {"op": "encode", "fps": 24.0, "codec": "vp9", "crf": 30}
    assert video.output.pattern == "scene.webm"


def test_frames_are_rendered_from_what_the_simulation_made():
    simulate, render = steps("simulate-render", "shots/010.blend", frames="1-24")
    assert (simulate.engine, simulate.work, simulate.args["op"]) == ("blender", "single", "bake")
    assert render.inputs_from == ["simulate"]
    assert render.main == simulate.output.pattern == "shots/010-simulated.blend"


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(9, 4000), st.integers(9, 4000))
def test_tiles_cover_every_pixel_once_and_come_row_by_row_from_the_top(columns, rows, width, height):
    *tiles, merge = steps("tiles", columns=columns, rows=rows, width=width, height=height)
    assert merge.inputs_from == [tile.name for tile in tiles]
    assert sum(tile.output.width * tile.output.height for tile in tiles) == width * height
    edges = [(tile.args["border"], tile.output) for tile in tiles]
    for number, (border, output) in enumerate(edges):
        row, column = divmod(number, columns)
        assert border[3] == (1.0 if row == 0 else pytest.approx(edges[number - columns][0][1]))
        assert border[0] == (0.0 if column == 0 else pytest.approx(edges[number - 1][0][2]))
        assert (border[2] - border[0]) * width == pytest.approx(output.width)
    assert (merge.output.width, merge.output.height) == (width, height)


def test_tiles_of_a_file_whose_size_is_not_known_are_shares_of_it():
    *tiles, _ = steps("tiles", columns=2, rows=1)
    assert [tile.args["border"] for tile in tiles] == [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]
    assert tiles[0].output.width is None


def test_a_command_runs_once_or_for_each_frame():
    assert steps("command", None, command="zip", output="all.zip")[0].work == "single"
    (each,) = steps(
        "command", None, command="denoise", frames="1-3", output="d-####.png", values={"strength": 2}
    )
    assert (each.work, each.frames, each.args["values"]) == ("frames", "1-3", {"strength": 2})


@pytest.mark.parametrize(
    ("type", "main", "given", "says"),
    [
        ("render", "a.blend", {"frames": "9-1"}, "settings.frames: '9-1' runs backwards"),
        ("render", "a.blend", {"frmaes": "1"}, "settings.frmaes: unknown; a job of type 'render' takes engine"),
        ("render", "a.blend", {"chunk": -1}, "settings.chunk"),
        ("render", "a.blend", {"format": "gif"}, "settings.format: expected 'png'"),
        ("render", None, {}, "inputs: empty"),
        ("render", None, {"engine": "blender"}, "inputs: empty"),
        ("render", "a.txt", {}, "none of the suffixes .blend, .pov"),
        ("render", "a.pov", {"samples": 2}, "settings.samples: only Blender takes it"),
        ("render-video", "a.blend", {"format": "exr-multilayer"}, "ffmpeg reads no"),
        ("simulate-render", "a.pov", {}, "no .blend file"),
        ("tiles", "a.pov", {}, "only Blender renders tiles"),
        ("tiles", "a.blend", {"width": 100}, "give width and height"),
        ("tiles", "a.blend", {"width": 2, "height": 200}, "too few for so many tiles"),
        ("render", "a.pov", {}, "settings.width: missing; POV-Ray needs width and height"),
        ("render", "a.pov", {"width": 8, "height": 8, "format": "webp"}, "settings.format: POV-Ray writes png"),
        ("tiles", "a.blend", {"columns": 31, "rows": 31}, "961 tiles; 900 are the most"),
        ("command", None, {"command": "x", "output": "../x"}, "no path inside"),
        ("command", None, {"command": "x"}, "settings.output: missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_by_the_name_of_the_setting(type, main, given, says):  # noqa: A002
    with pytest.raises((CallboardError, ValueError)) as caught:
        steps(type, main, **given)
    assert says in str(caught.value)


def test_an_unknown_job_type_is_told_with_those_there_are():
    with pytest.raises(NotFound, match="'rendr' is unknown; there are command, render, render-video"):
        OURS.get("rendr")


def test_underscores_are_as_good_as_hyphens():
    assert OURS.get("render_video") is OURS.get("render-video")


GOOD = '''\
    """Turn it around.

    Twice.
    """
    from __future__ import annotations
    from pydantic import Field
    from callboard_broker.services.farm.jobtypes import JobSettings, TaskSpec

    class Settings(JobSettings):
        turns: int = Field(default=1, description="how often")

    def tasks(job, settings: Settings) -> list[TaskSpec]:
        return [TaskSpec(name=f"turn-{n}", engine="simulated", work="single") for n in range(settings.turns)]
    '''


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(dedent(text), encoding="utf-8")
    return file


def test_a_file_in_the_folder_is_a_job_type_like_ours(tmp_path):
    write(tmp_path / "jobtypes", "turn_around.py", GOOD)
    known = JobTypes(tmp_path / "jobtypes")
    mine = known.get("turn-around")
    assert (mine.label, mine.description) == ("Turn it around.", "Twice.")
    assert mine.schema()["properties"]["turns"]["default"] == 1
    assert [step.name for step in mine.tasks(request("turn-around", turns=2))] == ["turn-0", "turn-1"]
    assert {"render", "turn-around"} <= {one.name for one in known.all()}
    assert sorted(path.name for path in (tmp_path / "jobtypes").iterdir()) == ["turn_around.py"]


def test_a_changed_file_is_read_again_and_a_removed_one_is_gone(tmp_path):
    known = JobTypes(tmp_path)
    assert len(known.all()) == len(BUILT_IN)
    file = write(tmp_path, "mine.py", GOOD)
    first = known.get("mine")
    assert known.get("mine") is first
    write(tmp_path, "mine.py", GOOD.replace("Turn it around.", "Turn it back."))
    os.utime(file, ns=(1, 1))
    assert known.get("mine").label == "Turn it back."
    file.unlink()
    with pytest.raises(NotFound):
        known.get("mine")


BROKEN = [
    ("import nowhere_to_be_found", "line 1: ModuleNotFoundError"),
    ("x = 1\ndef tasks(:\n", "line 2: SyntaxError"),
    ("x = 1\n\n1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
    ("x = 1", "a class Settings(JobSettings) is missing"),
    ("x = 1\nclass Settings: ...", "line 2: a class Settings(JobSettings) is missing"),
    (GOOD.replace("def tasks(job, settings: Settings)", "def tasks(job)"), "line 12: a function tasks(job, settings)"),
    (GOOD.replace("def tasks", "def steps"), "a function tasks(job, settings) is missing"),
    (GOOD.replace("turns: int", "turns: Integer"), "line 9: PydanticUndefinedAnnotation: name 'Integer'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), BROKEN)
def test_a_broken_file_is_told_with_file_and_line_and_harms_no_other(tmp_path, text, says):
    file = write(tmp_path, "mine.py", text)
    known = JobTypes(tmp_path)
    with pytest.raises(BadRequest, match="job type 'mine' cannot be used") as caught:
        known.get("mine")
    assert says in caught.value.message
    assert str(file) in known.broken["mine"]
    assert known.get("render").name == "render"


@pytest.mark.parametrize(
    ("name", "says"), [("render.py", "the name is taken"), ("Über.py", "is named with a-z")]
)
def test_a_file_needs_a_name_of_its_own(tmp_path, name, says):
    write(tmp_path, name, GOOD)
    (told,) = JobTypes(tmp_path).broken.values()
    assert says in told


BODY = [
    ("[1 / 0]", Failed, "line 14: ZeroDivisionError"),
    ("[]", BadRequest, "made no steps"),
    ("[1]", BadRequest, "something else than TaskSpecs"),
    ("[one('a'), one('a')]", BadRequest, "two steps have this name"),
    ("[one('a', depends=['b'])]", BadRequest, "depends on 'b', which is no step; there are a"),
    ("[one('a', depends=['b']), one('b', inputs_from=['a'])]", BadRequest, "a, b wait for each other"),
    ("[one(str(n)) for n in range(5000)]", BadRequest, "4096 are the most"),
    ("[one('a', frames='1')]", BadRequest, "single work has no frames"),
    ("[one('a', work='frames')]", BadRequest, "expected frames like"),
]


@pytest.mark.parametrize(("body", "error", "says"), BODY)
def test_steps_that_cannot_be_done_are_refused(tmp_path, body, error, says):
    head = GOOD[: GOOD.index("def tasks")]
    one = 'def one(name, **more): return TaskSpec(**{"name": name, "engine": "simulated", "work": "single", **more})'
    write(tmp_path, "mine.py", f"{head}{one}\n    def tasks(job, settings):\n        return {body}\n")
    with pytest.raises(error) as caught:
        JobTypes(tmp_path).get("mine").tasks(request("mine"))
    assert says in caught.value.message


def test_steps_come_after_those_they_wait_for(tmp_path):
    head = GOOD[: GOOD.index("def tasks")]
    body = """\
    def tasks(job, settings):
        def one(name, **more):
            return TaskSpec(name=name, engine="simulated", work="single", **more)
        return [one("c", depends=["b"]), one("b", inputs_from=["a"]), one("a"), one("d")]
    """
    write(tmp_path, "mine.py", head.rstrip(" ") + body)
    assert [step.name for step in JobTypes(tmp_path).get("mine").tasks(request("mine"))] == [
        "a",
        "d",
        "b",
        "c",
    ]


def test_a_step_survives_being_stored():
    for step in (
        *steps("render", frames="1-9"),
        *steps("tiles", width=64, height=64),
        *steps("render-video"),
    ):
        assert TaskSpec.model_validate_json(step.model_dump_json()) == step
        if step.work == "frames":
            assert parse_frames(step.frames)
