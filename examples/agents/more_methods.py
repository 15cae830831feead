"""An agent learns methods while it runs; callers see them at once."""

from callboard import Agent, Node, attribute


class Calculator(Agent):
    memory: float = attribute(0.0, settable=True)


def square(x: float) -> float:
    return x * x


node = Node("more-methods")
agent = Calculator("calculator")
node.add(agent)

with node:
    calculator = node.proxy("calculator")
    calculator.wait_ready()
    print("offers", ", ".join(calculator.fields()))

    agent.offer(square)
    agent.offer(lambda x: agent.memory + x, name="add_to_memory")
    for method in ("square", "add_to_memory"):
        node.pool(f"calculator:{method.replace('_', '-')}").wait_ready(20)
    print("offers", ", ".join(calculator.fields()))

    calculator.memory = calculator.square(x=6)
    print("36 + 6 =", calculator.add_to_memory(x=6))
