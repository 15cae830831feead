"""Who may have a password checked now, if many do: guessing is slowed down, and whoever guesses keeps nobody else out. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict

from callboard_broker.services.brake import Brake

__all__ = ["Familiar", "Room", "Sought"]


class Familiar:
    """Which users have logged in from which addresses: there they are not held up by what others do.

    Args:
        most: pairs that are remembered; the oldest go first.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._pairs: OrderedDict[tuple[str, str], None] = OrderedDict()

    def knows(self, address: str, name: str) -> bool:
        """Tell whether ``name`` has logged in from ``address``."""
        return (address, name) in self._pairs

    def note(self, address: str, name: str) -> None:
        """Somebody has logged in."""
        self._pairs.pop((address, name), None)
        self._pairs[address, name] = None
        if len(self._pairs) > self._most:
            self._pairs.popitem(last=False)


class Sought:
    """Names that are guessed at from many addresses, none of which has failed often enough to be slowed down itself.

    Args:
        familiar: who is spared.
        free: failures of a name, from wherever, that cost nothing.
        rest: seconds without a failure until it costs nothing again.
    """

    def __init__(self, familiar: Familiar, *, free: int = 50, rest: float = 1.0) -> None:
        self._familiar = familiar
        self._brake = Brake(free=free, first=rest, longest=rest)

    def wait(self, address: str, name: str, now: float) -> float:
        """Return the seconds until somebody who is not known at ``address`` may try ``name`` again; 0 if now."""
        return 0.0 if self._familiar.knows(address, name) else self._brake.wait(name, now)

    def failed(self, name: str, now: float) -> None:
        """Note a failure at ``now`` (seconds)."""
        self._brake.failed(name, now)


class Room:
    """Checks that are under way, bounded so that they do not hold up everything else. Not safe from several threads at a time.

    Args:
        most: at a time.
        strangers: of these, for users where they have not logged in before.
        each: of these, for one address.
    """

    def __init__(self, most: int, strangers: int, each: int) -> None:
        self._most = most
        self._strangers = strangers
        self._each = each
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str, *, familiar: bool) -> bool:
        """Tell whether there is room for one more from ``address``; if so it must :meth:`leave` later."""
        most = self._most if familiar else self._strangers
        if self._by_address.total() >= most or self._by_address[address] >= self._each:
            return False
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A check is over."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
