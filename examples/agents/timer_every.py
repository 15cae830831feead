"""Several timers of one agent, with arguments; they keep their time without drift."""

import threading
import time
from functools import partial

from callboard import Agent, Node, every


class Metronome(Agent):
    beats = 0

    @every(0.05)
    def beat(self) -> None:
        self.beats += 1
        time.sleep(0.03)  # the work takes time, and the next beat comes on time all the same


node = Node("timer-every")
metronome = Metronome("metronome")
said: list[str] = []
enough = threading.Event()


def say(word: str, *, times: int) -> None:
    said.append(word * times)
    if len(said) >= 6:
        enough.set()


node.add(metronome)
with node:
    metronome.every(0.1, partial(say, "tick", times=1), name="tick")
    metronome.every(0.15, partial(say, "tock", times=2), name="tock")
    begun, counted = time.monotonic(), metronome.beats
    enough.wait(5)
    beats, seconds = metronome.beats - counted, time.monotonic() - begun
    print("timers:", ", ".join(sorted(timer.name for timer in metronome.timers())))
    print("said", *sorted(set(said)))
    print("on time:", beats > 0.8 * seconds / 0.05)
