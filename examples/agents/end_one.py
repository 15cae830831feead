"""One agent ends, another goes on; the node can also end with all of its agents."""

import threading

from callboard import Agent, Node, every


class Clock(Agent):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ticked = threading.Semaphore(0)

    @every(0.05)
    def tick(self) -> None:
        self.ticked.release()

    def on_stop(self) -> None:
        print(self.name, "has stopped")

    def await_ticks(self, number: int) -> int:
        return sum(self.ticked.acquire(timeout=20) for _ in range(number))


node = Node("end-one")
first, second = Clock("first-clock"), Clock("second-clock")
node.add(first, second)

with node:
    print("ticks:", first.await_ticks(2), "and", second.await_ticks(2))
    node.remove(first)
    print("the second ticks on:", second.await_ticks(3))
print("the node has ended")
