"""Something is done once, some time from now."""

from queue import SimpleQueue

from callboard import Agent, Node, after

rung: SimpleQueue[str] = SimpleQueue()


class Bell(Agent):
    @after(0.2)
    def ring(self) -> None:
        rung.put("it rings")
        self.after(0.2, self.ring_out)

    def ring_out(self) -> None:
        rung.put("it rings for the last time")


node = Node("timer-after")
node.add(Bell("stage-bell"))

with node:
    print("waiting")
    for _ in range(2):
        print(rung.get(timeout=20))
