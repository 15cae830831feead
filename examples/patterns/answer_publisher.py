"""A subscriber answers the publisher: what is published names a service that takes the answers."""

import threading

from callboard import Heard, Node

auctioneer, bidders = Node("auctioneer"), Node("bidders")
bids: dict[str, int] = {}
answered = threading.Semaphore(0)


@auctioneer.worker(service="auction:bid")
def bid(who: str, amount: int) -> str:
    bids[who] = amount
    return f"noted, {who}"


def bidder(who: str, factor: float):
    async def answer(event: Heard) -> None:
        amount = round(event.data["start"] * factor)
        print(await bidders.pool(event.data["answers"]).acall(who=who, amount=amount))
        answered.release()

    return lambda event: bidders.spawn(answer(event))  # a listener must not wait


with auctioneer, bidders:
    bidders.pool("auction:bid").wait_ready(20)
    bidders.listen("lot", bidder("Berta", 1.5)).ready.result(20)
    bidders.listen("lot", bidder("Carl", 1.2)).ready.result(20)
    auctioneer.emit("lot", thing="a chair", start=100, answers="auction:bid")
    for _ in range(2):
        answered.acquire(timeout=20)
print("sold to", max(bids, key=bids.__getitem__), "for", max(bids.values()))
