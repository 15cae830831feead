"""A subscriber answers the publisher: it hears an event and calls back whoever told it."""

from queue import SimpleQueue

from callboard import Agent, Heard, Node, method, on

confirmed: SimpleQueue[str] = SimpleQueue()


class StageManager(Agent):
    @method
    def confirm(self, who: str, cue: int) -> str:
        return f"thank you, {who}: cue {cue} is yours"


class Department(Agent):
    @on("cue")
    def hear(self, event: Heard) -> None:
        manager = self.proxy(event.data["by"])
        confirmed.put(manager.confirm(who=self.name, cue=event.data["number"]))


node = Node("answer-publisher")
manager = StageManager("stage-manager")
node.add(manager, Department("light"), Department("sound"))

with node:
    node.proxy("stage-manager").wait_ready()
    manager.emit("cue", number=17, by=manager.name)
    for _ in range(2):
        print(confirmed.get(timeout=20))
