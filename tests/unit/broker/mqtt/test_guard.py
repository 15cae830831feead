from __future__ import annotations

import pytest

from callboard_broker.engine.embedded.guard import Guard
from callboard_broker.mqtt.counters import Counters
from callboard_broker.mqtt.limits import Limits


def guard(**limits: int) -> tuple[Guard, Counters]:
    counters = Counters()
    return Guard(Limits(**limits), counters), counters


@pytest.mark.parametrize("bound", ["connections", "connections_per_address"])
def test_no_more_than_so_many_at_once(bound: str) -> None:
    door, counters = guard(**{bound: 2})
    assert [door.enter("a", 1.0) for _ in range(3)] == [True, True, False]
    assert counters.bounds[bound] == 1
    door.leave("a")
    assert door.enter("a", 1.0)


def test_addresses_do_not_count_for_each_other() -> None:
    door, _ = guard(connections_per_address=1)
    assert door.enter("a", 1.0)
    assert door.enter("b", 1.0)


def test_new_connections_are_limited_to_a_rate() -> None:
    door, counters = guard(connect_rate=10)
    assert sum(door.enter("a", 100.0) for _ in range(20)) == 10
    assert sum(door.enter("a", 100.5) for _ in range(20)) == 5
    assert counters.bounds["connect_rate"] == 25
