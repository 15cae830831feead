"""Groups of agents that end together: each node is one, and ends without disturbing the others."""

import threading

from callboard import Agent, Dropped, Heard, Node, every, on


class Chatter(Agent):
    def __init__(self, name: str, word: str) -> None:
        super().__init__(name)
        self.word = word

    @every(0.05)
    def chat(self) -> None:
        self.emit("chat", word=self.word)


class Ear(Agent):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.heard: set[str] = set()
        self.changed = threading.Condition()

    @on("chat")
    def hear(self, event: Heard) -> None:
        with self.changed:
            self.heard.add(event.data["word"])
            self.changed.notify_all()

    def wait(self, *words: str) -> bool:
        with self.changed:
            self.heard.clear()
            return self.changed.wait_for(lambda: self.heard >= set(words), 20)


hosts, guests, ear = Node("hosts"), Node("guests"), Ear("ear")
hosts.add(ear, Chatter("host", "welcome"))
guests.add(Chatter("apple", "apple"), Chatter("grape", "grape"))

with hosts:
    with guests:
        print("all talk:", ear.wait("welcome", "apple", "grape"))
        follower = hosts.directory.follow(node="guests", kind="node")
        follower.get(20)
    print("the guests have left:", isinstance(follower.get(20), Dropped))
    ear.wait("welcome")  # what was on its way has arrived
    print("the host still talks:", ear.wait("welcome"), "and nobody else:", ear.heard == {"welcome"})
