"""A greenhouse without hardware: a sensor, a control and an action that belong together.

Run it with ``python examples/greenhouse.py``, or let the agent run it: ``callboard node examples/greenhouse.py``.
"""

import asyncio
import random

from callboard import Node, Request

node = Node("greenhouse", label="Greenhouse", tags=["garden"])
air = {"temperature": 21.0, "fan": 0.0}


@node.sensor(unit="°C", every=1, normal={"low": 12, "high": 28}, warning={"low": 8, "high": 33})
def temperature() -> float:
    """Air temperature, pulled down by the fan."""
    air["temperature"] += random.gauss(0.02, 0.1) - air["fan"] / 1000
    return round(air["temperature"], 2)


@node.control(minimum=0, maximum=100, unit="%", initial=20)
def fan(value: float) -> None:
    """Speed of the fan."""
    air["fan"] = value


@node.action(confirm="Really open the vent?", timeout=60)
async def open_vent(request: Request, seconds: float = 5.0) -> str:
    """Open the vent for a while; interrupting it closes the vent at once."""
    for step in range(10):
        request.progress(step / 10)
        await asyncio.sleep(seconds / 10)
    return f"the vent was open for {seconds:g} s"


if __name__ == "__main__":
    node.run()
