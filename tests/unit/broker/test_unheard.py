"""Unheard: sockets whose other end has fallen silent are cut, and no others."""

from callboard_broker.engine.embedded.unheard import Unheard
from callboard_core.silence import DEAD


class FakeWire:
    """A socket that repeats in vain or not, and notes that it was cut."""

    def __init__(self, *, repeats: int) -> None:
        self.repeats = repeats
        self.cuts = 0

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        return bytes([1, 0, self.repeats])[:size]

    def cut(self) -> None:
        self.cuts += 1


def test_silent_sockets_are_cut_and_others_stay() -> None:
    unheard, silent, living, gone = Unheard(), FakeWire(repeats=3), FakeWire(repeats=0), FakeWire(repeats=3)
    for wire in (silent, living, gone):
        unheard.add(wire, wire)
    unheard.remove(gone)
    unheard.remove(gone)
    for now in (10.0, 10.5, 12.0, 10.0 + DEAD - 0.5):
        unheard.look(now)
    assert silent.cuts == 0
    unheard.look(10.0 + DEAD + 0.6)
    assert (silent.cuts, living.cuts, gone.cuts) == (1, 0, 0)
