"""The board's process: starts its services in order, offers them as a node, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import socket
from importlib.metadata import version
from pathlib import Path

from callboard_broker.access import Users, users_file
from callboard_broker.access.authority import Authority, TrustFiles
from callboard_broker.errors import StoreUnavailable
from callboard_broker.http.app import make_app
from callboard_broker.http.context import Services
from callboard_broker.http.server import HttpServer
from callboard_broker.services.api_tokens import ApiTokens
from callboard_broker.services.artifacts import Artifacts, Limits
from callboard_broker.services.audit import Audit
from callboard_broker.services.brake import Brake
from callboard_broker.services.broker_figures import BrokerFigures
from callboard_broker.services.buffer import Buffer
from callboard_broker.services.calling import Calling
from callboard_broker.services.clocks import Clocks
from callboard_broker.services.commands import CommandLog
from callboard_broker.services.enrolment import EnrolmentDesk, JoinCodes, Keys, Rotation
from callboard_broker.services.enrolment.told import Told
from callboard_broker.services.farm.api import FarmApi
from callboard_broker.services.farm.jobtypes import load_job_types
from callboard_broker.services.farm.service import Farm
from callboard_broker.services.farm.workers import FarmWorkers
from callboard_broker.services.feed import Feed
from callboard_broker.services.forgetting import Forgetting
from callboard_broker.services.health import Health
from callboard_broker.services.historian import Historian
from callboard_broker.services.history import History
from callboard_broker.services.logins import Logins
from callboard_broker.services.metrics import Metrics
from callboard_broker.services.people import People
from callboard_broker.services.pools import Pools
from callboard_broker.services.refusals import Refusals
from callboard_broker.services.registry import Registry
from callboard_broker.services.updates import Shelf, Updates
from callboard_broker.services.upkeep import Keep, Upkeep
from callboard_broker.services.values import Values
from callboard_broker.services.workers import Workers
from callboard_broker.services.writer import Condition, Writer
from callboard_broker.store import series
from callboard_broker.store.database import Database
from callboard_core.callee import Callee
from callboard_core.cards import Host, NodeCard
from callboard_core.directory import Directory
from callboard_core.epoch import next_epoch
from callboard_core.errors import CallboardError, Overloaded, TimedOut, Unavailable
from callboard_core.link import Backoff, Credential, Endpoint, Link
from callboard_core.listening import listen
from callboard_core.presence import Presence, new_instance
from callboard_core.settings import Settings
from callboard_core.steady import Steady
from callboard_core.topics import BOARD
from callboard_core.trust.serving import Encrypted, Listening

__all__ = ["Board"]

_log = logging.getLogger(__name__)

#: The historian's own connection, so that a flood of readings delays neither calls nor liveness.
HISTORIAN = "board-history"
#: Seconds to wait for the broker at the start; without it the board runs on, and says so.
_PATIENCE = 5.0
#: Seconds that buffered readings get at the end, and between two rounds of housekeeping.
_LAST_WRITES = 2.5
_TIDY_EVERY = 2.0
_MIB = 1024 * 1024
#: Everybody waits for the board, and it is near its broker: it tries often.
_RECONNECT = Backoff(0.1, 2.0)


class Board:
    """Directory, history and HTTP of one site.

    Args:
        settings: what is in force.
        endpoint: the broker.
        credential: the board's own.
        users: who may log in over HTTP; those of the state folder by default.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        endpoint: Endpoint,
        credential: Credential | None,
        users: Users | None = None,
    ) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._credential = credential
        self._failed: asyncio.Future[None] | None = None
        self._started = contextlib.AsyncExitStack()
        self._http: HttpServer | None = None
        self._url = ""
        self._following = False
        self._secure: Listening | None = None
        self._users = users or Users(users_file(settings.state))
        history = settings.history
        self.database = Database(settings.database.url)
        self.buffer = Buffer(history.buffer_readings)
        self.upkeep = Upkeep(self.database, Keep.of(history, settings.audit))
        self.writer = Writer(
            self.database,
            self.buffer,
            self.upkeep,
            flush_seconds=history.flush_seconds,
            min_free=int(history.min_free_mb * _MIB),
        )
        self.refusals = Refusals(self.writer)
        self.artifacts = Artifacts(settings.state / "artifacts", Limits.of(settings.artifacts))
        self.link = self._make_link(BOARD)
        self.link.artifacts = self.artifacts
        self.history_link = self._make_link(HISTORIAN)

    @property
    def url(self) -> str:
        """Where HTTP answers; known once started."""
        if self._http is None:
            raise Unavailable("the board has not been started")
        return self._url

    async def start(self) -> None:
        """Start everything; returns when HTTP answers and, if the broker is there, the directory is complete.

        Raises:
            Conflict: somebody else has the HTTP port.
            StoreUnavailable: the database cannot be opened.
            Unauthorized: the broker refuses the board's credential.
            Conflict: another board runs on this broker.
        """
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        http = self._settings.http
        listener = listen(http.bind, http.port, what="http", flag="--http-port", backlog=2048)
        listener.setblocking(False)
        self._started.callback(listener.close)
        host = f"[{http.bind}]" if ":" in http.bind else http.bind
        self._url = f"http://{host}:{listener.getsockname()[1]}"
        try:
            self._secure = self._listen_encrypted()
            await self._start(loop, listener)
        except BaseException:
            await self.stop()
            raise

    def _listen_encrypted(self) -> Listening | None:
        lan = self._settings.lan
        if not lan.enabled:
            return None
        file = TrustFiles.of(self._settings.state).server
        wanted = Encrypted(lan.bind, lan.http_port, "lan.http_port in the settings", file)
        return self._started.enter_context(wanted.listening(what="encrypted http"))

    async def serve(self) -> None:
        """Run until cancelled.

        Raises:
            Conflict: another board took over.
            Exception: whatever the HTTP server ended with.
        """
        if self._failed is None or self._http is None:
            raise Unavailable("the board has not been started")
        http = asyncio.create_task(self._http.wait())
        await asyncio.wait([http, self._failed], return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            http.cancel()
            await self._failed
        await http

    async def stop(self) -> None:
        """Stop everything that was started, last first; what is buffered is written."""
        await self._started.aclose()

    async def _start(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        epoch = await asyncio.to_thread(_raise_epoch, self._settings.state / "board" / "epoch")
        self._feed = Feed(loop)
        self._build()
        self._started.callback(self.database.close)
        self._started.push_async_callback(asyncio.to_thread, self.artifacts.close)
        await asyncio.to_thread(self._load)
        self.writer.start()
        self._started.push_async_callback(asyncio.to_thread, self._stop_writer)
        self._listen()
        self._appear(epoch)
        self.farm.start()
        self._started.push_async_callback(asyncio.to_thread, self.farm.stop)
        await asyncio.to_thread(self.updates.start)
        self._started.push_async_callback(asyncio.to_thread, self.updates.stop)
        self._started.push_async_callback(asyncio.to_thread, self._stop_links)
        self.link.on_connect(self._follow_link)
        self.link.start()
        self._http = HttpServer(make_app(self._services()), listener, self._secure)
        self._started.push_async_callback(self._stop_http, self._http)
        await self._http.start()
        await asyncio.to_thread(self._wait_for_broker)
        tidying = asyncio.create_task(self._tidy(), name="tidy")
        telling = asyncio.create_task(self.calling.tell(), name="calls")
        self._started.callback(tidying.cancel)
        self._started.callback(telling.cancel)

    def _make_link(self, client_id: str) -> Link:
        return Link(
            client_id=client_id,
            endpoint=self._endpoint,
            site=self._settings.site,
            credential=self._credential,
            reconnect=_RECONNECT,
            message_limit=self._settings.mqtt.limits.message_bytes,
        )

    def _build(self) -> None:
        clocks = Clocks()
        self.directory = Directory(self.link)
        self.pools = Pools(self.directory, self.link)
        self.calling = Calling(self.pools, self.link)
        self.historian = Historian(
            buffer=self.buffer, values=Values(), clocks=clocks, refusals=self.refusals, feed=self._feed
        )
        self.registry = Registry(
            directory=self.directory,
            database=self.database,
            notes=self.writer,
            clocks=clocks,
            refusals=self.refusals,
            feed=self._feed,
            forget_after=self._settings.registry.forget_after_days * 86_400,
        )
        self.farm = Farm(
            self._settings.farm,
            database=self.database,
            link=self.link,
            directory=self.directory,
            job_types=load_job_types(self._settings.state / "jobtypes"),
            artifacts=self.artifacts,
        )
        self.farm_api = FarmApi(self.farm, self._settings.farm)
        self.history = History(self.database, frozen=self._is_frozen)
        self.audit = Audit(self.database, self.writer)
        self._build_enrolment()
        self.forgetting = Forgetting(self.link, self.registry, self.historian, self.desk.withdraw)
        engine = self._settings.mqtt.engine
        self.command_log = CommandLog(
            self.audit, self._settings.site, told=engine == "embedded", kept_out=engine == "mosquitto"
        )
        self.api_tokens = ApiTokens(self.writer)
        self.logins = Logins(
            self._users,
            self.writer,
            brake=Brake(),
            api_tokens=self.api_tokens,
            told=lambda name, address, code, reason: self.audit.note(
                name, "login", name, address, code, reason
            ),
        )
        self.people = People(self._settings.state, self._users, self.logins, self.api_tokens, self.audit)
        self.broker_figures = BrokerFigures()
        self.updates = self._make_updates()

    def _make_updates(self) -> Updates:
        return Updates(
            Shelf(
                self._settings.site,
                self.database,
                self.artifacts,
                self.keys.authority.sign_update,
                self._users.is_node,
            ),
            self.database,
            self.link,
            self.registry.nodes,
            tell=lambda who, node, well, what: self.audit.note(
                who, "update", node, "board", "ok" if well else "failed", what
            ),
        )

    def _build_enrolment(self) -> None:
        settings = self._settings
        self.keys = Keys(Authority(settings.state, settings.site), settings)
        self.join_codes = JoinCodes(self.database, self.keys, settings.site)
        told = Told(self.link, self.audit)
        self.desk = EnrolmentDesk(
            self.database,
            self.keys,
            self._users,
            settings.site,
            brake=Brake(),
            is_live=self._is_live,
            tell=told.enrolment,
        )
        self.rotation = Rotation(self.keys, self.desk, self._users, told.rotation)

    def _is_live(self, node: str) -> bool:
        found = self.directory.node(node)
        return found is not None and found.live

    def _is_frozen(self) -> bool:
        # SQLite can be read while somebody holds its write lock.
        return not self.database.sqlite and self.writer.condition is Condition.STALLED

    def _load(self) -> None:
        self.artifacts.load()
        self.keys.tend()
        self.database.open()
        with self.database.read() as connection:
            self.registry.load(connection)
            self.refusals.load(connection)
            self.logins.load(connection)
            self.api_tokens.load(connection)
            self.audit.load(connection)
            self.updates.shelf.load(connection)
            self.farm.load(connection)
            self.historian.load(series.load(connection))

    def _listen(self) -> None:
        self.directory.start()
        self.pools.start()
        self.registry.listen(self.link)
        self.farm.listen()
        self.broker_figures.listen(self.link)
        self.command_log.listen(self.link)
        self.historian.listen(self.history_link)

    def _appear(self, epoch: int) -> None:
        card = NodeCard(
            name=BOARD,
            epoch=epoch,
            label="Board",
            version=version("callboard"),
            host=_host(),
            http=self._url,
        )
        self.presence = Presence(self.link, card=card, epoch=epoch, instance=new_instance())
        self.presence.on_conflict(self._give_up)
        self.callee = Callee(self.link, self.presence)
        Workers(self.forgetting, self.history, self.registry).offer(self.presence, self.callee)
        FarmWorkers(self.farm, self.farm_api).offer(self.presence, self.callee)
        self.farm.appear(self.presence)
        self.calling.offer(self.presence, self.callee)

    def _services(self) -> Services:
        links = (self.link, self.history_link)
        health = Health(
            links=links, writer=self.writer, buffer=self.buffer, farm=lambda: self.farm.desk.problem
        )
        return Services(
            site=self._settings.site,
            version=version("callboard"),
            endpoint=self._endpoint,
            link=self.link,
            registry=self.registry,
            forgetting=self.forgetting,
            values=self.historian.values,
            history=self.history,
            refusals=self.refusals,
            logins=self.logins,
            artifacts=self.artifacts,
            pools=self.pools,
            farm=self.farm,
            farm_api=self.farm_api,
            audit=self.audit,
            people=self.people,
            updates=self.updates,
            keys=self.keys,
            join_codes=self.join_codes,
            desk=self.desk,
            rotation=self.rotation,
            feed=self._feed,
            health=health,
            metrics=Metrics(
                buffer=self.buffer,
                writer=self.writer,
                upkeep=self.upkeep,
                historian=self.historian,
                registry=self.registry,
                refusals=self.refusals,
                artifacts=self.artifacts,
                feed=self._feed,
                health=health,
                broker=self.broker_figures,
                farm=self.farm,
                links=links,
            ),
        )

    def _wait_for_broker(self) -> None:
        try:
            self.link.wait_connected(_PATIENCE)
            self.history_link.wait_connected(_PATIENCE)
            self.directory.wait_complete(_PATIENCE)
        except (Unavailable, TimedOut) as error:
            _log.warning("the board starts without the broker: %s", error.message)

    async def _tidy(self) -> None:
        steady = Steady(_log, "housekeeping")
        while True:
            with steady:
                await asyncio.to_thread(self.registry.tidy)
                await asyncio.to_thread(self.artifacts.tidy)
                await asyncio.to_thread(self.pools.tidy)
                await asyncio.to_thread(self.keys.tend)
                await asyncio.to_thread(self.command_log.tidy)
            await asyncio.sleep(_TIDY_EVERY)

    def _give_up(self, error: CallboardError) -> None:
        failed = self._failed
        if failed is not None:
            failed.get_loop().call_soon_threadsafe(_fail, failed, error)

    def _follow_link(self) -> None:
        # Only now is it known that no other board runs here, whose connection we would take over.
        if not self._following:
            self._following = True
            self.history_link.start()

    async def _stop_http(self, http: HttpServer) -> None:
        self._feed.close()
        await http.stop()

    def _stop_links(self) -> None:
        self.callee.close()
        self.history_link.stop(timeout=1.0)
        self.link.stop(farewell=self.presence.farewell(), timeout=1.5)

    def _stop_writer(self) -> None:
        with contextlib.suppress(Overloaded):
            self.registry.note_all()
        if not self.writer.stop(_LAST_WRITES):
            _log.error("the database does not answer: %d readings are lost", len(self.buffer))


def _fail(future: asyncio.Future[None], error: CallboardError) -> None:
    if not future.done():
        future.set_exception(error)


def _raise_epoch(path: Path) -> int:
    try:
        return next_epoch(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreUnavailable(
            f"cannot write {path}: {reason}; make room, or give yourself the folder"
        ) from error


def _host() -> Host:
    return Host(
        hostname=platform.node(),
        system=platform.system(),
        machine=platform.machine(),
        python=platform.python_version(),
    )
