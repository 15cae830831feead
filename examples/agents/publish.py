"""Publish and subscribe: what one agent tells, everybody who wants to hears."""

from queue import SimpleQueue

from callboard import Agent, Heard, Node, on

heard: SimpleQueue[str] = SimpleQueue()


class Listener(Agent):
    @on("curtain")
    def listen(self, event: Heard) -> None:
        heard.put(f"{self.name}: the curtain goes {event.data['goes']}")


node = Node("publish")
speaker = Agent("speaker")
node.add(speaker, Listener("stalls"), Listener("balcony"))

with node:
    for goes in ("up", "down"):
        speaker.emit("curtain", goes=goes)
        print(*sorted(heard.get(timeout=20) for _ in range(2)), sep="\n")
