"""Starts and stops the console's web server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from callboard_core.artifacts import HttpArtifacts
from callboard_core.errors import CallboardError
from callboard_core.link import Credential, Endpoint, Link
from callboard_core.listening import is_loopback, listen
from callboard_core.settings import default_state_dir
from callboard_core.steady import Steady
from callboard_core.topics import slug
from callboard_core.trust.serving import Encrypted, Listening

if TYPE_CHECKING:
    from streamlit.starlette import App

    from callboard_console.web.sessions import Sessions

__all__ = ["serve"]

_log = logging.getLogger(__name__)

#: Seconds between two looks whether those who are logged in still may be.
_RECHECK_EVERY = 2.0
#: Seconds an operator's own link has to connect.
_LINK_TIMEOUT = 5.0

#: How Streamlit is set up; each line says why when it is not the default.
OPTIONS: dict[str, Any] = {
    "browser.gatherUsageStats": False,  # nothing leaves the house
    "client.showErrorLinks": False,
    "client.showErrorDetails": "type",  # the full story is in the server's log
    "client.toolbarMode": "minimal",
    "logger.level": "warning",
    "runner.magicEnabled": False,
    "runner.postScriptGC": False,  # a full collection after every refresh costs more than the refresh
    "server.enableStaticServing": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "theme.baseRadius": "8px",
    "theme.showWidgetBorder": True,
    "theme.light.backgroundColor": "#f6f6f3",
    "theme.light.secondaryBackgroundColor": "#ffffff",
    "theme.light.textColor": "#1b1d22",
    "theme.light.borderColor": "#e4e3de",
    "theme.light.primaryColor": "#4353d8",
    "theme.light.linkColor": "#4353d8",
    "theme.dark.backgroundColor": "#0e1014",
    "theme.dark.secondaryBackgroundColor": "#1b1f28",
    "theme.dark.textColor": "#e9ebf1",
    "theme.dark.borderColor": "#272c37",
    "theme.dark.primaryColor": "#6472f2",
    "theme.dark.linkColor": "#98a4ff",
}


def serve(
    *,
    bind: str,
    port: int,
    site: str,
    mqtt: Endpoint,
    http_url: str,
    credential: Credential,
    state: Path,
    ready: Callable[[], None],
    lan: Encrypted | None = None,
) -> None:
    """Run the console until SIGTERM or SIGINT.

    Args:
        bind: address to listen on.
        port: TCP port.
        site: first level of all topics.
        mqtt: where the broker is.
        http_url: where the board's HTTP is.
        credential: a viewer's, for the feed that all sessions share.
        state: the state folder, to tell people about; the console keeps nothing on disk.
        ready: called once the console answers.
        lan: where it answers encrypted as well.

    Raises:
        Failed: the server's certificate cannot be used.
        Conflict: something else listens on the port.
        Forbidden: this user may not listen on the port.
        BadRequest: the address is not one of this machine's.
    """
    with contextlib.ExitStack() as listening:
        listener = listening.enter_context(listen(bind, port, what="console", flag="--console-port"))
        secure = listening.enter_context(lan.listening(what="encrypted console")) if lan else None
        app = build(
            site=site,
            mqtt=mqtt,
            http_url=http_url,
            credential=credential,
            state=None if state == default_state_dir() else state,
            local_only=is_loopback(bind),
            lan=lan is not None,
        )
        asyncio.run(_serve(listener, secure, app, ready))


async def _serve(
    listener: socket.socket, secure: Listening | None, app: App, ready: Callable[[], None]
) -> None:
    import uvicorn  # noqa: PLC0415 - only the server needs it

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """End in order and return, where the original ends and then kills itself with the same signal."""
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.handle_exit, number, None)
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and secure is not None:
                await secure.serve(self)
            if self.started:
                ready()

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_ping_interval=20.0,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    await Server(config).serve(sockets=[listener])


def build(
    *,
    site: str,
    mqtt: Endpoint,
    http_url: str,
    credential: Credential,
    state: Path | None = None,
    local_only: bool = True,
    lan: bool = False,
) -> App:
    """Return the console as an ASGI application; its feed lives as long as the application does."""
    from starlette.middleware import Middleware  # noqa: PLC0415 - Streamlit is heavy: only when serving
    from streamlit import config  # noqa: PLC0415
    from streamlit.runtime.pages_manager import PagesManager  # noqa: PLC0415
    from streamlit.starlette import App  # noqa: PLC0415

    from callboard_console.web import runtime  # noqa: PLC0415
    from callboard_console.web.feed import Feed  # noqa: PLC0415
    from callboard_console.web.files import Files  # noqa: PLC0415
    from callboard_console.web.gate import Gate  # noqa: PLC0415
    from callboard_console.web.login import Login  # noqa: PLC0415
    from callboard_console.web.sessions import Sessions  # noqa: PLC0415
    from callboard_console.web.views.overview import Joining  # noqa: PLC0415

    for option, value in OPTIONS.items():
        config.set_option(option, value)
    # Otherwise Streamlit serves the folder `pages` by itself, without our frame, until `app` has run once.
    PagesManager.uses_pages_directory = False
    sessions = Sessions(time.time)

    def open_link(who: Credential) -> Link:
        return _open_link(site, mqtt, who, http_url)

    @asynccontextmanager
    async def lifespan(_app: App) -> AsyncIterator[None]:
        feed = Feed(site=site, endpoint=mqtt, credential=credential, http_url=http_url)
        feed.start()
        joining = Joining(state, local_only, lan)
        runtime.install(runtime.Console(site=site, source=feed, sessions=sessions, joining=joining))
        gc.freeze()
        checking = asyncio.create_task(_recheck(sessions))
        try:
            yield
        finally:
            checking.cancel()
            runtime.install(None)
            await asyncio.to_thread(sessions.close)
            await asyncio.to_thread(feed.stop)

    login = Login(site=site, http_url=http_url, sessions=sessions, open_link=open_link)
    return App(
        Path(__file__).with_name("app.py"),
        lifespan=lifespan,
        routes=[*login.routes(), *Files(sessions).routes()],
        middleware=[Middleware(Gate, sessions=sessions)],
    )


async def _recheck(sessions: Sessions) -> None:
    steady = Steady(_log, "checking who may still be here")
    while True:
        await asyncio.sleep(_RECHECK_EVERY)
        with steady:
            await asyncio.to_thread(sessions.recheck)


def _open_link(site: str, mqtt: Endpoint, credential: Credential, http_url: str) -> Link:
    name = slug(credential.username)[:32]
    link = Link(client_id=f"console-{name}-{token_hex(4)}", endpoint=mqtt, site=site, credential=credential)
    link.artifacts = keep = HttpArtifacts(http_url, credential)
    link.on_stop(keep.close)
    link.start()
    try:
        link.wait_connected(_LINK_TIMEOUT)
    except CallboardError:
        link.stop(timeout=0.5)
        raise
    return link
