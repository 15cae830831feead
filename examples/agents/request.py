"""Request and reply, ten times, and one that goes wrong: the error comes back, and the agent goes on."""

from callboard import Agent, CallboardError, Node, method


class Divider(Agent):
    @method
    def divide(self, a: int, b: int) -> float:
        return a / b


node = Node("request")
node.add(Divider("divider"))

with node:
    divider = node.proxy("divider")
    divider.wait_ready()
    print([divider.divide(a=10, b=b) for b in range(1, 11)])
    try:
        divider.divide(a=1, b=0)
    except CallboardError as error:
        print(error.message)
    print(divider.divide(a=9, b=3))
