"""Why a queue is not running, told with the rules that ``schedule`` follows. A dry run; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from callboard_broker.services.farm.lineup import Lineup
from callboard_broker.services.farm.rules import Offer, Queue, Usage, busy, fits, full, refuses_node, waits
from callboard_broker.services.farm.schedule import Pick, plan

__all__ = ["Reason", "why"]

#: Names told in one sentence.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a queue from running, or ``starts`` when nothing does.

    Attributes:
        code: stable name: held, nothing_waits, wait, limit, no_slots, engine, tags, closed, blocked, hosts, busy,
            turn or starts.
        text: for people.
        count: how many slots it concerns.
    """

    code: str
    text: str
    count: int = 0


def why(
    queue: Queue, queues: Lineup | Iterable[Queue], offers: Iterable[Offer], usage: Usage
) -> list[Reason]:
    """Return what keeps a queue from running, the nearest first; never empty.

    Exactly one ``starts`` when the next pass gives it a slot. The code ``turn`` means that slots would do and others
    are served first.

    Args:
        queue: the one that is asked about; among ``queues`` if it is in line.
        queues: everything that is in line.
        offers: every known slot, also closed ones.
        usage: as for :func:`plan`.
    """
    itself = _of_the_queue(queue, usage)
    if itself is not None:
        return [itself]
    known = sorted(offers, key=lambda offer: offer.key)
    if not known:
        return [Reason("no_slots", "no node has announced a slot")]
    obstacles = [(_obstacle(queue, offer, usage), offer) for offer in known]
    if all(code is not None for code, _ in obstacles):
        return _of_the_slots(queue, [(code, offer) for code, offer in obstacles if code is not None])
    lineup = queues if isinstance(queues, Lineup) else Lineup(queues)
    return [_turn(queue, lineup, plan(lineup, known, usage))]


def _of_the_queue(queue: Queue, usage: Usage) -> Reason | None:
    """What concerns every slot."""
    if queue.held:
        return Reason("held", queue.held)
    if queue.ready <= 0:
        return Reason("nothing_waits", "nothing of it waits: all is done, failed or being worked on")
    if waits(queue, usage):
        what = queue.waits_for or "it waits after a failure"
        return Reason("wait", f"{what}; next try in {queue.not_before - usage.now:.0f} s")
    limit = full(queue.limits, usage.running, usage.limits)
    if limit is not None:
        used, most = usage.running.get(limit, 0), usage.limits[limit]
        return Reason("limit", f"the limit {limit!r} allows {most} at a time, and {used} are in use")
    return None


def _obstacle(queue: Queue, offer: Offer, usage: Usage) -> str | None:
    never = fits(queue.engine, queue.tags, offer)
    if never is not None:
        return never
    if offer.closed:
        return "closed"
    refused = refuses_node(queue, offer.node, queue.hosts)
    if refused is not None:
        return refused
    return "busy" if busy(offer, usage, ahead=False) and busy(offer, usage, ahead=True) else None


def _of_the_slots(queue: Queue, obstacles: list[tuple[str, Offer]]) -> list[Reason]:
    """The same obstacle of many slots is told once; what a person can do least about comes last."""
    found: dict[str, list[Offer]] = {}
    for code, offer in obstacles:
        found.setdefault(code, []).append(offer)
    return [
        Reason(code, tell(queue, found[code]), len(found[code]))
        for code, tell in _TELL.items()
        if code in found
    ]


def _closed(queue: Queue, offers: list[Offer]) -> str:
    del queue
    reasons: dict[str, list[Offer]] = {}
    for offer in offers:
        reasons.setdefault(offer.closed, []).append(offer)
    return "; ".join(f"{_slots(some)} {_are(some)} {reason}" for reason, some in reasons.items())


def _missing(queue: Queue, offers: list[Offer]) -> str:
    lacking = sorted({tag for offer in offers for tag in queue.tags - offer.tags})
    return (
        f"{_slots(offers)} {_verb(offers, 'has', 'have')} not all the tags it asks for: {', '.join(lacking)}"
    )


_TELL: Mapping[str, Callable[[Queue, list[Offer]], str]] = {
    "busy": lambda _queue, offers: f"{_slots(offers)} {_are(offers)} busy",
    "hosts": lambda queue, _offers: (
        f"it may use {queue.max_hosts} nodes at a time and works on {', '.join(sorted(queue.hosts))}"
    ),
    "blocked": lambda queue, offers: (
        f"{_names(sorted({offer.node for offer in offers}))} failed its {queue.task_type} work too often"
    ),
    "closed": _closed,
    "tags": _missing,
    "engine": lambda queue, offers: (
        f"{_slots(offers)} {_verb(offers, 'runs', 'run')} another engine than {queue.engine}"
    ),
}


def _slots(offers: list[Offer]) -> str:
    return _names([f"{offer.node}/{offer.key[1]}" for offer in offers])


def _names(names: list[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _verb(offers: list[Offer], one: str, many: str) -> str:
    return one if len(offers) == 1 else many


def _are(offers: list[Offer]) -> str:
    return _verb(offers, "is", "are")


def _turn(queue: Queue, lineup: Lineup, picks: list[Pick]) -> Reason:
    own = [pick for pick in picks if pick.queue == queue.key]
    if own:
        where = ", ".join("/".join(pick.offer) for pick in own[:_NAMED])
        return Reason("starts", f"it starts as soon as {where} has taken it", len(own))
    first = list(dict.fromkeys(pick.queue[0] for pick in picks))
    by_key = {one.key: one for one in lineup}
    told = [f"{job} ({_rank(by_key, picks, job)})" for job in first[:_NAMED]]
    return Reason("turn", f"the free slots go first to {_names_of(told, len(first))}", len(picks))


def _rank(queues: Mapping[tuple[str, int], Queue], picks: list[Pick], job: str) -> str:
    queue = queues[next(pick.queue for pick in picks if pick.queue[0] == job)]
    return f"priority {queue.priority}" + (f", {queue.owner}" if queue.owner else "")


def _names_of(told: list[str], total: int) -> str:
    more = f" and {total - len(told)} more" if total > len(told) else ""
    return ", ".join(told) + more
