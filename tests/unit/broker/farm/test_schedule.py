"""The scheduler keeps every rule on any farm that can be thought of, and says why something is not running."""

from collections import Counter
from copy import deepcopy
from dataclasses import asdict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard_broker.services.farm.rules import busy, fits, full, refuses_node, waits
from callboard_broker.services.farm.schedule import Lineup, Offer, Pick, Queue, Usage, chunk_size, plan
from callboard_broker.services.farm.why import why
from callboard_core.farm.messages import serves
from callboard_core.settings import FarmSchedule

NODES, TAGS, OWNERS = ["n1", "n2", "n3"], ["gpu", "big"], ["ann", "bob", "cy"]
tags = st.frozensets(st.sampled_from(TAGS), max_size=2)
nodes = st.sets(st.sampled_from(NODES), max_size=2)


@st.composite
def queues(draw, most=8):
    jobs = draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=most))
    hosts = {job: dict.fromkeys(draw(nodes), 1) for job in "abcd"}
    most_hosts = {job: draw(st.sampled_from([0, 0, 1, 2])) for job in "abcd"}
    return [
        Queue(
            key=(job, number),
            owner=draw(st.sampled_from(OWNERS)),
            tier=draw(st.integers(0, 1)),
            priority=draw(st.sampled_from([50, 60])),
            order=draw(st.integers(0, 5)),
            engine=draw(st.sampled_from(["blender", "povray"])),
            tags=draw(tags),
            limits=draw(st.sampled_from([(), ("arnold",), ("arnold", "disk")])),
            max_hosts=most_hosts[job],
            ready=draw(st.integers(0, 4)),
            chunk=draw(st.integers(0, 3)),
            frame_seconds=draw(st.none() | st.floats(0, 100)),
            startup_seconds=draw(st.none() | st.floats(0, 10)),
            held=draw(st.sampled_from(["", "", "", "paused"])),
            not_before=draw(st.sampled_from([0.0, 0.0, 0.0, 9.0])),
            hosts=hosts[job],
            blocked=draw(nodes) if draw(st.booleans()) else set(),
            warm=draw(nodes),
        )
        for number, job in enumerate(jobs)
    ]


@st.composite
def offers(draw, most=8):
    return [
        Offer(
            key=(draw(st.sampled_from(NODES)), f"s{number}"),
            engine=draw(st.sampled_from(["blender", "blender-persistent", "povray"])),
            tags=draw(tags),
            room=draw(st.integers(0, 2)),
            speed=draw(st.sampled_from([0.5, 1.0, 4.0])),
            eta=draw(st.none() | st.sampled_from([0.0, 5.0, 500.0])),
            at=draw(st.none() | st.sampled_from(["a", "b", "gone"])),
            closed=draw(st.sampled_from(["", "", "", "disabled"])),
        )
        for number in range(draw(st.integers(0, most)))
    ]


usages = st.builds(
    Usage,
    now=st.just(5.0),
    limits=st.fixed_dictionaries({}, optional={"arnold": st.integers(0, 4), "disk": st.integers(0, 4)}),
    running=st.fixed_dictionaries({}, optional={"arnold": st.integers(0, 4)}),
    owners=st.dictionaries(st.sampled_from(OWNERS), st.integers(0, 5)),
    shares=st.fixed_dictionaries({}, optional={"ann": st.sampled_from([0.5, 2.0])}),
    schedule=st.builds(FarmSchedule, prefetch_seconds=st.sampled_from([0.0, 30.0])),
)
farms = st.tuples(queues(), offers(), usages)
#: Farms are slow to think of.
fewer = settings(max_examples=60, deadline=None)


class After:
    """The farm as it is once the picks are carried out."""

    def __init__(self, farm, picks: list[Pick]):
        self.queues, self.offers, before = deepcopy(farm)
        self.by_key = {queue.key: queue for queue in self.queues}
        self.slots = {offer.key: offer for offer in self.offers}
        running, owners = Counter(before.running), Counter(before.owners)
        for pick in picks:
            queue = self.by_key[pick.queue]
            queue.ready -= pick.count
            queue.hosts[pick.offer[0]] = 1
            running.update(queue.limits)
            owners[queue.owner] += 1
            self.slots[pick.offer].room -= 1
        self.hosts = {}
        for queue in self.queues:
            self.hosts.setdefault(queue.key[0], set()).update(queue.hosts)
        self.usage = Usage(
            now=before.now, limits=before.limits, running=running, owners=owners, shares=before.shares
        )

    def could_take(self, queue, offer) -> bool:
        """Whether a slot, were it free, could still take some of the queue."""
        return (
            not queue.held
            and queue.ready > 0
            and not waits(queue, self.usage)
            and full(queue.limits, self.usage.running, self.usage.limits) is None
            and fits(queue.engine, queue.tags, offer) is None
            and refuses_node(queue, offer.node, dict.fromkeys(self.hosts[queue.key[0]], 1)) is None
        )


