"""Workers, callers, boards and brokers are killed, stopped and cut off in the middle of calls, again and again.

Whatever happens: no caller waits longer than its time-out, no call runs twice that must not, nobody stays in a pool who is
gone, and the pool works again within seconds of the repair. ``CALLBOARD_LONG=1`` (``make soak``) makes it 50 rounds of each.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.faults import Machine, Outcome, Site, site, until
from support.netns import lan
from support.root import needs_root

LONG = bool(os.environ.get("CALLBOARD_LONG"))
ROUNDS = 50 if LONG else 2

pytestmark = [needs_root, pytest.mark.timeout(6000 if LONG else 240)]

VICTIMS = ("worker", "caller", "board", "broker")
FAULTS = ("kill", "stop", "cut")

#: How a call may go through the board.
ROADS = ("http", "plain")
#: Seconds for a call, and beyond that for its process to be scheduled and to tell us.
TIMEOUT, MARGIN = 10.0, 1.0
#: Seconds the work of a call takes.
WORK = 0.4
#: Seconds until a pool works again.
REPAIR = 5.0
#: Seconds a member may go on being asked although it hangs.
NOTICED = 5.0


@dataclass
class Story:
    """What became of the rounds of one victim and fault; ``wrong`` is empty when all was well."""

    rounds: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    repairs: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        slowest = max(self.repairs, default=0.0)
        return f"{self.rounds} rounds, {dict(self.outcomes)}, repaired within {slowest:.2f} s, wrong: {self.wrong[:5]}"


class Trial:
    """Rounds of one fault on one victim."""

    def __init__(self, place: Site, victim: str, fault: str) -> None:
        self.site, self.victim, self.fault = place, victim, fault
        self.story = Story()
        self.chance = random.Random(f"{victim} {fault}")

    def run(self, rounds: int) -> Story:
        for number in range(rounds):
            try:
                self._round(number)
            except AssertionError as error:
                self.story.wrong.append(f"round {number}: {error}")
            self.story.rounds += 1
        twice = [what for what, times in self.site.begun().items() if what.startswith("once") and times > 1]
        self.story.wrong += [f"{what} ran twice" for what in twice if self._name in what]
        return self.story

    @property
    def _name(self) -> str:
        return f"{self.victim}-{self.fault}"

    def _round(self, number: int) -> None:
        place, tag = self.site, f"{self._name}-{number}"
        machine = self._machine(number)
        asked = self._ask(tag)
        until(
            lambda: all(place.begun()[what] for what in asked),
            5,
            lambda: f"{tag}: under way {self._state(asked)}",
        )
        lasted = self._break(machine, number)
        self._check(asked, lasted)
        members = place.caller.members
        both = {"left": "ready", "right": "ready"}
        until(lambda: members("once:*") == both, 10, lambda: f"{tag}: both are back, not {members('once:*')}")

    def _state(self, asked: dict[str, Future[Outcome]]) -> str:
        """For the report: how every call stands."""
        begun = self.site.begun()
        ended = {what: future.result() if future.done() else "waits" for what, future in asked.items()}
        return f"{[(what, begun[what], how) for what, how in ended.items()]}, {self.site.caller.members('once:*')}"

    def _machine(self, number: int) -> Machine:
        place = self.site
        worker = (place.left, place.right)[number % 2]
        return {"worker": worker, "caller": place.caller, "board": place.board, "broker": place.broker}[
            self.victim
        ]

    def _ask(self, tag: str) -> dict[str, Future[Outcome]]:
        """Two calls that must not be repeated and two that may be, so that every worker has one of each."""
        caller = self.site.caller
        pools = {
            f"{service} {tag}-{one}": caller.call(f"{service}:*", TIMEOUT, seconds=WORK, tag=f"{tag}-{one}")
            for service in ("once", "sleep")
            for one in (1, 2)
        }
        return pools | self._ask_the_board(tag)

    def _ask_the_board(self, tag: str) -> dict[str, Future[Outcome]]:
        if self.victim != "board":
            return {}
        return {
            f"{service} {tag}-{road}": self.site.call_by(
                road, f"{service}:*", TIMEOUT, seconds=WORK, tag=f"{tag}-{road}"
            )
            for service in ("once", "sleep")
            for road in ROADS
        }

    # -- faults ----------------------------------------------------------------------------------------------

    def _break(self, machine: Machine, number: int) -> float:
        """Inflict the fault, mend it, see that all works again; returns the seconds it lasted."""
        begun = time.monotonic()
        try:
            self._inflict(machine, number)
        finally:
            self._mend(machine)
        lasted = time.monotonic() - begun
        self._works_again(number)
        return lasted

    def _inflict(self, machine: Machine, number: int) -> None:
        seconds = self.chance.uniform(0.1, 1.0) if self.fault == "kill" else self._long(number)
        {"kill": machine.kill, "stop": machine.pause, "cut": machine.unplug}[self.fault]()
        self._while_broken(machine, seconds)

    def _mend(self, machine: Machine) -> None:
        {"kill": machine.start, "stop": machine.go_on, "cut": machine.plug}[self.fault]()
        if self.fault == "kill":
            machine.wait_up()

    def _long(self, number: int) -> float:
        """Now shorter, now longer than it takes to be noticed."""
        return self.chance.uniform(0.5, 3.0) if number % 2 else self.chance.uniform(NOTICED + 0.5, 8.0)

    def _while_broken(self, machine: Machine, seconds: float) -> None:
        """Let it be broken for so long; a worker that is known to be gone or to hang must not be asked."""
        begun = time.monotonic()
        if self.victim == "worker" and self.fault == "kill":
            members = self.site.caller.members
            until(lambda: machine.name not in members("once:*"), 2, f"{machine.name} is out of the pool")
        if self.victim == "worker" and seconds > NOTICED:
            time.sleep(NOTICED)
            for _ in range(2):
                probe = self.site.caller.call("who:*", 2.0).result(5)
                assert probe["outcome"] == "done", f"while {machine.name} is away: {probe}"
                assert probe["result"] != machine.name
        time.sleep(max(0.0, seconds - (time.monotonic() - begun)))

    def _works_again(self, number: int) -> None:
        begun, tries = time.monotonic(), 0
        while True:
            tries += 1
            probe = self._probe(f"{self._name}-{number}-probe-{tries}", number + tries)
            took = time.monotonic() - begun
            if probe["outcome"] == "done":
                break
            assert took < REPAIR, f"not again within {REPAIR} s but {probe}"
            time.sleep(0.05)
        self.story.repairs.append(took)
        assert took < REPAIR, f"again after {took:.1f} s"

    def _probe(self, tag: str, tries: int) -> Outcome:
        if self.victim == "board":
            return self.site.call_by(ROADS[tries % 2], "once:*", 1.0, seconds=0, tag=tag).result(60)
        return self.site.caller.call("once:*", REPAIR, seconds=0, tag=tag).result(60)

    # -- what became of the calls ----------------------------------------------------------------------------

    def _check(self, asked: dict[str, Future[Outcome]], lasted: float) -> None:
        if self.victim == "caller" and self.fault == "kill":
            return  # nobody is left who could be answered
        allowed = TIMEOUT + MARGIN + (lasted if self.victim == "caller" else 0)
        for what, future in asked.items():
            outcome = future.result(60)
            self.story.outcomes[f"{what.split()[0]} {outcome['outcome']}"] += 1
            assert outcome["took"] < allowed, f"{what} took {outcome['took']:.1f} s: {outcome}"
            if what.startswith("sleep") and self._must_succeed(what):
                assert outcome["outcome"] == "done", f"{what}: {outcome}"

    def _must_succeed(self, what: str) -> bool:
        """What may be repeated is done as long as one worker and the broker are there."""
        return self.victim == "worker" or (self.victim == "board" and not what.endswith(ROADS))


Stories = dict[tuple[str, str], "Future[Story]"]


def tell(victim: str, folder: Path, engine: str, road: str) -> dict[str, Story]:
    with site(lan, folder, engine, direct=road == "direct") as place:
        return {fault: Trial(place, victim, fault).run(ROUNDS) for fault in FAULTS}


#: Brokers, and how the caller's calls travel.
SITES = [("embedded", "direct"), ("embedded", "broker"), ("mosquitto", "direct"), ("mosquitto", "broker")]


@pytest.fixture(scope="module", params=SITES if LONG else SITES[:1], ids="-".join)
def stories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[dict[str, Story]]]]:
    """Every victim on a site of its own, all at once, since most of the time is waiting."""
    folder = tmp_path_factory.mktemp("faults")
    with ThreadPoolExecutor(len(VICTIMS)) as threads:
        yield {victim: threads.submit(tell, victim, folder / victim, *request.param) for victim in VICTIMS}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_hangs_nothing_runs_twice_and_it_heals(
    stories: dict[str, Future[dict[str, Story]]], victim: str, fault: str
) -> None:
    story = stories[victim].result()[fault]
    print(f"{victim} {fault}: {story}")
    assert story.rounds == ROUNDS
    assert not story.wrong, story
