"""Ventilator and sink: a pool gives each task to whoever is free, and the results go on to a sink."""

import threading
import time

import callboard
from callboard import Node

node = Node("ventilator-sink")
TASKS = [0.9, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.9]
total: list[float] = []
full = threading.Event()


@node.worker(service="scales", concurrency=1)
def weigh(result: float) -> None:
    total.append(result)
    if len(total) == len(TASKS):
        full.set()


def make_worker(number: int) -> None:
    @node.worker(service=f"mill:{number}", idempotent=True)
    def grind(seconds: float) -> None:
        time.sleep(seconds)
        node.pool("scales").cast(result=seconds)


for number in range(4):
    make_worker(number)

with node, callboard.connect() as board:
    node.pool("scales").wait_ready(20)
    mills = board.pool("mill:*")
    mills.wait_ready(20, members=4)
    begun = time.monotonic()
    for task in TASKS:
        mills.submit(seconds=task)
    full.wait(20)
    took = time.monotonic() - begun
    print(f"{len(total)} sacks, {sum(total):.2f} s of work")
    print("quicker than one mill:", took < sum(TASKS))
