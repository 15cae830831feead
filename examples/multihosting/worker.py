"""One worker of the service ``texture``; run as many as you like, on as many machines as you like."""

import random
import secrets
import time

from callboard import Node

node = Node(f"texture-{secrets.token_hex(4)}")


@node.worker(service="texture", idempotent=True, timeout=10)
def texture(x: int, y: int) -> list[list[float]]:
    """A table of x columns and y rows."""
    node.emit("textured", x=x, y=y)
    time.sleep(0.2)
    return [[random.random() for _ in range(x)] for _ in range(y)]


if __name__ == "__main__":
    node.run()
