"""The frames of one step: a byte of state and a byte of tries each, and what happens to them by the table. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from callboard_core.errors import BadRequest, NotFound
from callboard_core.farm.states import FRAMES, FrameEvent, FrameState

__all__ = ["SEGMENT", "Strip", "code"]

#: Frames that are written together.
SEGMENT = 1024
_STATES = tuple(FrameState)
_CODES = {state: number for number, state in enumerate(_STATES)}
_WAITING = _CODES[FrameState.WAITING]
_STAYS = 255
_MOST_TRIES = 255


def code(state: FrameState) -> int:
    """Return the byte that stands for a state."""
    return _CODES[state]


def _table(event: FrameEvent) -> bytes:
    """What each byte becomes when ``event`` happens; 255 where it cannot happen."""
    following = ((FRAMES.get((state, event))) for state in _STATES)
    return bytes(_STAYS if state is None else _CODES[state] for state in following)


_NEXT = {event: _table(event) for event in FrameEvent}


class Strip:
    """Frames in ascending order, told apart by their index.

    Attributes:
        numbers: the frames' numbers; a range where they are evenly spaced.
        counts: how many frames are in each state, by the state's byte.
        changed: segments that differ from what was last stored.
    """

    __slots__ = ("_low", "changed", "counts", "numbers", "states", "tries")

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = _compact(numbers)
        self.states = bytearray(len(numbers))
        self.tries = bytearray(len(numbers))
        self.counts = [0] * len(_STATES)
        self.counts[_WAITING] = len(numbers)
        self.changed: set[int] = set(range((len(numbers) + SEGMENT - 1) // SEGMENT))
        self._low = 0

    def __len__(self) -> int:
        return len(self.states)

    def count(self, state: FrameState) -> int:
        """Return how many frames are in a state."""
        return self.counts[_CODES[state]]

    def state(self, index: int) -> FrameState:
        """Return a frame's state."""
        return _STATES[self.states[index]]

    def index(self, number: int) -> int:
        """Return where a frame is.

        Raises:
            NotFound: there is no such frame here.
        """
        try:
            return self.numbers.index(number)
        except ValueError:
            raise NotFound(f"there is no frame {number}") from None

    def indexes(self, numbers: Iterable[int]) -> list[int]:
        """Return where frames are."""
        return [self.index(number) for number in numbers]

    def within(self, *states: FrameState) -> list[int]:
        """Return the indexes of the frames that are in one of these states."""
        wanted = {_CODES[state] for state in states}
        return [index for index, held in enumerate(self.states) if held in wanted]

    def next(self, count: int) -> list[int]:
        """Return the first ``count`` frames that wait, or fewer."""
        found: list[int] = []
        at = self._low
        while len(found) < count and (at := self.states.find(_WAITING, at)) >= 0:
            found.append(at)
            at += 1
        self._low = found[0] if found else len(self.states)
        return found

    def may(self, event: FrameEvent, index: int) -> bool:
        """Tell whether ``event`` can happen to a frame."""
        return _NEXT[event][self.states[index]] != _STAYS

    def apply(self, event: FrameEvent, indexes: Iterable[int]) -> list[int]:
        """Have ``event`` happen to those frames to which it can; return the ones it changed."""
        following, touched = _NEXT[event], []
        for index in indexes:
            before = self.states[index]
            after = following[before]
            if after in {_STAYS, before}:
                continue
            self.states[index] = after
            self.counts[before] -= 1
            self.counts[after] += 1
            self.changed.add(index // SEGMENT)
            if after == _WAITING and index < self._low:
                self._low = index
            touched.append(index)
        return touched

    def try_again(self, index: int) -> int:
        """Count a try that failed; return how many there were."""
        self.tries[index] = min(self.tries[index] + 1, _MOST_TRIES)
        self.changed.add(index // SEGMENT)
        return self.tries[index]

    def forgive(self, indexes: Iterable[int]) -> None:
        """Count tries afresh."""
        for index in indexes:
            if self.tries[index]:
                self.tries[index] = 0
                self.changed.add(index // SEGMENT)

    def segment(self, number: int) -> bytes:
        """Return what is stored of a segment."""
        part = slice(number * SEGMENT, (number + 1) * SEGMENT)
        return bytes(self.states[part] + self.tries[part])

    def restore(self, number: int, stored: bytes) -> None:
        """Take over what was stored of a segment.

        Raises:
            BadRequest: it is of another number of frames.
        """
        part = slice(number * SEGMENT, (number + 1) * SEGMENT)
        half = len(stored) // 2
        if half != len(self.states[part]) or len(stored) % 2:
            raise BadRequest(f"segment {number} holds {half} frames, expected {len(self.states[part])}")
        self.states[part], self.tries[part] = stored[:half], stored[half:]
        self.changed.discard(number)

    def recount(self) -> None:
        """Count anew, after segments were restored."""
        self.counts = [self.states.count(number) for number in range(len(_STATES))]
        self._low = 0


def _compact(numbers: Sequence[int]) -> Sequence[int]:
    if len(numbers) > 1:
        spaced = range(numbers[0], numbers[-1] + 1, max(1, numbers[1] - numbers[0]))
        if len(spaced) == len(numbers) and all(map(int.__eq__, spaced, numbers)):
            return spaced
    return array("i", numbers)
