"""Fuzz of whole sessions against the running broker, over sockets: it stays alive, says nothing odd, stays small."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import strategies as st

from support import packets as p
from support.engines import Options, running
from support.fuzzing import SECONDS, broken, connects, levels, look, streams
from support.wire import Wire

pytestmark = pytest.mark.timeout(3 * SECONDS + 600)

lives = levels.flatmap(
    lambda level: st.tuples(
        st.just(level),
        st.one_of(st.just(p.connect("wild", level=level)), connects(level), broken(connects(level))),
        streams(level),
    )
)


def test_no_client_can_harm_the_running_broker(tmp_path: Path) -> None:
    limits = {"message_bytes": 10_000, "connect_timeout": 1, "session_expiry": 5, "retained_messages": 100}
    with (
        running("embedded", tmp_path, Options(limits=limits)) as engine,
        engine.connect("calm", keepalive=0) as calm,
    ):
        calm.subscribe(("calm", 2))

        def inner(life: tuple[int, bytes, bytes], how: str) -> None:
            level, opening, rest = life
            wild = Wire(engine.address, level=level)
            with contextlib.suppress(ConnectionError, TimeoutError):
                wild.send(opening, rest)
                if how == "read":
                    wild.is_closed(0.01)  # every packet it sends has to be well formed
            wild.reset() if how == "reset" else wild.close()
            assert engine.is_running()

        look(inner, 100, lives, st.sampled_from(["close", "reset", "read"]))
        before = engine.rss()
        look(inner, 100, lives, st.sampled_from(["close", "reset", "read"]))
        assert engine.rss() - before < 20_000_000
        calm.publish("calm", b"still here", qos=2)
        assert calm.wait_for(lambda packet: packet.payload == b"still here")
        assert "Traceback" not in engine.text()
        engine.kill()
        engine.start()  # what all this has left in the store can be read
        assert "damaged" not in engine.text()
