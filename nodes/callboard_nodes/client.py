"""A client of the board: finds it, connects, and knows the directory; for scripts, services and notebooks."""

from __future__ import annotations

import asyncio
import getpass
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from callboard_core.artifacts import HttpArtifacts
from callboard_core.calls.pool import Pool
from callboard_core.calls.proxy import Proxy
from callboard_core.directory import Directory, Event, Follower
from callboard_core.errors import BadRequest
from callboard_core.link import Credential, Link, Subscription
from callboard_core.settings import Settings, load_settings
from callboard_core.topics import slug
from callboard_nodes import events
from callboard_nodes.events import Heard
from callboard_nodes.locate import Locator

__all__ = ["Client", "connect"]

#: Seconds to find the board, connect, and read the directory.
TIMEOUT = 10.0


class Client:
    """A link and the directory of what is offered; a context manager, also with ``async with``.

    Args:
        board: the board's ``mqtt://host:port``; otherwise the settings, a board on this machine, the one that this
            machine's node has joined, or discovery.
        username: who connects; with a board on this machine: its operator by default.
        password: the password to go with it.
        site: first level of all topics.
        state_dir: state folder of a board on this machine.
        client_id: stable id, if answers are to find this client also after a restart; random by default.
        settings: board, credential, site and state folder at once, instead of those in force on this machine.

    Attributes:
        artifacts: the board's artifacts: content that is too large for messages.

    Raises:
        BadRequest: an argument is wrong; the message names it.
    """

    def __init__(
        self,
        board: str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        site: str | None = None,
        state_dir: Path | str | None = None,
        client_id: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        flags = {"node.board": board, "site": site, "state": state_dir and str(state_dir)}
        given = {key: value for key, value in flags.items() if value is not None}
        if settings is not None and given:
            raise BadRequest(f"{next(iter(given))} is given twice: as an argument and in settings")
        if (username is None) != (password is None):
            raise BadRequest("give a username and a password, or neither")
        found = settings or load_settings(flags=given).value
        known = Credential(username, password) if username is not None and password is not None else None
        locator = Locator(found, role="operator", given=known)
        self.link = Link(
            client_id=client_id or _client_id(),
            endpoint=locator.endpoint,
            site=found.site,
            credential=locator.credential,
            tls=locator.tls,
        )
        self.artifacts = HttpArtifacts.of(self.link, locator.credential, locator.http(), tls=locator.web_tls)
        self.link.artifacts = self.artifacts
        self.link.direct = found.node.lane.enabled
        self.directory = Directory(self.link)

    def start(self, *, timeout: float = TIMEOUT) -> Self:
        """Connect and read the directory.

        Args:
            timeout: seconds.

        Raises:
            CallboardError: not connected in time; the message says why.
        """
        self.directory.start()
        self.link.start()
        try:
            self.link.wait_connected(timeout)
            self.directory.wait_complete(timeout)
        except BaseException:
            self.link.stop()
            raise
        return self

    def stop(self) -> None:
        """Disconnect; what is still outstanding fails with ``unavailable``."""
        self.link.stop()

    def pool(self, service: str | re.Pattern[str], **settings: Any) -> Pool:
        """Return the pool of all workers whose service matches; see :meth:`Directory.pool`."""
        return self.directory.pool(service, **settings)

    def proxy(self, name: str) -> Proxy:
        """Return what is offered as ``name`` and ``name:…``; see :meth:`Directory.proxy`."""
        return self.directory.proxy(name)

    def follow(
        self, service: str | re.Pattern[str], callback: Callable[[Event], object] | None = None
    ) -> Follower:
        """Follow who offers a service; see :meth:`Directory.follow`."""
        return self.directory.follow(service, callback=callback)

    def listen(
        self,
        event: str,
        hear: Callable[[Heard], object],
        *,
        node: str = "*",
        where: Callable[[Heard], object] | None = None,
    ) -> Subscription:
        """Hear the events of nodes; see :meth:`Node.listen`. ``ready.result()`` waits until the broker knows."""
        return events.listen(self.link, self.link.site, event, hear, node=node, where=where)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)


def connect(board: str | None = None, **settings: Any) -> Client:
    """Return a :class:`Client`, to be used as ``with callboard.connect() as board:`` (or ``async with``)."""
    return Client(board, **settings)


def _client_id() -> str:
    try:
        user = slug(getpass.getuser())
    except (OSError, KeyError, BadRequest):  # a process without a user name
        user = "client"
    return f"{user[:40]}-{secrets.token_hex(6)}"
