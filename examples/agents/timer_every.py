"""Several timers of one agent, with arguments; they keep their time without drift."""

import threading
import time
from functools import partial

from callboard import Agent, Node, every


class Metronome(Agent):
    @every(0.05)
    def beat(self) -> None:
        time.sleep(0.03)  # the work takes time, and the next beat is due all the same


node = Node("timer-every")
metronome = Metronome("metronome")
said: list[str] = []
enough = threading.Event()


def say(word: str, *, times: int) -> None:
    said.append(word * times)
    if len(said) >= 10:
        enough.set()


node.add(metronome)
with node:
    begun = time.monotonic()
    metronome.every(0.1, partial(say, "tick", times=1), name="tick")
    metronome.every(0.15, partial(say, "tock", times=2), name="tock")
    enough.wait(20)
    timers = {timer.name: timer for timer in metronome.timers()}
    due = (time.monotonic() - begun) / 0.05
    print("timers:", ", ".join(sorted(timers)))
    print("said", *sorted(set(said)))
    print(
        "every beat was done, or counted as too late:",
        timers["beat"].runs + timers["beat"].skipped > 0.8 * due,
    )
