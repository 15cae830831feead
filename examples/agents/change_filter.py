"""A subscription is cancelled and another one made while the publisher goes on."""

from queue import SimpleQueue

from callboard import Agent, Heard, Node, every


class Market(Agent):
    @every(0.05)
    def offer(self) -> None:
        self.emit("offer", fruit="apple")
        self.emit("offer", fruit="banana")


node = Node("change-filter")
node.add(Market("market"))

with node:
    for wanted in ("apple", "banana"):
        heard: SimpleQueue[Heard] = SimpleQueue()
        listening = node.listen("offer", heard.put, where=lambda event: event.data["fruit"] == wanted)  # noqa: B023
        for _ in range(2):
            print("heard of", heard.get(timeout=20).data["fruit"])
        listening.cancel()