@fewer
@given(farms)
def test_no_rule_is_broken(farm):
    (all_queues, all_offers, usage), picks = farm, plan(*farm)
    after = After(farm, picks)
    taken = Counter(pick.offer for pick in picks)
    assert max(taken.values(), default=1) == 1
    for pick in picks:
        queue = next(one for one in all_queues if one.key == pick.queue)
        offer = next(one for one in all_offers if one.key == pick.offer)
        assert not queue.held
        assert queue.not_before <= usage.now
        assert pick.count >= 1
        assert not offer.closed
        assert pick.offer[0] not in queue.blocked
        assert serves(offer.engine, queue.engine)
        assert queue.tags <= offer.tags
        assert offer.room == (1 if pick.ahead else 2)
        assert not busy(offer, usage, ahead=pick.ahead)
        if queue.chunk:
            assert pick.count <= queue.chunk
    for name, most in usage.limits.items():
        assert after.usage.running[name] <= max(most, usage.running.get(name, 0))
    for queue in after.queues:
        assert queue.ready >= 0
        before = len(next(one for one in all_queues if one.key == queue.key).hosts)
        if queue.max_hosts:
            assert len(after.hosts[queue.key[0]]) <= max(queue.max_hosts, before)


@fewer
@given(farms)
def test_no_slot_stays_idle_while_something_could_use_it(farm):
    after = After(farm, plan(*farm))
    for offer in after.offers:
        if offer.closed or busy(offer, farm[2], ahead=False):
            continue
        assert not any(after.could_take(queue, offer) for queue in after.queues)


@fewer
@given(farms)
def test_nothing_goes_before_what_ranks_higher_and_could_have_had_its_slot(farm):
    picks = plan(*farm)
    after = After(farm, picks)
    for pick in picks:
        got = after.by_key[pick.queue]
        for other in after.queues:
            ranks_higher = (other.tier, -other.priority) < (got.tier, -got.priority)
            earlier = (other.tier, -other.priority, other.owner) == (got.tier, -got.priority, got.owner) and (
                (other.order, other.key) < (got.order, got.key)
            )
            if ranks_higher or earlier:
                assert not after.could_take(other, after.slots[pick.offer])


@fewer
@given(farms, st.randoms(use_true_random=False))
def test_the_answer_depends_on_nothing_but_the_farm_and_changes_nothing(farm, random: Random):
    all_queues, all_offers, usage = farm
    copy = deepcopy(farm)
    first = plan(*farm)
    random.shuffle(all_queues)
    random.shuffle(all_offers)
    assert plan(all_queues, all_offers, usage) == first
    assert {queue.key: asdict(queue) for queue in all_queues} == {q.key: asdict(q) for q in copy[0]}
    assert {offer.key: asdict(offer) for offer in all_offers} == {o.key: asdict(o) for o in copy[1]}
    assert usage == copy[2]


@fewer
@given(st.lists(st.sampled_from(OWNERS), min_size=1, max_size=12), st.integers(0, 20), st.data())
def test_owners_of_equal_rank_get_the_same_as_long_as_they_want_more(whose, slots, data):
    all_queues = [
        Queue(
            key=(f"j{number}", 0),
            owner=owner,
            order=number,
            engine="e",
            ready=data.draw(st.integers(1, 5)),
            chunk=1,
        )
        for number, owner in enumerate(whose)
    ]
    picks = plan(all_queues, [Offer(key=("n", f"s{number}"), engine="e") for number in range(slots)], Usage())
    got = Counter(next(one.owner for one in all_queues if one.key == pick.queue) for pick in picks)
    want = Counter()
    for queue in all_queues:
        want[queue.owner] += queue.ready
    for owner in want:
        if got[owner] < want[owner]:
            assert all(got[other] - got[owner] <= 1 for other in want)


