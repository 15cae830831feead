"""Runs one embedded engine until SIGTERM, as described by the JSON in its only argument."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any


async def main(wanted: dict[str, Any]) -> None:
    from callboard_broker.access import Users, compile_grant, users_file
    from callboard_broker.engine.embedded import EmbeddedEngine
    from callboard_broker.mqtt.limits import Limits

    state = Path(wanted["state"])
    engine = EmbeddedEngine(
        bind="127.0.0.1",
        port=wanted["port"],
        site="callboard",
        users=Users(users_file(state)) if wanted["access"] else None,
        grants=compile_grant if wanted["access"] else None,
        state=state / "broker",
        limits=Limits(**wanted["limits"]),
        config={"listeners": wanted["listeners"]} if wanted["listeners"] else None,
    )
    await engine.start()
    ended = asyncio.create_task(engine.wait())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.cancel)
    try:
        await ended
    except asyncio.CancelledError:
        await engine.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(main(json.loads(sys.argv[1])))
