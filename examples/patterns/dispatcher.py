"""A dispatcher: workers come for their next task when they are free, however long each one takes."""

import threading
import time

from callboard import Node

office, riders = Node("courier-office"), Node("couriers")
parcels = [f"parcel {number}" for number in range(12)]
delivered: dict[str, int] = {}


@office.worker(service="courier-office:next")
def next_parcel() -> str | None:
    return parcels.pop() if parcels else None


def ride(who: str, seconds: float) -> None:
    """Take parcels until there are none."""
    while riders.pool("courier-office:next").call() is not None:
        time.sleep(seconds)
        delivered[who] = delivered.get(who, 0) + 1


with office, riders:
    riders.pool("courier-office:next").wait_ready(20)
    threads = [
        threading.Thread(target=ride, args=pair) for pair in (("the bicycle", 0.05), ("the tram", 0.5))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("delivered:", sum(delivered.values()))
print("the quicker one delivered more:", delivered["the bicycle"] > delivered["the tram"])
