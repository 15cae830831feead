"""Ventilator and sink: a pool gives each task to whoever is free, and the results go on to a sink."""

import threading
import time

import callboard
from callboard import Node

node = Node("ventilator-sink")
TASKS = [0.3, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.3]
weighed: list[tuple[str, float]] = []
full = threading.Event()


@node.worker(service="scales", concurrency=1)
def weigh(mill: str, result: float) -> None:
    weighed.append((mill, result))
    if len(weighed) == len(TASKS):
        full.set()


def make_worker(number: int) -> None:
    @node.worker(service=f"mill:{number}", idempotent=True)
    def grind(seconds: float) -> None:
        time.sleep(seconds)
        node.pool("scales").cast(mill=f"mill {number}", result=seconds)


for number in range(4):
    make_worker(number)

with node, callboard.connect() as board:
    node.pool("scales").wait_ready(20)
    mills = board.pool("mill:*")
    mills.wait_ready(20, members=4)
    for task in TASKS:
        mills.submit(seconds=task)
    full.wait(20)
    print(f"{len(weighed)} sacks, {sum(result for _, result in weighed):.2f} s of work")
    print("every mill had some of it:", len({mill for mill, _ in weighed}) == 4)
