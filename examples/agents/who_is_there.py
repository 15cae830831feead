"""The directory in place of a name server: who is there, and who comes and goes."""

from callboard import Agent, Available, Node

node = Node("who-is-there")
lamps = [Agent(f"lamp-{number}") for number in (1, 2, 3)]
node.add(*lamps)


def name(event) -> str:
    return event.entry.card.service.split(":")[0]


with node, node.directory.follow("lamp-*:timers") as follower:  # every agent answers for its timers
    coming = [follower.get(20) for _ in lamps]
    print("there are", ", ".join(sorted(name(event) for event in coming if isinstance(event, Available))))
    node.remove(lamps[1])
    print("gone is", name(follower.get(20)))
