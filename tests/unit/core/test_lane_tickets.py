import pytest

from callboard_core.errors import BadRequest, Overloaded
from callboard_core.lane.tickets import Tickets, proof_of

SECRET = "hidden"
PROOF = proof_of(SECRET)


def test_a_ticket_is_good_once_for_its_caller_and_its_secret():
    tickets = Tickets()
    ticket = tickets.issue("me", PROOF, 100.0)
    assert tickets.redeem("me", ticket, SECRET, 109.0)
    assert not tickets.redeem("me", ticket, SECRET, 109.0)
    assert len(tickets) == 0


@pytest.mark.parametrize(
    ("caller", "secret", "now"), [("you", SECRET, 101.0), ("me", "guessed", 101.0), ("me", SECRET, 110.1)]
)
def test_a_ticket_is_not_good_for_others_without_the_secret_or_too_late_and_then_never_again(
    caller, secret, now
):
    tickets = Tickets()
    ticket = tickets.issue("me", PROOF, 100.0)
    assert not tickets.redeem(caller, ticket, secret, now)
    assert not tickets.redeem("me", ticket, SECRET, 101.0)


@pytest.mark.parametrize("change", ["", "x", "é", "\ud800"])
def test_a_ticket_that_is_not_quite_right_is_not_good(change):
    tickets = Tickets()
    ticket = tickets.issue("me", PROOF, 100.0)
    number = ticket.partition(".")[0]
    assert not tickets.redeem("me", f"{number}.{change}", SECRET, 101.0)
    assert not tickets.redeem("me", change, SECRET, 101.0)


@pytest.mark.parametrize("proof", [None, 7, "", SECRET, PROOF[:-1], PROOF.upper()])
def test_what_is_no_proof_gets_no_ticket(proof):
    with pytest.raises(BadRequest, match="proof"):
        Tickets().issue("me", proof, 100.0)


def test_nobody_can_keep_others_from_getting_tickets():
    tickets = Tickets(limit=5, per_caller=3)
    for _ in range(3):
        tickets.issue("greedy", PROOF, 100.0)
    with pytest.raises(Overloaded):
        tickets.issue("greedy", PROOF, 100.0)
    tickets.issue("me", PROOF, 100.0)
    tickets.issue("you", PROOF, 100.0)
    with pytest.raises(Overloaded):
        tickets.issue("him", PROOF, 100.0)
    tickets.issue("him", PROOF, 111.0)
    assert len(tickets) == 1
