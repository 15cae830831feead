"""Discovery: how a node finds its board without being told the address.

A board is advertised in two ways at once: it answers a UDP broadcast, and it publishes a DNS-SD service over
multicast DNS. An answer is only a hint where to connect: who is allowed to do what is decided by the broker's
credentials, never by discovery.
"""

from callboard_core.discovery.advertiser import Advertiser
from callboard_core.discovery.finder import find_board, find_boards
from callboard_core.discovery.wire import DEFAULT_PORT, Board, Found

__all__ = ["DEFAULT_PORT", "Advertiser", "Board", "Found", "find_board", "find_boards"]
