"""How long a node takes for an update, from the command to healthy, and to undo one after its time is over.

    python bench/update.py                    3 rounds of each
    python bench/update.py --quick            1 round

Board and node are on one machine; the node has real environments, and a small stand-in for systemd runs its units. The new
version differs from the old one only in the wheel of callboard, as most updates do; the first round fetches all wheels.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.installed import CRASHES, Place, machine  # noqa: E402

#: What is wanted, in seconds: an update, of which the node is on trial for 5; and undoing one.
UPDATE, ROLLBACK = 30.0, 15.0
#: Time that the broken version gets.
WITHIN = 8.0


def last(place: Place) -> dict:
    return json.loads(place.layout.history.read_text().splitlines()[-1])


def update(place: Place, version: str) -> tuple[float, float]:
    """Seconds from the node's acceptance to healthy as the board has it, and of root's part of them."""
    begun = time.time()
    place.update(place.release(version))
    (found, *_) = place.history()
    assert found["stage"] == "healthy"
    journal = last(place)
    print(
        f"  {version}: {found['ended'] - found['started']:.1f} s from sending to healthy, "
        f"{journal['ended'] - journal['begun']:.1f} s of them installing, restarting and on trial "
        f"({time.time() - begun:.1f} s for the whole command)"
    )
    return found["ended"] - found["started"], journal["ended"] - journal["begun"]


def rollback(place: Place, version: str) -> float:
    """Seconds from the end of the broken version's time until the node is on the board again."""
    place.update(place.release(version, CRASHES), within=WITHIN, check=False)
    place.runs(place.version() or last(place)["replaces"])
    journal = last(place)
    assert journal["state"] == "rolled-back"
    deadline = time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - journal["since"]) + WITHIN
    (found, *_) = place.history()
    print(
        f"  {version}: {journal['ended'] - deadline:.1f} s from the deadline to the old version being started, "
        f"{found['ended'] - deadline:.1f} s until it had told the board"
    )
    return found["ended"] - deadline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    rounds = 1 if parser.parse_args().quick else 3
    with tempfile.TemporaryDirectory() as scratch, machine(Path(scratch)) as place:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
        print("updates")
        took = [update(place, f"0.2.{one}")[0] for one in range(rounds)]
        print("rollbacks")
        undone = [rollback(place, f"0.3.{one}") for one in range(rounds)]
        print(f"update: median {statistics.median(took):.1f} s (wanted: at most {UPDATE:g})")
        print(
            f"rollback: median {statistics.median(undone):.1f} s after the deadline (wanted: at most {ROLLBACK:g})"
        )
        print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
