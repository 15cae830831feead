"""Runs stock amqtt, or our engine on it, with one amqtt configuration; prints the port, ends at SIGTERM.

Usage: amqtt_child.py stock|ours CONFIG_JSON STATE_DIR
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import Any


async def _stock(config: dict[str, Any]) -> Any:
    warnings.simplefilter("ignore")
    from amqtt.broker import Broker

    listeners = {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}
    broker = Broker({"plugins": {}, "listeners": listeners, **config})
    await broker.start()
    return broker, broker._servers["default"].instance.sockets[0].getsockname()[1]


async def _ours(config: dict[str, Any], state: Path) -> Any:
    from callboard_broker.engine.embedded import EmbeddedEngine
    from callboard_broker.mqtt.limits import Limits

    engine = EmbeddedEngine(
        bind="127.0.0.1", port=0, state=state, config=config, limits=Limits(connect_timeout=1.0)
    )
    await engine.start()
    return engine, engine.endpoint.port


async def main(which: str, config: str, state: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    started = _stock(json.loads(config)) if which == "stock" else _ours(json.loads(config), Path(state))
    broker, port = await started
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print(port, flush=True)
    await ended.wait()
    await (broker.shutdown() if which == "stock" else broker.stop())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
