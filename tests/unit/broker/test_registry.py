"""callboard_broker.services.registry, without a broker or a database."""

import threading
from types import SimpleNamespace

import pytest

from callboard_broker.services.clocks import Clocks
from callboard_broker.services.feed import Feed
from callboard_broker.services.registry import Registry

LEVEL = ("shed", "sensor", "level")


class Notes:
    def __init__(self):
        self.keys = []

    def submit(self, key, job):
        self.keys.append(key)


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def registry(notes):
    return Registry(
        directory=SimpleNamespace(node=lambda _: None, nodes=list, find=lambda **_: []),
        database=None,
        notes=notes,
        clocks=Clocks(),
        refusals=None,
        feed=Feed,
        forget_after=1.0,
    )


def test_a_node_that_is_forgotten_while_its_card_goes_costs_no_change(registry, notes):
    registry._note_card(LEVEL, "{}")

    def forget_meanwhile():
        thread = threading.Thread(target=registry.forgotten, args=("shed",))
        thread.start()
        thread.join(10)
        return 1.0

    registry._clock = forget_meanwhile
    registry._note_card(LEVEL, "")
    assert notes.keys == [("card", *LEVEL), ("forget", "shed")]
    registry._clock = lambda: 2.0
    registry._note_card(LEVEL, "{}")
    assert notes.keys[-1] == ("card", *LEVEL)


def test_forgetting_and_noting_from_many_threads_raises_nothing(registry):
    troubles = []

    def work(index):
        try:
            for number in range(300):
                registry._note_card((f"n{number % 7}", "sensor", f"s{index}"), "{}" if number % 2 else "")
                registry._note_node(f"n{number % 5}")
                registry.forgotten(f"n{number % 7}")
        except Exception as error:
            troubles.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert troubles == []
