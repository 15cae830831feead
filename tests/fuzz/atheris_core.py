"""Coverage-guided fuzz of the broker's core with atheris: python tests/fuzz/atheris_core.py [libFuzzer options]

The first byte picks version and chunk size, the rest is what a connected client sends.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["callboard_broker.mqtt"]):
    from support.hubs import Broker

from fuzz.test_fuzz_core import LIMITS, check, feed


def once(raw: bytes) -> None:
    """One life of one client."""
    if not raw:
        return
    level, size = (5 if raw[0] & 1 else 4), (raw[0] >> 1) + 1
    broker = Broker(**LIMITS)
    wild = broker.client("wild", level=level)
    feed(wild, *(raw[at : at + size] for at in range(1, len(raw), size)))
    wild.packets()
    check(broker)


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], "-max_len=2048", *sys.argv[1:]], once)
    atheris.Fuzz()
