"""What the reference tells about each topic and payload beyond the models: who sends it, how, and an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from callboard_core import cards, messages, topics
from callboard_core.discovery.wire import Answer, Query
from callboard_core.messages import Payload

__all__ = ["CHANNELS", "EXAMPLES", "FILTERS", "PARAMETERS", "THINGS", "Channel"]

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

_T, _LATER = 1_795_327_474.56, 1_795_327_474.66

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
    cards.SlotCard: cards.SlotCard(name="slot-1", epoch=17, engine="blender", version="4.2"),
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
