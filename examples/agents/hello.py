"""The smallest system: one agent with one method, called through a proxy."""

from callboard import Agent, Node, method


class Greeter(Agent):
    @method
    def greet(self, name: str) -> str:
        return f"Good evening, {name}!"


node = Node("hello")
node.add(Greeter("greeter"))

with node:
    greeter = node.proxy("greeter")
    greeter.wait_ready()
    print(greeter.greet(name="Ada"))
