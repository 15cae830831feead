"""The last value of every thing, as the retained states say."""

from __future__ import annotations

from typing import NamedTuple

from callboard_core.messages import State

__all__ = ["Thing", "Value", "Values"]

#: node, kind, name
Thing = tuple[str, str, str]


class Value(NamedTuple):
    """A state and when the board received it (Unix seconds)."""

    state: State
    received: float


class Values:
    """Written by the thread that receives; reading needs no lock."""

    def __init__(self) -> None:
        self._values: dict[Thing, Value] = {}

    def put(self, thing: Thing, state: State, received: float) -> None:
        """Note a thing's state."""
        self._values[thing] = Value(state, received)

    def remove(self, thing: Thing) -> None:
        """Forget a thing whose state was cleared."""
        self._values.pop(thing, None)

    def of(self, thing: Thing) -> Value | None:
        """Return a thing's last state."""
        return self._values.get(thing)

    def find(self, node: str | None = None, kind: str | None = None) -> list[tuple[Thing, Value]]:
        """Return the states of a node, of a kind, or all, by thing."""
        chosen = self._values.copy().items()
        return sorted(
            (
                (thing, value)
                for thing, value in chosen
                if node in {None, thing[0]} and kind in {None, thing[1]}
            ),
            key=lambda pair: pair[0],
        )
