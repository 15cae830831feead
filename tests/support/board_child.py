"""Runs one board until SIGTERM, as described by the JSON in its only argument, and says its URL once it answers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from callboard_core.processes import die_with_parent


def run(wanted: dict[str, Any], log: Path, parent: Connection) -> None:
    """In a process that was forked for it; logs into a file, and tells the parent the URL."""
    die_with_parent(os.getppid())
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    work(wanted, parent.send)


def work(wanted: dict[str, Any], say: Callable[[str], object]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(main(wanted, say))


async def main(wanted: dict[str, Any], say: Callable[[str], object]) -> None:
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
    say(board.url)
    try:
        await board.serve()
    except asyncio.CancelledError:
        await board.stop()


if __name__ == "__main__":
    import json

    work(json.loads(sys.argv[1]), lambda url: print(url, flush=True))
