"""Runs one embedded engine until SIGTERM, as described by the JSON in its only argument."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from callboard_broker.engine.loop import run


async def main(wanted: dict[str, Any]) -> None:
    from callboard_broker.access import Users, users_file
    from callboard_broker.engine.embedded import EmbeddedEngine
    from callboard_core.settings import BrokerDurability, BrokerLimits

    state = Path(wanted["state"])
    users = Users(users_file(state))
    engine = EmbeddedEngine(
        bind=wanted.get("bind", "127.0.0.1"),
        port=wanted["port"],
        site="callboard",
        users=users if wanted["access"] else None,
        grants=users.grant if wanted["access"] else None,
        state=state / "broker",
        limits=BrokerLimits(**wanted["limits"]),
        durability=BrokerDurability(**wanted["durability"]),
        sys_interval=0.5,  # nobody waits ten seconds for `$SYS` here
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
    run(main(json.loads(sys.argv[1])))