def test_who_has_slots_already_lets_others_catch_up_and_a_share_counts():
    waiting = [Queue(key=(owner, 0), owner=owner, engine="e", ready=9, chunk=1) for owner in ("ann", "bob")]
    free = [Offer(key=("n", f"s{number}"), engine="e") for number in range(6)]
    got = Counter(pick.queue[0] for pick in plan(waiting, free, Usage(owners={"ann": 4})))
    assert got == {"ann": 1, "bob": 5}
    got = Counter(pick.queue[0] for pick in plan(waiting, free, Usage(shares={"ann": 2.0})))
    assert got == {"ann": 4, "bob": 2}


@fewer
@given(farms)
def test_why_says_starts_exactly_when_the_plan_gives_a_slot(farm):
    all_queues, all_offers, usage = farm
    picked = {pick.queue for pick in plan(*farm)}
    lineup = Lineup(all_queues)
    for queue in all_queues:
        reasons = why(queue, lineup, all_offers, usage)
        codes = [reason.code for reason in reasons]
        assert all(reason.text for reason in reasons)
        assert ("starts" in codes) == (queue.key in picked)
        alone = plan([queue], all_offers, usage)
        assert bool(alone) == (codes in (["starts"], ["turn"]))


@fewer
@given(st.lists(st.tuples(st.sampled_from("hrpod"), st.integers(0, 5)), max_size=40), queues())
def test_a_lineup_kept_up_to_date_is_one_made_anew(changes, all_queues):
    kept = Lineup(all_queues)
    for number, (what, value) in enumerate(changes):
        if not all_queues:
            break
        queue = all_queues[number % len(all_queues)]
        match what:
            case "h":
                queue.held = "" if value else "paused"
            case "r":
                queue.ready = value
            case "p":
                queue.priority, queue.owner = 50 + value, OWNERS[value % 3]
            case "o":
                queue.order = value
            case _:
                queue.ready = 0
                kept.discard(queue.key)
        kept.refresh(queue)
    made = Lineup(all_queues)
    assert shape(kept) == shape(made)
    assert len(kept) == len(made) == sum(1 for queue in all_queues if queue.key in kept)


def shape(lineup: Lineup):
    return [
        (
            level,
            {
                owner: {row: [q.key for q in line] for row, line in rows.items()}
                for owner, rows in owners.items()
            },
        )
        for level in lineup.levels()
        for owners in [lineup.owners(level)]
    ]


def queue(**fields):
    return Queue(**{"key": ("j", 0), "engine": "e", "ready": 8, "chunk": 1} | fields)


def offer(name="s", node="n", **fields):
    return Offer(**{"key": (node, name), "engine": "e"} | fields)


def test_the_slot_that_is_at_the_job_goes_before_one_with_its_files_and_that_before_the_fastest():
    at, warm, fast = offer("a", at="j"), offer("b", node="m"), offer("c", speed=9.0)
    picks = plan([queue(ready=3, warm={"m"})], [fast, warm, at], Usage())
    assert [pick.offer for pick in picks] == [("n", "a"), ("m", "b"), ("n", "c")]


def test_many_nodes_with_the_files_are_still_preferred():
    warm = {f"w{number}" for number in range(40)}
    free = [offer(node="cold", speed=2.0), *(offer(node=node) for node in warm)]
    (pick,) = plan([queue(ready=1, warm=warm)], free, Usage())
    assert pick.offer[0] in warm


def test_a_busy_slot_gets_something_ahead_only_near_its_end_and_after_the_idle_ones():
    near, far, unknown = (
        offer("near", room=1, eta=3),
        offer("far", room=1, eta=99),
        offer("unknown", room=1),
    )
    picks = plan([queue(ready=2)], [near, far, unknown, offer("idle")], Usage())
    assert [(pick.offer[1], pick.ahead) for pick in picks] == [("idle", False), ("near", True)]
    never = Usage(schedule=FarmSchedule(prefetch_seconds=0))
    assert plan([queue()], [offer(room=1, eta=0)], never) == []


@pytest.mark.parametrize(
    ("frame", "startup", "remaining", "slots", "expected"),
    [
        (None, None, 240, 8, 4),
        (None, None, 2, 8, 1),
        (0.2, 1.4, 10_000, 4, 75),
        (0.2, 1.4, 24, 2, 12),
        (0.2, 1.4, 24, 24, 7),
        (20.0, 1.4, 100, 4, 1),
        (20.0, 3.0, 100, 4, 1),
        (0.2, 0.0, 10_000, 4, 5),
        (0.0, 0.0, 10_000, 4, 500),
        (0.0, 0.0, 3, 4, 1),
        (3600.0, 60.0, 5, 1, 1),
        (1.0, None, 1000, 1, 15),
    ],
)
def test_chunks_are_cut_to_the_measured_time(frame, startup, remaining, slots, expected):
    assert chunk_size(frame, startup, remaining, slots) == expected


