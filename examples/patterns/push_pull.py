"""Push and pull: one-way messages, spread fairly over everybody who pulls."""

from collections import defaultdict
from queue import SimpleQueue

import callboard
from callboard import Node

node = Node("push-pull")
pulled: SimpleQueue[tuple[str, int]] = SimpleQueue()


def make_worker(name: str) -> None:
    @node.worker(service=f"sorter:{name}", name=name)
    def sort(letter: int) -> None:
        pulled.put((name, letter))


for name in ("left", "middle", "right"):
    make_worker(name)

with node, callboard.connect() as board:
    sorters = board.pool("sorter:*")
    sorters.wait_ready(20, members=3)
    for letter in range(30):
        sorters.cast(letter=letter)
    had: dict[str, set[int]] = defaultdict(set)
    for _ in range(30):
        name, letter = pulled.get(timeout=20)
        had[name].add(letter)
    print(", ".join(f"{name} had {len(letters)}" for name, letters in sorted(had.items())))
