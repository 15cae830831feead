"""A link that has nothing to say notices a cut cable all the same, long before its keep-alive."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.faults import PORT, Broker
from support.netns import ip, lan
from support.root import needs_root

pytestmark = [needs_root, pytest.mark.timeout(120)]

#: Seconds without a word until MQTT asks; the kernel does after a tenth of it.
KEEPALIVE = 40

LISTENER = f"""
import sys, threading
from callboard_core.link import Endpoint, Link

link = Link(client_id="listener", endpoint=Endpoint.parse(sys.argv[1]), keepalive={KEEPALIVE})
link.on_connect(lambda: print("connected", flush=True))
link.on_disconnect(lambda reason: print(reason, flush=True))
link.start()
threading.Event().wait()
"""


@pytest.mark.parametrize("engine", ["mosquitto", "embedded"])
def test_a_quiet_link_notices_that_it_is_cut_off_and_comes_back_with_the_cable(
    engine: str, tmp_path: Path
) -> None:
    with lan() as network:
        broker = Broker(network, "hub", tmp_path)
        broker.engine = engine
        network.add("far")
        try:
            broker.start()
            broker.wait_up()
            listener = network.python("far", LISTENER, f"mqtt://{broker.address}:{PORT}")
            assert listener.stdout is not None
            try:
                assert listener.stdout.readline() == "connected\n"
                ip("-n", network.switch, "link", "set", "far", "down")
                begun = time.monotonic()
                assert "nothing gets through" in listener.stdout.readline()
                assert time.monotonic() - begun < KEEPALIVE, "MQTT's own ping was needed"
                ip("-n", network.switch, "link", "set", "far", "up")
                assert listener.stdout.readline() == "connected\n"
            finally:
                listener.kill()
                listener.communicate()
        finally:
            broker.kill()
