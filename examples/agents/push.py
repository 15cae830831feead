"""Push: messages that are sent one way; nobody waits for an answer."""

from queue import SimpleQueue

from callboard import Agent, Node, method

box: SimpleQueue[str] = SimpleQueue()


class Postbox(Agent):
    @method
    def drop(self, letter: str) -> None:
        box.put(letter)


node = Node("push")
node.add(Postbox("postbox"))

with node:
    postbox = node.proxy("postbox")
    postbox.wait_ready()
    for number in (1, 2, 3):
        postbox.drop.cast(letter=f"letter {number}")
    print("all are posted")
    for _ in range(3):
        print("in the box:", box.get(timeout=20))
