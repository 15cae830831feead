"""Runs one board until SIGTERM, as described by the JSON in its only argument; prints its URL once it answers."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Any


async def main(wanted: dict[str, Any]) -> None:
    from callboard_broker.access import Users, users_file
    from callboard_broker.board import Board
    from callboard_core.link import Credential, Endpoint
    from callboard_core.settings import Settings

    settings = Settings.model_validate(wanted["settings"])
    credential = Credential(*wanted["credential"]) if wanted["credential"] else None
    users = Users(users_file(settings.state))
    board = Board(
        settings,
        endpoint=Endpoint(wanted.get("host", "127.0.0.1"), wanted["mqtt"]),
        credential=credential,
        users=users,
    )
    serving = asyncio.current_task()
    assert serving is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    await board.start()
    print(board.url, flush=True)
    try:
        await board.serve()
    except asyncio.CancelledError:
        await board.stop()


if __name__ == "__main__":
    import json

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(main(json.loads(sys.argv[1])))
