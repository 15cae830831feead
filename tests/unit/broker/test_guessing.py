"""Many who guess: at one name from many addresses, and more at a time than can be checked."""

from __future__ import annotations

from callboard_broker.services.guessing import Familiar, Room, Sought


def test_a_name_that_many_addresses_guess_at_costs_each_of_them_time():
    sought = Sought(Familiar(), free=3, rest=2.0)
    for address in range(3):
        assert sought.wait(str(address), "ann", 0.0) == 0
        sought.failed("ann", 0.0)
    assert sought.wait("another", "ann", 0.5) == 1.5
    assert sought.wait("another", "bob", 0.5) == 0
    assert sought.wait("another", "ann", 2.0) == 0


def test_who_has_logged_in_from_there_before_is_spared():
    familiar = Familiar()
    sought = Sought(familiar, free=1)
    familiar.note("home", "ann")
    sought.failed("ann", 0.0)
    assert sought.wait("home", "ann", 0.0) == 0
    assert sought.wait("elsewhere", "ann", 0.0) > 0


def test_of_those_who_have_logged_in_only_so_many_are_remembered():
    familiar = Familiar(most=2)
    for name in ("ann", "bob", "ann", "eve"):
        familiar.note("home", name)
    assert [familiar.knows("home", name) for name in ("ann", "bob", "eve")] == [True, False, True]


def test_an_address_takes_up_its_share_of_the_room_and_no_more():
    room = Room(most=6, strangers=4, each=2)
    assert [room.enter("one", familiar=False) for _ in range(3)] == [True, True, False]
    assert room.enter("two", familiar=False)
    room.leave("one")
    assert room.enter("one", familiar=False)


def test_strangers_leave_room_for_those_who_were_there_before():
    room = Room(most=6, strangers=4, each=2)
    assert [room.enter(str(number), familiar=False) for number in range(5)] == [True, True, True, True, False]
    assert [room.enter(str(number), familiar=True) for number in range(5, 8)] == [True, True, False]
