"""Subscribers that hear only what matters to them."""

from queue import SimpleQueue

from callboard import Agent, Heard, Node, on

heard: SimpleQueue[str] = SimpleQueue()


class Kitchen(Agent):
    @on("order", where=lambda event: event.data["what"] == "soup")
    def cook(self, event: Heard) -> None:
        heard.put(f"the kitchen cooks soup for table {event.data['table']}")


class Bar(Agent):
    @on("order", where=lambda event: event.data["what"] == "lemonade")
    def mix(self, event: Heard) -> None:
        heard.put(f"the bar mixes lemonade for table {event.data['table']}")


class Till(Agent):
    @on("order", where=lambda event: event.data["table"] < 3)
    @on("tip")
    def note(self, event: Heard) -> None:
        heard.put(f"the till notes the {event.name} of table {event.data['table']}")


node = Node("publish-filter")
node.add(Kitchen("kitchen"), Bar("bar"), Till("till"))

with node:
    node.emit("order", what="soup", table=1)
    node.emit("order", what="lemonade", table=2)
    node.emit("order", what="soup", table=3)
    node.emit("tip", table=3)
    for _ in range(6):
        print(heard.get(timeout=20))
