"""What ``callboard up`` shows: progress while starting, the ready lines, and what happens to its processes."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from callboard_broker.access.authority import TrustFiles
from callboard_broker.access.names import lan_hosts
from callboard_broker.engine import endpoint_of, is_outside
from callboard_console.cli.addresses import is_local
from callboard_core.addresses import join_address
from callboard_core.runtime import credential_file
from callboard_nodes.group import Ended, Event, Logged, Ready

if TYPE_CHECKING:
    from callboard_console.cli.board_group import Plan
    from callboard_core.settings import Settings

__all__ = ["Screen", "ready_lines"]

#: Bytes of a role's log file before it is put aside, and how many are kept.
_LOG_BYTES = 2_000_000
_LOGS_KEPT = 2


class Screen:
    """Shows a starting and running group; standard output gets the ready lines, standard error the rest."""

    def __init__(self, plan: Plan, *, verbose: bool, began: float) -> None:
        self._plan = plan
        self._verbose = verbose
        self._began = began
        self._up: set[str] = set()
        self._looping: set[str] = set()
        self._on_change: Callable[[], None] | None = None
        self._logs = {member.name: _log_file(plan.settings.state, member.name) for member in plan.members}
        self._progress = _spinner(f"starting {self._pending()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_progress()
        for handler in self._logs.values():
            handler.close()

    def report(self, event: Event) -> None:
        """Take in what happened to a member."""
        match event:
            case Logged(name, line):
                self._log(name, line)
                return
            case Ready(name):
                self._up.add(name)
                self._looping.discard(name)
                if self._progress is not None:
                    self._progress.update(f"starting {self._pending()}")
            case Ended():
                self._ended(event)
        if self._on_change is not None:
            self._on_change()

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call ``on_change`` now and whenever a member started, became ready or ended."""
        self._on_change = on_change
        on_change()

    def ready(self, join_code: str | None = None) -> None:
        """Say that all is answering, and what to do with it."""
        seconds = time.monotonic() - self._began
        self._end_progress()
        print("\n".join(ready_lines(self._plan, seconds, join_code)), flush=True)
        if not is_local(self._plan.settings.mqtt.bind) and not is_outside(self._plan.settings):
            self.warn(
                f"listening unencrypted on {self._plan.settings.mqtt.bind}: passwords and values can be read "
                "on that network; use it only where you trust everybody"
            )

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._end_progress()
        self._on_change = None
        if sys.stderr.isatty():
            self.say("stopping …")

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.say(f"warning: {text}")

    def say(self, text: str) -> None:
        """Print a line to standard error; a closed terminal is no reason to stop."""
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)

    def _ended(self, event: Ended) -> None:
        self._up.discard(event.name)
        if event.delay is None:
            return  # its start has failed; the error itself will say so
        self.say(f"{event.name} {event.reason}; started again in {event.delay:.1f} s")
        if event.looping and event.name not in self._looping:
            self._looping.add(event.name)
            self.say(
                f"{event.name} ends again and again. Its last lines (more in {self._log_path(event.name)}):"
            )
            for line in event.last_lines[-10:]:
                self.say(f"  {line}")

    def _log(self, name: str, line: str) -> None:
        self._logs[name].emit(logging.makeLogRecord({"msg": line}))
        if self._verbose:
            self.say(f"{name}: {line}")

    def _log_path(self, name: str) -> Path:
        return Path(self._logs[name].baseFilename)

    def _pending(self) -> str:
        return ", ".join(member.name for member in self._plan.members if member.name not in self._up)

    def _end_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def ready_lines(plan: Plan, seconds: float, join_code: str | None = None) -> list[str]:
    """Return what a person needs to know once all is answering; the first line starts with ``ready``."""
    settings, endpoint = plan.settings, endpoint_of(plan.settings)
    viewer, operator, node = (
        credential_file(settings.state, role) for role in ("viewer", "operator", "node")
    )
    bind = settings.mqtt.bind
    lines = [f"ready in {seconds:.1f} s: site {settings.site}, {endpoint} ({settings.mqtt.engine})"]
    if plan.console_url:
        lines.append(f"  console    {plan.console_url}  (user operator, or viewer to look only)")
    lines += [
        f"  HTTP API   {plan.http_url}/docs",
        f"  passwords  {operator} and {viewer}",
        f"  watch it   {_watch_line(endpoint.host, endpoint.port, viewer, settings.site)}",
    ]
    if settings.lan.enabled:
        return [*lines, *_lan_lines(settings, join_code)]
    if is_outside(settings):
        return lines
    if is_local(bind):
        return [
            *lines,
            "  add a machine: start with --lan, which listens encrypted and prints a join code",
        ]
    return [
        *lines,
        f"  add a machine: copy {node} there, then: callboard node --password-file node.password",
    ]


def _lan_lines(settings: Settings, join_code: str | None) -> Iterator[str]:
    lan, host = settings.lan, lan_hosts(settings.lan)[0]
    if settings.console.enabled:
        yield f"  console for other machines   https://{join_address(host, lan.console_port)}"
    yield f"  HTTP API for other machines  https://{join_address(host, lan.http_port)}/docs"
    if not is_outside(settings):
        yield f"  MQTT for other machines      mqtts://{join_address(host, lan.mqtt_port)}"
    yield f"  they know this board by      {TrustFiles.of(settings.state).authority}"
    if join_code is not None:
        yield "  add a machine (one, within an hour; `callboard join` makes more codes). There:"
        yield f"    callboard node --join {join_code}"


def _watch_line(host: str, port: int, password: Path, site: str) -> str:
    topic = shlex.quote(f"{site}/#")
    return (
        f'mosquitto_sub -h {host} -p {port} -u viewer -P "$(cat {shlex.quote(str(password))})" -v -t {topic}'
    )


def _log_file(state: Path, role: str) -> logging.handlers.RotatingFileHandler:
    folder = state / "log"
    folder.mkdir(mode=0o700, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        folder / f"{role}.log", maxBytes=_LOG_BYTES, backupCount=_LOGS_KEPT, encoding="utf-8", delay=True
    )
    # A full disk costs log lines, not the board.
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # noqa: ARG005
    return handler


def _spinner(text: str) -> Any:
    """Return a started spinner when a person watches, else None."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    status = Console(stderr=True).status(text)
    status.start()
    return status
