"""Agents are classes: what a base class offers, every derived one offers, too."""

from callboard import Agent, Node, attribute, method


class Instrument(Agent):
    played: int = attribute(0)

    def sound(self) -> str:
        raise NotImplementedError

    @method
    def play(self, times: int = 1) -> str:
        self.played += times
        return " ".join([self.sound()] * times)


class Drum(Instrument):
    def sound(self) -> str:
        return "boom"


class Bell(Instrument):
    def sound(self) -> str:
        return "ding"

    @method
    def muffle(self) -> str:
        return "(ding)"


node = Node("inherit")
node.add(Drum("drum"), Bell("bell"))

with node:
    drum, bell = node.proxy("drum"), node.proxy("bell")
    drum.wait_ready()
    bell.wait_ready()
    print(drum.play(times=2), "|", bell.play(), "|", bell.muffle())
    print("played:", drum.played, "and", bell.played)
