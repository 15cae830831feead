"""Free slots during one pass, sorted so that the best one for a queue is found without looking at all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice

from callboard_broker.services.farm.lineup import Row
from callboard_broker.services.farm.rules import Offer, OfferKey, Queue, fits, only_hosts, refuses_node

__all__ = ["Shelves"]

#: Nodes with the job's files that are looked up one by one; when there are more, slots are tried in their order.
_FEW = 16
#: Slots that are then looked at for one with the files.
_LOOKED_AT = 16


class _Shelf:
    """The slots of one engine with the same tags; ``alive`` also counts those that are not free."""

    __slots__ = ("_by_node", "_nodes", "_start", "alive", "free", "left", "sample")

    def __init__(self, sample: Offer) -> None:
        self.sample = sample
        self.free: list[Offer] = []
        self.alive = self.left = self._start = 0
        self._by_node: dict[str, list[Offer]] | None = None
        self._nodes: frozenset[str] | None = None

    def close(self) -> None:
        """Sort the slots; none is added afterwards."""
        self.free.sort(key=_rank)
        self.left = len(self.free)

    def on_node(self, node: str) -> list[Offer]:
        if self._by_node is None:
            self._by_node = {}
            for offer in self.free:
                self._by_node.setdefault(offer.node, []).append(offer)
        return self._by_node.get(node, [])

    def nodes(self) -> AbstractSet[str]:
        if self._nodes is None:
            self._nodes = frozenset(offer.node for offer in self.free)
        return self._nodes

    def untaken(self, taken: set[OfferKey]) -> Iterator[Offer]:
        while self._start < len(self.free) and self.free[self._start].key in taken:
            self._start += 1
        return (offer for offer in islice(self.free, self._start, None) if offer.key not in taken)


def _rank(offer: Offer) -> tuple[float, OfferKey]:
    return -offer.speed, offer.key


class Shelves:
    """The slots that are free for one phase of a pass."""

    def __init__(self, offers: Iterable[Offer], is_free: Callable[[Offer], bool]) -> None:
        self._shelves: dict[tuple[str, frozenset[str]], _Shelf] = {}
        self._fitting: dict[tuple[str, frozenset[str]], list[_Shelf]] = {}
        self._taken: set[OfferKey] = set()
        self._at: dict[str, list[Offer]] = {}
        self.left = 0
        for offer in offers:
            if not offer.closed:
                self._add(offer, is_free(offer))
        for shelf in self._shelves.values():
            shelf.close()
        for there in self._at.values():
            there.sort(key=_rank, reverse=True)

    def _add(self, offer: Offer, free: bool) -> None:
        kind = offer.engine, offer.tags
        shelf = self._shelves.get(kind)
        if shelf is None:
            shelf = self._shelves[kind] = _Shelf(offer)
        shelf.alive += 1
        if free:
            shelf.free.append(offer)
            self.left += 1
            if offer.at is not None:
                self._at.setdefault(offer.at, []).append(offer)

    def _fit(self, row: Row) -> list[_Shelf]:
        asked = row.engine, row.tags
        found = self._fitting.get(asked)
        if found is None:
            found = [one for one in self._shelves.values() if fits(row.engine, row.tags, one.sample) is None]
            self._fitting[asked] = found
        return found

    def count(self, row: Row) -> int:
        """How many free slots could take what a row asks for."""
        return sum(shelf.left for shelf in self._fit(row))

    def reachable(self, row: Row) -> int:
        """How many slots could take it if they were free."""
        return sum(shelf.alive for shelf in self._fit(row))

    def take(self, offer: Offer) -> None:
        """Give a slot away."""
        self._taken.add(offer.key)
        self._shelves[offer.engine, offer.tags].left -= 1
        self.left -= 1

    def best(self, row: Row, queue: Queue, hosts: Mapping[str, int]) -> Offer | None:
        """Return the slot that suits a queue best: one that is at its job, one that has its files, the fastest.

        Args:
            row: what the queue asks for.
            queue: for its job, its blocklist, and the nodes that have its files.
            hosts: the nodes that work on its job.
        """
        found = self._at_job(row, queue, hosts)
        if found is not None:
            return found
        return self._elsewhere([shelf for shelf in self._fit(row) if shelf.left], queue, hosts)

    def _at_job(self, row: Row, queue: Queue, hosts: Mapping[str, int]) -> Offer | None:
        """The best of those that worked on its job last; they lie with the best at the end."""
        there = self._at.get(queue.key[0], [])
        while there and there[-1].key in self._taken:
            there.pop()
        for offer in reversed(there):
            if (
                offer.key not in self._taken
                and refuses_node(queue, offer.key[0], hosts) is None
                and fits(row.engine, row.tags, offer) is None
            ):
                return offer
        return None

    def _elsewhere(self, shelves: list[_Shelf], queue: Queue, hosts: Mapping[str, int]) -> Offer | None:
        only = only_hosts(queue, hosts)
        warm = queue.warm if only is None else queue.warm & only.keys()
        if 0 < len(warm) <= _FEW:
            found = self._on_nodes(shelves, warm - queue.blocked)
            if found is not None:
                return found
        if only is not None:
            return self._on_nodes(shelves, only.keys() - queue.blocked)
        return self._in_order(shelves, queue)

    def _on_nodes(self, shelves: list[_Shelf], nodes: AbstractSet[str]) -> Offer | None:
        return self._first(offer for shelf in shelves for node in nodes for offer in shelf.on_node(node))

    def _first(self, offers: Iterable[Offer]) -> Offer | None:
        return min((offer for offer in offers if offer.key not in self._taken), key=_rank, default=None)

    def _in_order(self, shelves: list[_Shelf], queue: Queue) -> Offer | None:
        """The first that may be used, unless one soon after it has the files."""
        look = _LOOKED_AT if len(queue.warm) > _FEW else 1
        best: tuple[bool, tuple[float, OfferKey], Offer] | None = None
        for shelf in shelves:
            for offer in islice(self._usable(shelf, queue.blocked), look):
                found = offer.key[0] not in queue.warm, _rank(offer), offer
                if best is None or found[:2] < best[:2]:
                    best = found
                if not found[0]:
                    break
        return best[2] if best else None

    def _usable(self, shelf: _Shelf, blocked: AbstractSet[str]) -> Iterator[Offer]:
        if not blocked:
            return shelf.untaken(self._taken)
        if shelf.nodes() <= blocked:
            return iter(())
        return (offer for offer in shelf.untaken(self._taken) if offer.key[0] not in blocked)