@given(
    st.none() | st.floats(0, 1e5),
    st.none() | st.floats(0, 1e4),
    st.integers(1, 10**6),
    st.integers(0, 10**4),
)
def test_a_chunk_is_never_empty_nor_more_than_waits(frame, startup, remaining, slots):
    assert 1 <= chunk_size(frame, startup, remaining, slots) <= min(remaining, 500)


@given(st.floats(0.001, 1), st.floats(0.2, 10), st.integers(1, 50))
def test_a_process_that_is_dear_to_start_gets_work_for_15_seconds_while_there_is_enough(
    frame, startup, slots
):
    plenty = 15_000 * slots * 2
    size = chunk_size(frame, startup, plenty, slots, FarmSchedule(most_frames=100_000))
    assert frame * size >= 15 * 0.999


def test_a_slot_gets_work_for_its_own_pace_and_one_not_yet_measured_gets_little():
    paces = {("n", "fast"): 0.01, ("n", "slow"): 1.0}
    waiting = queue(ready=10_000, chunk=0, frame_seconds=0.1, startup_seconds=0.0, slot_seconds=paces)
    picks = plan([waiting], [offer("fast"), offer("slow"), offer("new")], Usage())
    assert {pick.offer[1]: pick.count for pick in picks} == {"fast": 100, "slow": 1, "new": 4}


REASONS = [
    (queue(held="the job is paused"), [offer()], Usage(), [("held", "the job is paused")]),
    (queue(ready=0), [offer()], Usage(), [("nothing_waits", "nothing of it waits: all is done, failed or being worked on")]),
    (queue(not_before=12), [offer()], Usage(), [("wait", "it waits after a failure; next try in 12 s")]),
    (
        queue(limits=("arnold",)),
        [offer()],
        Usage(limits={"arnold": 2}, running={"arnold": 2}),
        [("limit", "the limit 'arnold' allows 2 at a time, and 2 are in use")],
    ),
    (queue(), [], Usage(), [("no_slots", "no node has announced a slot")]),
    (queue(engine="blender"), [offer()], Usage(), [("engine", "n/s runs another engine than blender")]),
    (queue(tags=frozenset({"gpu"})), [offer()], Usage(), [("tags", "n/s has not all the tags it asks for: gpu")]),
    (
        queue(),
        [offer("a", closed="disabled"), offer("b", closed="lost"), offer("c", closed="disabled")],
        Usage(),
        [("closed", "n/a, n/c are disabled; n/b is lost")],
    ),
    (queue(blocked={"n"}), [offer()], Usage(), [("blocked", "n failed its render work too often")]),
    (
        queue(max_hosts=1, hosts={"m": 1}),
        [offer(), offer(node="m", room=0)],
        Usage(),
        [("busy", "m/s is busy"), ("hosts", "it may use 1 nodes at a time and works on m")],
    ),
    (
        queue(),
        [offer(f"s{number}", room=0) for number in range(5)],
        Usage(),
        [("busy", "n/s0, n/s1, n/s2 and 2 more are busy")],
    ),
    (queue(), [offer()], Usage(), [("starts", "it starts as soon as n/s has taken it")]),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "there", "usage", "expected"), REASONS)
def test_why_is_told_in_words(asked, there, usage, expected):
    found = why(asked, [asked], there, usage)
    assert [(reason.code, reason.text) for reason in found] == expected


def test_why_names_what_goes_first():
    first = queue(key=("urgent", 0), priority=80, owner="ann")
    asked = queue(ready=1)
    (reason,) = why(asked, [first, asked], [offer()], Usage())
    assert (reason.code, reason.text) == ("turn", "the free slots go first to urgent (priority 80, ann)")


def test_a_pass_over_a_large_farm_picks_for_every_slot():
    waiting = [
        queue(key=(f"j{number}", 0), owner=f"o{number % 20}", order=number, ready=1)
        for number in range(10_000)
    ]
    free = [offer(f"s{number}", node=f"n{number // 4}") for number in range(1000)]
    assert len(plan(waiting, free, Usage())) == 1000
