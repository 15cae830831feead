"""The pool policy: every call ends, goes to whom it may, and a bounded number of them waits."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from callboard_core.calls.member import AHEAD, BRISK, STALE, Standing, Traits
from callboard_core.calls.place import Nearness
from callboard_core.calls.policy import Assign, Effect, Limits, Outcome, Policy, Refuse
from callboard_core.errors import BadRequest, Overloaded, Unavailable

SITE = Traits()
SILENT = {Standing.HUNG, Standing.DOUBTFUL}
SAFE = Traits(idempotent=True)


def assigned(effects: list[Effect]) -> list[tuple[object, object]]:
    assert all(isinstance(effect, Assign) for effect in effects), effects
    return [(effect.token, effect.member) for effect in effects if isinstance(effect, Assign)]


def refused(effects: list[Effect]) -> Exception:
    [effect] = effects
    assert isinstance(effect, Refuse)
    return effect.error


def pool(*members: str, traits: Traits = SITE, **limits) -> Policy:
    policy = Policy(Limits(**limits))
    for name in members:
        policy.join(name, traits, 0.0)
    return policy


@pytest.mark.parametrize(
    "limits",
    [
        {"queue": -1},
        {"responsiveness": 0.0},
        {"responsiveness": math.nan},
        {"pass_share": 1.5},
        {"attempts": 0},
    ],
    ids=str,
)
def test_limits_that_are_none_are_refused_by_name(limits: dict[str, float]):
    with pytest.raises(BadRequest, match=f"^{next(iter(limits))}: "):
        Limits(**limits)


def test_a_call_goes_to_the_member_with_the_fewest_calls():
    policy = pool("a", "b", traits=Traits(concurrency=3))
    chosen = [assigned(policy.submit(n, 0.0))[0][1] for n in range(6)]
    assert sorted(chosen) == ["a"] * 3 + ["b"] * 3
    assert chosen[0] != chosen[1]


def test_of_equally_loaded_members_the_quicker_one_is_chosen():
    policy = pool("slow", "quick")
    for token, response in (("x", 0.4), ("y", 0.01)):
        [(_, member)] = assigned(policy.submit(token, 0.0))
        policy.finish(token, Outcome.DONE, response if member == "quick" else 0.4)
    policy.members["slow"].note(0.4, 1.0)
    policy.members["quick"].note(0.01, 1.0)
    for n in range(5):
        assert assigned(policy.submit(n, 2.0)) == [(n, "quick")]
        policy.finish(n, Outcome.DONE, 2.0)


def test_members_of_about_the_same_pace_take_turns():
    policy = pool("a", "b", "c")
    chosen = []
    for n in range(9):
        [(_, member)] = assigned(policy.submit(n, n))
        chosen.append(member)
        policy.finish(n, Outcome.DONE, n + 0.1)
    assert chosen == ["a", "b", "c"] * 3


def test_a_member_that_was_slow_long_ago_gets_another_chance():
    policy = pool("a", "b")
    policy.members["a"].note(3.0, 0.0)
    policy.members["b"].note(0.1, 0.0)
    assert assigned(policy.submit("x", 1.0)) == [("x", "b")]
    policy.finish("x", Outcome.ABANDONED, 1.0)
    assert policy.members["a"].load(STALE + 1)[2] == 0


def test_what_fails_at_once_is_not_taken_for_quick():
    policy = pool("broken", "good")
    policy.members["good"].note(0.2, 0.0)
    for n in range(3):
        effects = policy.submit(n, 1.0)
        policy.finish(n, Outcome.FAILED, 1.001)
        assert isinstance(effects[0], Assign)
    assert policy.members["broken"].recent is None


def test_nearer_members_come_first_until_they_are_full():
    policy = Policy()
    policy.join("far", Traits(Nearness.SITE), 0.0)
    policy.join("host", Traits(Nearness.HOST), 0.0)
    policy.join("here", Traits(Nearness.PROCESS), 0.0)
    assert [assigned(policy.submit(n, 0.0))[0][1] for n in range(3)] == ["here", "host", "far"]


def test_a_brisk_member_may_have_more_calls_than_it_works_on_and_a_slow_one_not():
    policy = pool("a")
    policy.members["a"].note(BRISK / 2, 0.0)
    for n in range(1 + AHEAD):
        assert assigned(policy.submit(n, 0.0)) == [(n, "a")]
    assert policy.submit("more", 0.0) == []
    assert policy.waiting == 1
    slow = pool("a")
    slow.members["a"].note(BRISK * 2, 0.0)
    assert assigned(slow.submit(1, 0.0))
    assert slow.submit(2, 0.0) == []


def test_calls_wait_in_their_order_and_a_full_queue_is_overloaded_at_once():
    policy = pool("a", queue=2)
    assert assigned(policy.submit(0, 0.0))
    assert policy.submit(1, 0.0) == []
    assert policy.submit(2, 0.0) == []
    assert isinstance(refused(policy.submit(3, 0.0)), Overloaded)
    assert assigned(policy.finish(0, Outcome.DONE, 1.0)) == [(1, "a")]
    assert assigned(policy.finish(1, Outcome.DONE, 2.0)) == [(2, "a")]
    assert policy.finish(2, Outcome.DONE, 3.0) == []
    assert len(policy) == 0


def test_when_answers_are_slow_only_a_share_of_the_calls_may_wait():
    policy = pool("a", responsiveness=1.0, pass_share=0.25)
    policy.submit("first", 0.0)
    policy.finish("first", Outcome.DONE, 5.0)
    assert assigned(policy.submit("free", 5.0)), "nobody is refused while somebody is free"
    outcomes = [bool(policy.submit(n, 5.0)) for n in range(20)]
    assert outcomes.count(False) == 5
    assert isinstance(refused(policy.submit("last", 5.0)), Overloaded)
    assert policy.submit("much later", 5.0 + STALE + 1) == [], "old figures count no more"


def test_without_members_a_call_is_unavailable_at_once_or_after_a_wait():
    policy = Policy()
    assert isinstance(refused(policy.submit(1, 0.0)), Unavailable)
    assert policy.submit(2, 0.0, wait=2.0) == []
    assert policy.expire(1.9) == []
    assert isinstance(refused(policy.expire(2.0)), Unavailable)
    assert policy.submit(3, 0.0, wait=2.0) == []
    assert assigned(policy.join("late", SITE, 1.0)) == [(3, "late")]


def test_a_lost_members_repeatable_call_goes_elsewhere_at_once():
    policy = pool("a", "b", traits=SAFE)
    [(_, first)] = assigned(policy.submit("x", 0.0))
    [(_, second)] = assigned(policy.leave(first, "it is gone", 1.0))
    assert {first, second} == {"a", "b"}
    assert isinstance(refused(policy.leave(second, "it is gone", 2.0)), Unavailable)


def test_a_lost_members_other_call_ends_and_says_that_nothing_is_known():
    policy = pool("a", "b")
    [(_, first)] = assigned(policy.submit("x", 0.0))
    error = refused(policy.leave(first, "alpha is gone (lost)", 1.0))
    assert "alpha is gone (lost); whether the call was done is not known" in str(error)


@pytest.mark.parametrize("idempotent", [True, False])
def test_the_caller_may_say_whether_a_call_is_repeatable(idempotent: bool):
    policy = pool("a", "b", traits=Traits(idempotent=not idempotent))
    [(_, first)] = assigned(policy.submit("x", 0.0, idempotent=idempotent))
    [effect] = policy.leave(first, "gone", 1.0)
    assert isinstance(effect, Assign) == idempotent


def test_a_declined_call_goes_elsewhere_even_if_it_must_not_be_repeated():
    policy = pool("a", "b")
    [(_, first)] = assigned(policy.submit("x", 0.0))
    [(_, second)] = assigned(policy.finish("x", Outcome.DECLINED, 0.1, Overloaded("full")))
    assert second != first
    error = refused(policy.finish("x", Outcome.DECLINED, 0.2, Overloaded("both are full")))
    assert isinstance(error, Overloaded)
    assert error.message == "both are full"


def test_a_declined_call_that_waits_for_another_member_holds_up_nobody_behind_it():
    policy = pool("a", "b")
    assert assigned(policy.submit("short", 0.0)) == [("short", "a")]
    assert assigned(policy.submit("long", 0.0)) == [("long", "b")]
    assert policy.submit("declined", 0.0) == policy.submit("behind", 0.0) == []
    assert assigned(policy.finish("short", Outcome.DONE, 1.0)) == [("declined", "a")]
    assert assigned(policy.finish("declined", Outcome.DECLINED, 1.1, Overloaded("full"))) == [("behind", "a")]
    assert policy.submit("later", 1.1) == []
    assert assigned(policy.finish("behind", Outcome.DONE, 1.2)) == [("later", "a")]
    assert assigned(policy.finish("long", Outcome.DONE, 9.0)) == [("declined", "b")]


def test_a_call_is_not_repeated_for_ever():
    policy = pool("a", traits=SAFE, attempts=3)
    [(_, member)] = assigned(policy.submit("x", 0.0))
    for _ in range(2):
        assert assigned(policy.finish("x", Outcome.BROKEN, 0.1)) == [("x", member)]
    assert isinstance(refused(policy.finish("x", Outcome.BROKEN, 0.1)), Unavailable)


def test_a_member_that_hangs_gets_nothing_until_it_wakes():
    policy = pool("a", "b", traits=SAFE)
    [(_, first)] = assigned(policy.submit("x", 0.0))
    [(_, second)] = assigned(policy.hang(first, "it hangs", 1.0))
    assert second != first
    policy.join(first, SAFE, 1.5)  # a card alone is no sign of life
    assert policy.submit("y", 2.0) == []
    assert assigned(policy.wake(first, 3.0)) == [("y", first)]


def test_a_draining_member_finishes_what_it_has_and_gets_no_more():
    policy = pool("a")
    assert assigned(policy.submit("x", 0.0))
    policy.join("a", Traits(draining=True), 1.0)
    assert "draining" in str(refused(policy.submit("y", 1.0)))
    assert policy.finish("x", Outcome.DONE, 2.0) == []
    policy.join("a", SITE, 3.0)
    assert assigned(policy.submit("z", 3.0)) == [("z", "a")]


def test_a_member_that_is_announced_no_more_still_answers_what_it_has():
    policy = pool("a", "b", traits=SAFE)
    [(_, first)] = assigned(policy.submit("x", 0.0))
    assert policy.retire(first, 1.0) == []
    assert first in policy.members
    assert assigned(policy.submit("y", 1.0))[0][1] != first
    assert policy.finish("x", Outcome.DONE, 2.0) == []
    assert first not in policy.members
    assert policy.retire("nobody", 1.0) == []


def test_after_a_reconnect_calls_wait_until_a_member_is_heard_of():
    policy = pool("a", "b", traits=Traits(beats=True))
    policy.join("quiet", Traits(Nearness.SITE, concurrency=1), 0.0)
    assert policy.leave("quiet", "gone", 0.0) == []
    policy.doubt()
    assert policy.submit("x", 1.0) == []
    assert policy.expire(2.0) == []
    policy.join("a", Traits(beats=True), 2.0)  # a card may be an old one
    assert policy.waiting == 1
    assert assigned(policy.wake("b", 3.0)) == [("x", "b")]
    assert policy.submit("y", 3.0) == []
    assert policy.hang("a", "it hangs", 8.0) == []
    assert assigned(policy.finish("x", Outcome.DONE, 9.0)) == [("y", "b")]


def test_after_a_reconnect_repeatable_calls_are_given_anew_and_others_go_on():
    policy = Policy()
    policy.join("safe", SAFE, 0.0)
    assert assigned(policy.submit("x", 0.0))
    policy.join("other", Traits(Nearness.PROCESS), 0.0)
    assert assigned(policy.submit("y", 0.0)) == [("y", "other")]
    assert assigned(policy.retry(1.0, "answers may be lost")) == [("x", "safe")]


def test_messages_without_answers_are_spread_evenly():
    policy = pool("a", "b")
    assert [policy.choose(0.0) for _ in range(4)] == ["a", "b", "a", "b"]
    assert Policy().choose(0.0) is None


class Calls(RuleBasedStateMachine):
    """Whatever happens, what was promised holds."""

    members = Bundle("members")
    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(queue=3, attempts=3, responsiveness=None)
        self.policy = Policy(self.limits)
        self.now = 0.0
        self.count = 0
        self.open: dict[int, bool] = {}
        self.sent: dict[int, list[str]] = {}
        self.maybe_done: set[int] = set()
        self.traits: dict[str, Traits] = {}
        self.usable: set[str] = set()

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert effect.token in self.open, "nothing happens to a call that has ended"
            if isinstance(effect, Refuse):
                del self.open[effect.token]
                continue
            assert effect.member in self.usable, "only members that may be called are called"
            assert effect.token not in self.maybe_done, "what was perhaps done is not done again"
            self.sent.setdefault(effect.token, []).append(effect.member)
            assert len(self.sent[effect.token]) == effect.attempt <= self.limits.attempts

    def broken(self, member: str) -> None:
        """Calls on this member have perhaps been done; those that must not be repeated are not."""
        for token in self.policy.members[member].outstanding:
            if not self.traits[member].idempotent:
                self.maybe_done.add(token)

    @rule(
        target=members,
        name=st.sampled_from("abcd"),
        near=st.sampled_from(Nearness),
        concurrency=st.integers(1, 2),
        idempotent=st.booleans(),
        draining=st.booleans(),
        beats=st.booleans(),
    )
    def join(self, name, near, concurrency, idempotent, draining, beats):
        known = self.policy.members.get(name)
        hung = known is not None and known.standing in SILENT
        if known is not None:  # what a call on it may do is said by the card it was sent by
            idempotent = self.traits[name].idempotent
        self.traits[name] = Traits(near, concurrency, idempotent, draining, beats)
        self.usable.discard(name)
        if not draining and not hung:
            self.usable.add(name)
        self.carry_out(self.policy.join(name, self.traits[name], self.now))
        return name

    @rule(name=consumes(members))
    def leave(self, name):
        if name not in self.policy.members:
            return
        self.usable.discard(name)
        self.broken(name)
        self.carry_out(self.policy.leave(name, "gone", self.now))

    @rule(name=members)
    def retire(self, name):
        self.usable.discard(name)
        self.carry_out(self.policy.retire(name, self.now))

    @rule(name=members)
    def hang(self, name):
        if name not in self.policy.members:
            return
        self.usable.discard(name)
        if self.policy.members[name].standing is Standing.RETIRED:
            assert self.policy.hang(name, "hangs", self.now) == []
            return
        self.broken(name)
        self.carry_out(self.policy.hang(name, "hangs", self.now))

    @rule(name=members)
    def wake(self, name):
        if name not in self.policy.members:
            return
        if not self.traits[name].draining and self.policy.members[name].standing in SILENT:
            self.usable.add(name)
        self.carry_out(self.policy.wake(name, self.now))

    @rule(target=tokens, wait=st.sampled_from([0.0, 5.0]))
    def submit(self, wait):
        self.count += 1
        self.open[self.count] = True
        self.carry_out(self.policy.submit(self.count, self.now, wait=wait))
        return self.count

    @rule(token=tokens, outcome=st.sampled_from(Outcome))
    def finish(self, token, outcome):
        if token not in self.open:
            assert self.policy.finish(token, outcome, self.now) == []
            return
        member = next((one.key for one in self.policy.members.values() if token in one.outstanding), None)
        if member is None and outcome is not Outcome.ABANDONED:
            return  # it waits: nobody can answer it
        if outcome is Outcome.BROKEN and member is not None and not self.traits[member].idempotent:
            self.maybe_done.add(token)
        if outcome not in {Outcome.DECLINED, Outcome.BROKEN}:
            del self.open[token]
        self.carry_out(self.policy.finish(token, outcome, self.now))

    @rule(seconds=st.floats(0.1, 10))
    def pass_time(self, seconds):
        self.now += seconds
        self.carry_out(self.policy.expire(self.now))

    @rule()
    def reconnect(self):
        self.policy.doubt()
        for name, traits in self.traits.items():
            if traits.beats:
                self.usable.discard(name)
        self.carry_out(self.policy.retry(self.now, "the connection was lost"))

    @invariant()
    def every_call_is_somewhere(self):
        assert len(self.policy) == len(self.open)
        on_members = sum(len(one.outstanding) for one in self.policy.members.values())
        assert on_members + self.policy.waiting == len(self.open)

    @invariant()
    def the_queue_is_bounded(self):
        assert self.policy.waiting <= self.limits.queue

    @invariant()
    def a_member_is_never_given_more_than_it_takes(self):
        for one in self.policy.members.values():
            assert len(one.outstanding) <= 2 + AHEAD

    def teardown(self):
        for name in list(self.policy.members):
            self.usable.discard(name)
            self.broken(name)
            self.carry_out(self.policy.leave(name, "gone", self.now))
        self.now += 100
        self.carry_out(self.policy.expire(self.now))
        assert not self.open, "once everybody has left, every call has ended"


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_a_call_does_not_hop_through_those_that_leave_together():
    policy = pool("a1", "a2", "a3", traits=Traits(idempotent=True, beats=True), attempts=2)
    assert assigned(policy.submit("call", 0.0)) == [("call", "a1")]
    policy.join("b", SAFE, 0.0)
    policy.doubt(["a1", "a2", "a3", "nobody"])
    assert assigned(policy.leave("a1", "gone", 0.1)) == [("call", "b")]
    assert policy.leave("a2", "gone", 0.1) == policy.leave("a3", "gone", 0.1) == []
