"""What board and slots send each other survives the wire, and what makes no sense is refused by the key."""

import json

import pytest

from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.cards import SlotCard, parse_card
from callboard_core.errors import BadPayload
from callboard_core.farm.messages import (
    Assignment,
    AttemptCall,
    AttemptEvent,
    Input,
    Output,
    SlotCommand,
    SlotReport,
    as_args,
    serves,
)
from callboard_core.farm.states import SlotState
from callboard_core.messages import State, parse

REF = ArtifactRef(sha256="ab" * 32, size=3, type="image/png", url="/api/v1/artifacts/" + "ab" * 32)
WORK = Assignment(
    attempt="a1",
    job="j1",
    task="j1.1",
    engine="blender",
    frames=[1, 2],
    inputs=[
        Input(name="textures/wall.png", artifact=REF),
        Input(name="scene.blend", path="{shows}/scene.blend"),
    ],
    main="scene.blend",
    output=Output(format="png", pattern="frame-####.png", width=64, height=64),
    lease=30,
)


def test_an_assignment_survives_the_wire():
    command = SlotCommand(do="assign", assignment=WORK)
    args = json.loads(json.dumps(as_args(command)))
    assert SlotCommand.model_validate(args) == command
    assert "start_timeout" not in args["assignment"]


def test_a_slots_report_travels_in_its_retained_state():
    report = SlotReport(state=SlotState.IDLE, since=5)
    state = parse(State, State(v=report.state.value, t=5, data=as_args(report)).encode())
    assert state.v == "idle"
    assert SlotReport.model_validate(state.data) == report


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../b", "a//b", "a/.", "a\\b", "a\x00b", "", "a/", "x\n"]
)
def test_no_file_lies_outside_the_tasks_folder(name):
    with pytest.raises(ValueError, match="name"):
        Input(name=name, artifact=REF)


@pytest.mark.parametrize("name", ["scene.blend", "a/b c/ü.png", "..hidden", "a..b"])
def test_usual_file_names_are_taken(name):
    assert Input(name=name, artifact=REF).name == name


@pytest.mark.parametrize("source", [{}, {"artifact": REF, "path": "/shows/a"}])
def test_an_input_has_one_source(source):
    with pytest.raises(BadPayload, match="either artifact or path"):
        Input(name="a", **source)


def test_frames_are_needed_unless_the_work_is_one_piece():
    fields = WORK.model_dump() | {"frames": []}
    with pytest.raises(BadPayload, match="at least one"):
        Assignment(**fields)
    assert Assignment(**fields | {"work": "single"}).frames == []


@pytest.mark.parametrize("fields", [{"do": "assign"}, {"do": "pause", "assignment": WORK}])
def test_an_assignment_comes_with_assign_and_nothing_else(fields):
    with pytest.raises(BadPayload, match="assignment"):
        SlotCommand(**fields)


@pytest.mark.parametrize("fields", [{"what": "frame"}, {"what": "failed", "message": "no camera"}])
def test_an_event_says_what_it_must(fields):
    with pytest.raises(BadPayload, match=r"frame: missing|needs a code"):
        AttemptEvent(seq=1, t=1, **fields)


def test_a_call_without_events_keeps_the_lease():
    assert AttemptCall(attempt="a1", slot="blender-1").events == []


def test_a_persistent_slot_takes_what_its_engine_takes():
    assert serves("blender", "blender")
    assert serves("blender-persistent", "blender")
    assert not serves("blender", "blender-persistent")
    assert not serves("povray", "blender")


def test_a_slot_card_of_an_older_node_is_still_read():
    card = parse_card(b'{"kind":"slot","name":"s","epoch":1,"engine":"blender"}')
    assert isinstance(card, SlotCard)
    assert (card.devices, card.limits) == ([], None)
