"""What the kernel holds of a listener's TCP connections."""

from __future__ import annotations

import socket
from pathlib import Path

#: TCP states by the number that /proc/net/tcp shows.
_STATES = {1: "ESTABLISHED", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE", 8: "CLOSE_WAIT"}


def state_of(port: int, peer: socket.socket) -> str | None:
    """The state of the connection that a listener on `port` of 127.0.0.1 has with `peer`; None if it is gone."""
    wanted = f":{port:04X}", f":{peer.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if (local[-5:], remote[-5:]) == wanted:
            return _STATES.get(int(state, 16), state)
    return None
