"""Letting machines in: join codes, decisions about who asks, and the credentials of those who are let in."""

from callboard_broker.services.enrolment.codes import JoinCodes
from callboard_broker.services.enrolment.desk import AT_ONCE, EnrolmentDesk
from callboard_broker.services.enrolment.keys import Keys
from callboard_broker.services.enrolment.rotation import Rotation

__all__ = ["AT_ONCE", "EnrolmentDesk", "JoinCodes", "Keys", "Rotation"]
