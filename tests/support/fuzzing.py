"""Bytes that are nearly MQTT, for hypothesis; and how long to look for trouble."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from support import packets as p

#: For each test, seconds to look for trouble. 0, as in CI, is a fixed number of examples.
SECONDS = float(os.environ.get("CALLBOARD_FUZZ_SECONDS", "0"))

topics = st.sampled_from(
    ["a", "a/b", "a/b/c", "", "a/+", "#", "$SYS/x", "$share/g/a/#", "+/b", "a/#/b", "\0", "ä" * 9]
)
texts = st.one_of(topics, st.text(max_size=20), st.binary(max_size=20))
levels = st.sampled_from([4, 5])
pids = st.integers(0, 65535) | st.integers(1, 5)
qoses = st.integers(0, 2)


def _values(kind: str) -> st.SearchStrategy[Any]:
    if kind in p.WIDTHS:
        return st.integers(0, 256 ** p.WIDTHS[kind] - 1) | st.sampled_from([0, 1])
    if kind == "varint":
        return st.integers(0, 268_435_455)
    if kind == "pair":
        return st.tuples(st.text(max_size=5), st.text(max_size=5))
    return st.text(max_size=12) if kind == "text" else st.binary(max_size=12)


properties = st.dictionaries(st.sampled_from(sorted(p.IDENTIFIERS)), st.none(), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: _values(p.IDENTIFIERS[name][1]) for name in names})
)
wills = st.none() | st.builds(
    p.Will,
    st.text(max_size=9),
    payload=st.binary(max_size=9),
    qos=qoses,
    retain=st.booleans(),
    props=properties,
)


def connects(level: int) -> st.SearchStrategy[bytes]:
    return st.builds(
        p.connect,
        texts,
        level=st.just(level),
        clean=st.booleans(),
        keepalive=st.integers(0, 65535),
        will=wills,
        username=st.none() | st.text(max_size=5),
        password=st.none() | st.binary(max_size=5),
        props=properties,
        flags=st.none() | st.none() | st.none() | st.integers(0, 255),
    )


def packets(level: int) -> st.SearchStrategy[bytes]:
    """One packet as a client might send it, now and then breaking a rule."""
    filters = st.lists(st.tuples(texts, st.integers(0, 2) | st.integers(0, 255)), max_size=4)
    return st.one_of(
        st.builds(
            p.publish,
            texts,
            st.binary(max_size=300),
            level=st.just(level),
            qos=qoses | st.just(3),
            retain=st.booleans(),
            dup=st.booleans(),
            pid=pids,
            props=properties,
        ),
        st.builds(p.subscribe, filters, pid=pids, level=st.just(level), props=properties),
        st.builds(p.unsubscribe, st.lists(texts, max_size=4), pid=pids, level=st.just(level)),
        st.builds(p.ack, st.sampled_from([p.PUBACK, p.PUBREC, p.PUBREL, p.PUBCOMP]), pids),
        st.builds(
            p.ack, st.sampled_from([p.PUBACK, p.PUBREC, p.PUBREL, p.PUBCOMP]), pids, code=st.integers(1, 255)
        ),
        st.just(p.PING),
        st.builds(p.disconnect, st.none() | st.integers(0, 255), properties),
        connects(level),
        st.builds(p.frame, st.integers(0, 255), st.binary(max_size=40)),
    )


@st.composite
def broken(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with a flipped, missing or additional piece."""
    raw = bytearray(draw(source))
    if not raw:
        return b""
    at = draw(st.integers(0, len(raw) - 1))
    how = draw(st.sampled_from(["flip", "cut", "insert", "drop", "repeat"]))
    if how == "flip":
        raw[at] ^= draw(st.integers(1, 255))
    elif how == "cut":
        del raw[at:]
    elif how == "insert":
        raw[at:at] = draw(st.binary(max_size=6))
    elif how == "drop":
        del raw[at : at + draw(st.integers(1, 4))]
    else:
        raw += raw[at:]
    return bytes(raw)


def streams(level: int, most: int = 12) -> st.SearchStrategy[bytes]:
    """What one client sends in its life: mostly packets, some of them broken, sometimes noise."""
    good = packets(level)
    piece = st.one_of(good, good, good, broken(good), st.binary(max_size=30))
    return st.lists(piece, max_size=most).map(b"".join)


def look(test: Callable[..., None], examples: int, *sources: st.SearchStrategy[Any]) -> None:
    """Run a test with what the sources give: `examples` in CI, or with ever new seeds until the time is over."""
    quiet = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.large_base_example,
    ]
    if not SECONDS:
        settings(max_examples=examples, deadline=None, suppress_health_check=quiet)(given(*sources)(test))()
        return
    until = time.monotonic() + SECONDS
    phases = [Phase.generate, Phase.shrink]
    while time.monotonic() < until:
        often = settings(
            max_examples=100, deadline=None, suppress_health_check=quiet, phases=phases, database=None
        )
        seed(random.getrandbits(64))(often(given(*sources)(test)))()
