"""Groups: several processes kept running together, started at once and stopped in order."""

from callboard_nodes.group.member import Ended, Event, Logged, Member, Ready, Started, notify
from callboard_nodes.group.policy import Policy
from callboard_nodes.group.supervisor import GroupFailed, Supervisor

__all__ = [
    "Ended",
    "Event",
    "GroupFailed",
    "Logged",
    "Member",
    "Policy",
    "Ready",
    "Started",
    "Supervisor",
    "notify",
]
