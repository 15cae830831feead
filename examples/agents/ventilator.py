"""Ventilator, workers, sink: tasks are spread over agents of one class, and their results collected by another."""

import threading
import time

from callboard import Agent, Node, attribute, method


class Oven(Agent):
    @method
    def bake(self, seconds: float) -> None:
        time.sleep(seconds)
        self.proxy("counter").put.cast(oven=self.name, seconds=seconds)


class Counter(Agent):
    received: list[float] = attribute()
    ovens: set[str]

    def on_start(self) -> None:
        self.received, self.ovens, self.full = [], set(), threading.Event()

    @method
    def put(self, oven: str, seconds: float) -> None:
        self.received.append(seconds)
        self.ovens.add(oven)
        if len(self.received) == len(TASKS):
            self.full.set()


TASKS = [0.7, 0.2, 0.2, 0.2, 0.2, 0.7, 0.2, 0.2, 0.2, 0.2]
counter = Counter("counter")
node = Node("agents-ventilator")
node.add(counter, *(Oven(f"oven:{number}") for number in range(5)))

with node:
    node.proxy("counter").wait_ready()
    ovens = node.pool("oven:*:bake")
    ovens.wait_ready(20, members=5)
    for task in TASKS:
        ovens.submit(seconds=task)
    counter.full.wait(20)
    print(len(counter.received), "loaves from", len(counter.ovens), "ovens")
