"""One of the board's processes: ``python -m callboard_console.cli.role ROLE SETTINGS``; started by ``callboard up``.

Each role imports only what it needs, so that all four can start side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from callboard_core.errors import BadRequest, CallboardError, Conflict, Forbidden, NotFound, Unauthorized
from callboard_core.settings import Settings
from callboard_nodes.group.member import notify, notify_failure

if TYPE_CHECKING:
    from callboard_core.trust.serving import Encrypted

__all__ = ["main"]

_log = logging.getLogger(__name__)

#: Errors that a second try cannot cure.
_FINAL = (BadRequest, Conflict, Forbidden, NotFound, Unauthorized)


async def _broker(settings: Settings) -> None:
    from callboard_broker.access import Users, users_file
    from callboard_broker.engine import make_engine

    engine = make_engine(settings, Users(users_file(settings.state)))
    stopped = asyncio.create_task(_stop_signal())
    await engine.start()
    notify(url=str(engine.endpoint))
    ended = asyncio.create_task(engine.wait())
    with _advertised(settings):
        await _until_either(stopped, ended, engine.stop)


def _run_broker(settings: Settings) -> None:
    from callboard_broker.engine.loop import run

    run(_broker(settings))


async def _until_either(
    stopped: asyncio.Task[None], ended: asyncio.Task[None], stop: Callable[[], Awaitable[None]]
) -> None:
    """Wait for the order to stop, or for the end of the work, whose error is raised; then ``stop``."""
    try:
        await asyncio.wait({stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            await ended
    finally:
        await stop()
        stopped.cancel()
        ended.cancel()


@contextlib.contextmanager
def _advertised(settings: Settings) -> Iterator[None]:
    """Let nodes find the broker; a board that cannot be found is still a board."""
    from callboard_broker.engine import is_outside
    from callboard_console.cli.addresses import url
    from callboard_core.discovery import Advertiser

    look = settings.discovery
    if not look.enabled or is_outside(settings):
        yield
        return
    advertiser = Advertiser(
        site=settings.site,
        mqtt_port=settings.mqtt.port,
        http_url=url(settings.http.bind, settings.http.port),
        bind=settings.lan.bind if settings.lan.enabled else settings.mqtt.bind,
        port=look.port,
        mdns=look.mdns,
        version=version("callboard"),
        mqtts=settings.lan.mqtt_port if settings.lan.enabled else None,
        https=settings.lan.http_port if settings.lan.enabled else None,
    )
    try:
        advertiser.start()
    except CallboardError as error:
        _log.warning("nodes have to be told this board's address: %s", error.message)
    try:
        yield
    finally:
        advertiser.stop()


async def _board(settings: Settings) -> None:
    from callboard_broker.access import Role
    from callboard_broker.board import Board
    from callboard_broker.engine import credential_for, endpoint_of

    board = Board(settings, endpoint=endpoint_of(settings), credential=credential_for(settings, Role.BOARD))
    stopped = asyncio.create_task(_stop_signal())
    await board.start()
    notify()
    await _until_either(stopped, asyncio.create_task(board.serve()), board.stop)


def _console(settings: Settings) -> None:
    from callboard_broker.access.rules import Role
    from callboard_broker.engine import credential_for, endpoint_of
    from callboard_console.cli.addresses import url
    from callboard_console.web.server import serve

    serve(
        bind=settings.console.bind,
        port=settings.console.port,
        site=settings.site,
        mqtt=endpoint_of(settings),
        http_url=url(settings.http.bind, settings.http.port),
        credential=credential_for(settings, Role.VIEWER),
        state=settings.state,
        ready=notify,
        lan=_encrypted_console(settings),
    )


def _encrypted_console(settings: Settings) -> Encrypted | None:
    from callboard_broker.access.authority import TrustFiles
    from callboard_core.trust.serving import Encrypted

    lan = settings.lan
    if not lan.enabled:
        return None
    file = TrustFiles.of(settings.state).server
    return Encrypted(lan.bind, lan.console_port, "lan.console_port in the settings", file)


def _node(settings: Settings) -> None:
    from callboard_broker.access.rules import Role
    from callboard_broker.engine import credential_for, endpoint_of
    from callboard_nodes.agent import run_agent

    credential = credential_for(settings, Role.NODE)
    joined = settings.node.model_copy(
        update={
            "board": str(endpoint_of(settings)),
            "username": credential.username,
            "password": credential.password,
        }
    )
    run_agent(settings.model_copy(update={"node": joined}), ready=notify)


_ROLES: dict[str, Callable[[Settings], None]] = {
    "broker": _run_broker,
    "board": lambda settings: asyncio.run(_board(settings)),
    "console": _console,
    "node": _node,
}


def _raise_file_limit() -> None:
    """Every client is an open file; the usual soft limit of 1,024 is for programs that use ``select``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _stop_signal() -> None:
    """Return at the first SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def main(arguments: list[str]) -> int:
    """Run a role until SIGTERM; returns the exit code."""
    role, file = arguments
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    _raise_file_limit()
    try:
        settings = Settings.model_validate_json(Path(file).read_bytes())
        _ROLES[role](settings)
    except CallboardError as error:
        notify_failure(error, final=isinstance(error, _FINAL))
        print(f"{role}: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
