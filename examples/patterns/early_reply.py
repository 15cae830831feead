"""Early reply, then continue: the caller knows at once that its order was taken; the work goes on after that."""

import threading
from queue import SimpleQueue

import callboard
from callboard import Heard, Node, Request

node = Node("early-reply")
patience = threading.Event()


@node.worker(service="order-cake")
def order_cake(request: Request, flavour: str) -> None:
    request.reply(f"your {flavour} cake is being baked")
    patience.wait(20)
    node.emit("baked", flavour=flavour)


with node, callboard.connect() as board:
    baked: SimpleQueue[Heard] = SimpleQueue()
    board.listen("baked", baked.put).ready.result(20)
    print(board.pool("order-cake", wait=20).call(flavour="cherry"))
    print("answered before it was done:", baked.empty())
    patience.set()
    print(f"the {baked.get(timeout=20).data['flavour']} cake is ready")
