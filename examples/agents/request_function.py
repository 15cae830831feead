"""Request and reply with a plain function: no class is needed to offer a service."""

from callboard import Node

node = Node("request-function")
node.worker(service="shout")(lambda text: f"{text.upper()}!")

with node:
    shout = node.pool("shout")
    shout.wait_ready(20)
    for word in ("curtain", "lights", "applause"):
        print(shout.call(text=word))
