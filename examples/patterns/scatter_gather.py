"""Scatter and gather: everybody is asked the same, and all answers come back together, errors among them."""

import callboard
from callboard import Node

node = Node("scatter-gather")
PRICES = {"north": 12.5, "south": 11.0, "east": 14.0, "west": None}


def make_worker(shop: str) -> None:
    @node.worker(service=f"shop:{shop}", name=shop, timeout=20)
    def quote(article: str) -> float:
        price = PRICES[shop]
        if price is None:
            raise LookupError(f"no {article} in the {shop}")
        return price


for shop in PRICES:
    make_worker(shop)

with node, callboard.connect() as board:
    shops = board.pool("shop:*")
    shops.wait_ready(20, members=len(PRICES))
    answers = shops.scatter(article="lamp", timeout=20)
    for answer in answers:
        print(answer.service, "says", answer.result if answer.error is None else answer.error.message)
    print("cheapest:", min((one for one in answers if one.error is None), key=lambda one: one.result).service)
