"""Publish and subscribe with filters: by the event's name, by the node that tells it, by what it says."""

from queue import SimpleQueue

from callboard import Heard, Node, Severity

north, south, desk = Node("north-gate"), Node("south-gate"), Node("gate-desk")
heard: SimpleQueue[str] = SimpleQueue()


def note(who: str):
    def hear(event: Heard) -> None:
        heard.put(f"{who}: {event.node} tells {event.name}, {event.message}")

    return hear


with desk, north, south:
    for subscription in (
        desk.listen("visitor", note("counting")),
        desk.listen("*", note("watching the north"), node="north-gate"),
        desk.listen("*", note("worrying"), where=lambda event: event.severity is Severity.WARNING),
    ):
        subscription.ready.result(20)
    north.emit("visitor", message="two adults")
    south.emit("visitor", message="a class of 20")
    south.emit("jam", message="the gate is stuck", severity=Severity.WARNING)
    for _ in range(4):
        print(heard.get(timeout=20))
