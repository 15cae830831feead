"""Workers that ask a dispatcher for their next task, and leave when there is none."""

import threading
import time

from callboard import Agent, Node, attribute, method


class Dispatcher(Agent):
    left: list[float] = attribute()

    def on_start(self) -> None:
        self.left = [0.1, 0.02, 0.02, 0.02, 0.1, 0.02, 0.02, 0.02]

    @method
    def next_task(self) -> float | None:
        return self.left.pop() if self.left else None


class Clerk(Agent):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.done: list[float] = []
        self.gone = threading.Event()

    def on_start(self) -> None:
        self.after(0, self.work)

    def work(self) -> None:
        task = self.proxy("task-dispatcher").next_task()
        if task is None:
            self.node.remove(self)  # an agent may end itself
            return
        time.sleep(task)
        self.done.append(task)
        self.after(0, self.work)

    def on_stop(self) -> None:
        self.gone.set()


clerks = [Clerk(f"clerk-{number}") for number in (1, 2, 3)]
node = Node("agents-dispatcher")
node.add(Dispatcher("task-dispatcher"))

with node:
    node.proxy("task-dispatcher").wait_ready()
    node.add(*clerks)
    for clerk in clerks:
        clerk.gone.wait(20)
    done = [task for clerk in clerks for task in clerk.done]
    print(f"{len(done)} tasks of {sum(done):.2f} s are done")
    print("left over:", node.proxy("task-dispatcher").get("left"))
