"""Enrolment, the node's side: joining a board with a join code, what is kept of it, and its renewal."""

from callboard_nodes.enrolment.https import NotTheBoard, Peer, WrongClock, verified
from callboard_nodes.enrolment.invitation import Inviting, read_invitation, scrub
from callboard_nodes.enrolment.joining import Applicant, Joining
from callboard_nodes.enrolment.renewal import Renewal, Renewing
from callboard_nodes.enrolment.standing import is_withdrawn
from callboard_nodes.enrolment.store import Enrolment, Record, Store
from callboard_nodes.enrolment.whereabouts import Whereabouts

__all__ = [
    "Applicant",
    "Enrolment",
    "Inviting",
    "Joining",
    "NotTheBoard",
    "Peer",
    "Record",
    "Renewal",
    "Renewing",
    "Store",
    "Whereabouts",
    "WrongClock",
    "is_withdrawn",
    "read_invitation",
    "scrub",
    "verified",
]
