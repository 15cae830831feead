"""What the reference tells about each topic and payload beyond the models: who sends it, how, and an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from callboard_core import cards, messages, topics
from callboard_core.calls.artifacts import ArtifactRef
from callboard_core.discovery.wire import Answer, Query
from callboard_core.farm import messages as farm
from callboard_core.farm.reports import FrameCounts, JobReport
from callboard_core.farm.states import JobState, SlotState
from callboard_core.messages import Payload

__all__ = ["CHANNELS", "EXAMPLES", "FILTERS", "PARAMETERS", "RENDERING", "THINGS", "Channel"]

_SITE, _NODE, _CLIENT, _NAME = "{site}", "{node}", "{client}", "{name}"
# The builders want a Kind; here the placeholder stands for each of them.
_KIND: Any = "{kind}"

#: What stands in the braces of a topic.
PARAMETERS = {
    "site": "The site, the first level of every topic; `callboard` unless set otherwise.",
    "node": "The node's id, which is also its MQTT client id.",
    "client": "The caller's MQTT client id.",
    "kind": "What the thing is.",
    "name": "The thing's or the event's name, unique within the node and kind.",
}

THINGS: tuple[type[cards.Card], ...] = (
    cards.SensorCard,
    cards.ControlCard,
    cards.ActionCard,
    cards.WorkerCard,
    cards.SlotCard,
    cards.LoopCard,
    cards.CameraCard,
)


@dataclass(frozen=True)
class Channel:
    """One kind of topic. ``payloads`` is empty for raw bytes."""

    id: str
    topic: str
    sender: Literal["node", "client"]
    retained: bool
    qos: Literal[0, 1]
    payloads: tuple[type[Payload], ...]
    summary: str


CHANNELS = (
    Channel(
        "status",
        topics.status(_SITE, _NODE),
        "node",
        True,
        1,
        (messages.Status,),
        "Whether the node lives. `lost` is its last will: the broker publishes it when the node falls silent.",
    ),
    Channel(
        "announceNode",
        topics.announce(_SITE, _NODE),
        "node",
        True,
        1,
        (cards.NodeCard,),
        "The node's own card.",
    ),
    Channel(
        "announce",
        topics.announce(_SITE, _NODE, _KIND, _NAME),
        "node",
        True,
        1,
        THINGS,
        "The card of one thing the node offers. An empty retained payload takes it down.",
    ),
    Channel(
        "state",
        topics.state(_SITE, _NODE, _KIND, _NAME),
        "node",
        True,
        1,
        (messages.State,),
        "The last value or state of a thing.",
    ),
    Channel(
        "series",
        topics.series(_SITE, _NODE, _KIND, _NAME),
        "node",
        False,
        1,
        (messages.Batch,),
        "Readings in batches: of fast sensors, and those taken while the node was offline.",
    ),
    Channel(
        "stream",
        topics.stream(_SITE, _NODE, _KIND, _NAME),
        "node",
        False,
        0,
        (),
        "Raw bytes, such as a camera's JPEG frames.",
    ),
    Channel(
        "command",
        topics.command(_SITE, _NODE, _KIND, _NAME),
        "client",
        False,
        1,
        (messages.Call,),
        "A call. Never retained: a retained call is refused.",
    ),
    Channel(
        "event",
        topics.event(_SITE, _NODE, _NAME),
        "node",
        False,
        1,
        (messages.Event,),
        "Something that happened: an alarm, a job's progress, a log line, a refused message.",
    ),
    Channel(
        "reply",
        topics.reply(_SITE, _CLIENT),
        "node",
        False,
        1,
        (messages.Reply,),
        "Acknowledgement, progress and the one final answer to a call.",
    ),
)

#: Useful filters and what each one gives.
FILTERS = {
    topics.every_card(_SITE): "the whole directory",
    topics.every_status(_SITE): "who is alive",
    f"{_SITE}/+/announce/{topics.Kind.WORKER}/+": "every worker",
    topics.every_state(_SITE): "the last value of everything",
    topics.every_command(_SITE, _NODE): "all calls for one node",
    f"{_SITE}/{_NODE}/#": "everything of one node",
}

#: What travels inside the messages to and from render slots: topic, the place in it, the payload, and when.
RENDERING: tuple[tuple[str, str, type[Payload], str], ...] = (
    (
        topics.state(_SITE, _NODE, topics.Kind.SLOT, _NAME),
        "`data` of the State",
        farm.SlotReport,
        "How a slot is and what it works on.",
    ),
    (
        topics.command(_SITE, _NODE, topics.Kind.SLOT, _NAME),
        "`args` of the Call",
        farm.SlotCommand,
        "What a slot is to do. Only the board assigns.",
    ),
    (
        topics.command(_SITE, _NODE, topics.Kind.SLOT, _NAME),
        "`result` of the Reply",
        farm.SlotReply,
        "A slot's answer; at once, not when the work is done.",
    ),
    (
        topics.command(_SITE, topics.BOARD, topics.Kind.WORKER, farm.ATTEMPT_WORKER),
        "`args` of the Call",
        farm.AttemptCall,
        "What has become of an attempt; repeated until it is answered, and at least three times per lease.",
    ),
    (
        topics.command(_SITE, topics.BOARD, topics.Kind.WORKER, farm.ATTEMPT_WORKER),
        "`result` of the Reply",
        farm.AttemptReply,
        "The events are on the board's disk. `not_found` or `expired` instead: the slot drops the attempt.",
    ),
    (
        topics.state(_SITE, topics.BOARD, topics.Kind.JOB, _NAME),
        "`data` of the State",
        JobReport,
        "How a job is, from its submission until some minutes after its end. `v` repeats its state.",
    ),
)

_T, _LATER = 1_795_327_474.56, 1_795_327_474.66
_SCENE = ArtifactRef(
    sha256="9f86d081" * 8,
    size=812_736,
    type="application/x-blender",
    url="/api/v1/artifacts/" + "9f86d081" * 8,
)
_FRAME = ArtifactRef(
    sha256="60303ae2" * 8, size=74_112, type="image/png", url="/api/v1/artifacts/" + "60303ae2" * 8
)
_ASSIGNMENT = farm.Assignment(
    attempt="a7f3",
    job="j42",
    task="j42.3",
    engine="blender",
    frames=[21, 22, 23],
    inputs=[farm.Input(name="scene.blend", artifact=_SCENE)],
    main="scene.blend",
    output=farm.Output(format="png", pattern="frame-####.png", width=1920, height=1080),
    lease=30,
    frame_timeout=3600,
)

#: Every payload with an example of it, in the order people meet them.
EXAMPLES: dict[type[Payload], Payload] = {
    messages.Status: messages.Status(status=messages.StatusName.READY, epoch=17, t=_T, instance="f3a9c2"),
    cards.NodeCard: cards.NodeCard(
        name="greenhouse",
        epoch=17,
        version="0.1.0",
        host=cards.Host(hostname="greenhouse", system="Linux", machine="aarch64", addresses=["192.168.1.21"]),
    ),
    cards.SensorCard: cards.SensorCard(
        name="temperature", epoch=17, unit="°C", every=5, normal=cards.Range(low=15, high=30)
    ),
    cards.Host: cards.Host(
        hostname="greenhouse", system="Linux", machine="aarch64", model="Raspberry Pi 4 Model B"
    ),
    cards.Range: cards.Range(low=15, high=30),
    cards.ControlCard: cards.ControlCard(name="fan", epoch=17, unit="%", minimum=0, maximum=100),
    cards.ActionCard: cards.ActionCard(name="open-vent", epoch=17, confirm="Really open the vent?"),
    cards.WorkerCard: cards.WorkerCard(name="resize-1", epoch=17, service="resize", concurrency=2),
    cards.SlotCard: cards.SlotCard(
        name="blender-1", epoch=17, engine="blender", version="4.2", cores=8, limits=cards.SlotLimits(nice=10)
    ),
    cards.SlotLimits: cards.SlotLimits(memory=8_589_934_592, threads=4, nice=10),
    cards.LoopCard: cards.LoopCard(name="climate", epoch=17, elements=["monitor", "plan", "execute"]),
    cards.CameraCard: cards.CameraCard(name="door", epoch=17, width=1280, height=720, fps=5),
    messages.State: messages.State(v=21.4, t=_T),
    messages.Reading: messages.Reading(v=21.4, t=_T),
    messages.Batch: messages.Batch(t=[_T, _LATER], v=[21.4, 21.5]),
    messages.Call: messages.Call(
        id="01JD7Q9T4W", reply_to="callboard/laptop/reply", args={"value": 40}, t=_T, expires=_T + 10
    ),
    messages.Reply: messages.Reply(id="01JD7Q9T4W", ok=True, result=40),
    messages.ErrorBody: messages.ErrorBody(code="bad_request", message="value: 140 is outside 0.0 … 100.0"),
    messages.Event: messages.Event(t=_T, severity=messages.Severity.WARNING, message="above 30 °C"),
    JobReport: JobReport(
        job="42",
        name="Walk cycle",
        state=JobState.ACTIVE,
        type="render",
        owner="ann",
        frames=FrameCounts(waiting=200, rendering=4, done=36),
        progress=0.15,
        eta=410.0,
        running=4,
        created=_T,
        started=_T,
    ),
    FrameCounts: FrameCounts(waiting=200, rendering=4, done=36),
    farm.SlotReport: farm.SlotReport(
        state=SlotState.RENDERING,
        attempt="a7f3",
        job="j42",
        task="j42.3",
        frame=22,
        frames_done=1,
        frames_total=3,
        progress=0.4,
        eta=41,
        since=_T,
    ),
    farm.SlotCommand: farm.SlotCommand(do="assign", assignment=_ASSIGNMENT),
    farm.Assignment: _ASSIGNMENT,
    farm.Input: _ASSIGNMENT.inputs[0],
    farm.Output: farm.Output(format="png", pattern="frame-####.png", width=1920, height=1080),
    farm.SlotReply: farm.SlotReply(
        attempts=[farm.AttemptStatus(attempt="a7f3", task="j42.3", seq=4, state="running")]
    ),
    farm.AttemptStatus: farm.AttemptStatus(attempt="a7f3", task="j42.3", seq=4, state="running"),
    farm.AttemptCall: farm.AttemptCall(
        attempt="a7f3",
        slot="blender-1",
        events=[
            farm.AttemptEvent(
                seq=4,
                t=_T,
                what="frame",
                frame=21,
                name="frame-0021.png",
                artifact=_FRAME,
                seconds=20.5,
                size=[1920, 1080],
            )
        ],
    ),
    farm.AttemptEvent: farm.AttemptEvent(
        seq=5, t=_T, what="failed", fault="job", code="no_camera", message="the scene has no camera"
    ),
    farm.AttemptReply: farm.AttemptReply(seq=4, lease=30),
    ArtifactRef: _FRAME,
    Query: Query(callboard=1, ask="board", nonce="9f86d081884c7d65", site="callboard"),
    Answer: Answer(
        callboard=1,
        nonce="9f86d081884c7d65",
        site="callboard",
        mqtt=1883,
        http="http://0.0.0.0:8470",
        version="0.1.0",
    ),
}
