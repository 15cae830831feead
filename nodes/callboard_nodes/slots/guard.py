"""A process that outlives the node for a moment: it kills the renderers of a node that was killed itself.

Run by its path with the standard library only, so that it is small. Renderers carry a mark in their environment; what
they started carries it too, even where it has left the process group.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator

__all__ = ["MARK", "kill_marked", "marked"]

#: The variable of the environment that holds the mark.
MARK = "CALLBOARD_RENDERER"
#: Rounds of killing: what a process started while we looked is found in the next.
_ROUNDS = 5


def marked(mark: str) -> Iterator[int]:
    """Processes of this machine that carry a mark, or one that begins so; not this one."""
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208 - no pathlib in a process that is to be small
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:  # noqa: PTH123
            if any(part.startswith(wanted) for part in file.read().split(b"\0")):
                yield int(entry)


def kill_marked(mark: str) -> int:
    """Kill what carries a mark; returns how many processes that were."""
    killed = set()
    for _ in range(_ROUNDS):
        found = [pid for pid in marked(mark) if pid not in killed]
        if not found:
            break
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    return len(killed)


def main() -> None:
    """Wait for the end of the input, which the node's end closes, then kill."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    for _ in range(_ROUNDS):
        if not kill_marked(sys.argv[1]):
            return
        time.sleep(0.05)


if __name__ == "__main__":
    main()
