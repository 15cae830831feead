"""Request and reply: a function is offered under a name, and called by it; waiting, awaiting, or in the background."""

import asyncio

import callboard
from callboard import CallboardError, Node

node = Node("request-reply")


@node.worker(service="tax", idempotent=True)
def tax(price: float, percent: float = 19.0) -> float:
    """What is to be paid."""
    return round(price * (1 + percent / 100), 2)


async def ask() -> None:
    async with callboard.connect() as board:
        print("awaited:", await board.pool("tax", wait=20).acall(price=10))


with node, callboard.connect() as board:
    pool = board.pool("tax")
    pool.wait_ready(20)
    print("called:", pool.call(price=100))
    futures = [pool.submit(price=price, percent=7) for price in (1, 2, 3)]
    print("in the background:", [future.result() for future in futures])
    try:
        pool.call(price="cheap")
    except CallboardError as error:
        print("refused before it was sent:", error.message)
    asyncio.run(ask())
