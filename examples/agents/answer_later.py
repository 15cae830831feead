"""Ask now, get the answer later: a call that does not wait, and what is done with its answer."""

import time

from callboard import Agent, Node, method


class Librarian(Agent):
    @method
    def look_up(self, title: str) -> str:
        time.sleep(0.3)
        return f"{title} is on shelf {len(title)}"


node = Node("answer-later")
node.add(Librarian("librarian"))

with node:
    librarian = node.proxy("librarian")
    librarian.wait_ready()
    asked = librarian.look_up.submit(title="Hamlet")
    asked.add_done_callback(lambda answer: print("the answer came:", answer.result()))
    print("asked, and went on")
    asked.result()
