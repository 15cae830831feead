"""Mosquitto as the engine: its files are written here, and the program is started, watched and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections import deque
from pathlib import Path

from callboard_broker.access import Role, Users
from callboard_broker.access.authority import TrustFiles
from callboard_broker.access.certificates import is_issued_by
from callboard_broker.access.mosquitto import access_file
from callboard_broker.engine import credential_for, endpoint_of
from callboard_broker.engine.keeper import Keeper
from callboard_broker.engine.kept_out import KeptOut
from callboard_broker.engine.lan import mosquitto_listeners
from callboard_core.errors import CallboardError, Conflict, Failed, NotFound
from callboard_core.link import Endpoint
from callboard_core.listening import port_taken
from callboard_core.processes import dying_with_parent
from callboard_core.runtime import write_private
from callboard_core.settings import Settings
from callboard_core.trust.serving import stamps

__all__ = ["MosquittoEngine", "configuration", "find_program", "version"]

log = logging.getLogger(__name__)

#: Seconds until it accepts connections, and until it has ended after SIGTERM.
_START_TIMEOUT = 15.0
_STOP_TIMEOUT = 3.0
_LINES_KEPT = 20
#: Seconds between looks at users and certificate; a revoked credential's session must be gone within 5.
_LOOK = 2.0
# Debian keeps it where only root's PATH looks.
_SEARCH = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", "/sbin", "/opt/homebrew/sbin"))


def find_program() -> str:
    """Return the path of the installed program.

    Raises:
        NotFound: it is not installed.
    """
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=_SEARCH)
    if found is None:
        raise NotFound(
            "mosquitto is not installed; install it (sudo apt install mosquitto) or use --engine embedded"
        )
    return found


def version(program: str) -> str:
    """Return what ``mosquitto -h`` says its version is, or ``?``."""
    told = subprocess.run([program, "-h"], capture_output=True, text=True, check=False, timeout=5).stdout
    found = re.search(r"version (\S+)", told)
    return found[1] if found else "?"


def configuration(settings: Settings, folder: Path, *, root: bool) -> str:
    """Return the text of ``mosquitto.conf``.

    Args:
        settings: address, port and limits.
        folder: where password file, access file and the store lie.
        root: we run as root, so that it must be told not to give its rights up (the folder is private).
    """
    mqtt = settings.mqtt
    return "\n".join(
        [
            f"listener {mqtt.port} {mqtt.bind}",
            *(["user root"] if root else []),
            *mosquitto_listeners(settings),
            "allow_anonymous false",
            f"password_file {folder / 'passwords'}",
            f"acl_file {folder / 'access'}",
            "persistence true",
            f"persistence_location {folder}/",
            "persistence_file retained.db",
            # A save rewrites everything. Changes of the directory are saved at once by the keeper.
            "autosave_interval 60",
            "persistent_client_expiration 14d",
            # A new subscriber is sent the whole directory; the default would drop all beyond 1,000 messages.
            "max_queued_messages 100000",
            "max_queued_bytes 134217728",
            "max_inflight_messages 200",
            f"message_size_limit {mqtt.limits.message_bytes}",
            f"sys_interval {mqtt.sys_interval}",
            # Without it a QoS 1 round trip waits for delayed acknowledgements: 44 ms instead of 0.2.
            "set_tcp_nodelay true",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
            "log_type information",
            # Who is refused is told in no other way.
            "connection_messages true",
            "",
        ]
    )


class MosquittoEngine:
    """A Mosquitto of our own.

    Args:
        settings: ``mqtt.port`` must be a number (not 0).
        users: who may connect.

    Raises:
        NotFound: the program is not installed.
    """

    def __init__(self, *, settings: Settings, users: Users) -> None:
        self._settings = settings
        self._users = users
        self._program = find_program()
        self._folder = settings.state / "mosquitto"
        self._process: asyncio.subprocess.Process | None = None
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._log: asyncio.Task[None] | None = None
        self._keeper: Keeper | None = None
        self._kept_out = KeptOut()
        self._marks: dict[str, str] = {}
        self._following: asyncio.Task[None] | None = None
        self._stopping = False
        self._runs = asyncio.Event()
        # Held while one process takes the place of another.
        self._restarting = asyncio.Lock()
        self._shown = ""

    @property
    def endpoint(self) -> Endpoint:
        """Where clients of this machine connect."""
        return endpoint_of(self._settings)

    async def start(self) -> None:
        """Write the files, start the program, return once it accepts connections."""
        self._write_files()
        try:
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End the program: it saves its store and goes; if it does not, it is killed."""
        self._stopping = True
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._end()

    async def wait(self) -> None:
        """Return when stopped; raise when the program ended by itself."""
        while self._process is not None:
            process = self._process
            code = await process.wait()
            async with self._restarting:
                if self._stopping:
                    return
                if process is self._process:
                    raise Failed(f"mosquitto ended with {code}: {self._last_words()}")

    async def _launch(self) -> None:
        """Start the program, and return once it accepts connections."""
        self._runs.clear()
        self._shown = self._trust.server.read_text() if self._settings.lan.enabled else ""
        process = self._process = await asyncio.create_subprocess_exec(
            self._program,
            "-c",
            str(self._folder / "mosquitto.conf"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=dying_with_parent(),
        )
        self._log = asyncio.create_task(self._read_log(process))
        await self._accepting(process)
        credential = credential_for(self._settings, Role.BOARD)
        self._keeper = Keeper(self.endpoint, self._settings.site, credential, process.pid)
        self._keeper.start()

    async def _end(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await asyncio.to_thread(keeper.stop)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(_STOP_TIMEOUT):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._log is not None:
            await self._log

    async def _restart(self) -> None:
        async with self._restarting:
            await self._end()
            try:
                await self._launch()
            except BaseException:
                await self._end()
                raise

    async def _follow(self) -> None:
        """Tell it of users, roles and certificates that have changed.

        On SIGHUP it reads its files again, disconnects whoever's password is not valid any more, and asks the new rules
        about everything that the others send and are sent. A new certificate is shown to new clients, but by its
        WebSocket listener only after a restart: it is restarted once that one shows a certificate of an authority that
        is trusted no more.
        """
        server = [self._trust.server, self._trust.bundle] if self._settings.lan.enabled else []
        seen = stamps(server)
        while self._process is not None and self._process.returncode is None:
            await asyncio.sleep(_LOOK)
            self._tell_kept_out()
            try:
                found, changed = stamps(server), self._users.marks() != self._marks
                if changed:
                    self._write_users()
                if found != seen and not is_issued_by(self._shown, self._trust.bundle.read_text()):
                    print("mosquitto: restarted, to show its new certificate over WebSocket too", flush=True)  # noqa: T201
                    await self._restart()
                elif changed or found != seen:
                    self._process.send_signal(signal.SIGHUP)
                seen = found
            except (CallboardError, OSError, ValueError) as error:
                log.error("%s", error)  # noqa: TRY400 - the message says all; what was in force stays in force

    def _tell_kept_out(self) -> None:
        if self._keeper is not None and (entries := self._kept_out.take()):
            self._keeper.tell_audit(json.dumps(entries).encode())

    @property
    def _trust(self) -> TrustFiles:
        return TrustFiles.of(self._settings.state)

    def _write_files(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._write_users()
        text = configuration(self._settings, self._folder, root=os.geteuid() == 0)
        write_private(self._folder / "mosquitto.conf", text)

    def _write_users(self) -> None:
        # Read first: what changes from here on is noticed at the next look.
        self._marks = self._users.marks()
        write_private(self._folder / "passwords", self._users.mosquitto_passwords())
        rules = access_file(self._settings.site, self._users.enabled(), self._users.roles.find)
        write_private(self._folder / "access", rules)

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101 - it was asked for
        async for line in process.stderr:
            text = re.sub(rb"^\d+: ", b"", line).decode(errors="replace").rstrip()
            self._lines.append(text)
            if text.startswith("mosquitto version") and text.endswith("running"):
                self._runs.set()
            if self._kept_out.read(text, time.time()):
                print(f"mosquitto: {text}", flush=True)  # noqa: T201 - our output is the log

    async def _accepting(self, process: asyncio.subprocess.Process) -> None:
        """Wait until it says that it runs; a connection could be to somebody else who has its port."""
        ended = asyncio.create_task(process.wait())
        runs = asyncio.create_task(self._runs.wait())
        await asyncio.wait({ended, runs}, timeout=_START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        runs.cancel()
        if process.returncode is not None:
            if self._log is not None:
                await self._log
            raise self._start_failure()
        if not self._runs.is_set():
            raise Failed(f"mosquitto does not run after {_START_TIMEOUT:g} s: {self._last_words()}")

    def _start_failure(self) -> Conflict | Failed:
        said = self._last_words()
        port = self._settings.mqtt.port
        if "Address already in use" in said:
            return port_taken(port, what="mqtt", flag="--mqtt-port")
        return Failed(f"mosquitto does not start: {said}")

    def _last_words(self) -> str:
        said = [line for line in self._lines if not line.startswith(("Note:", "Warning:"))]
        return " / ".join(said[-3:]) or "it said nothing"
