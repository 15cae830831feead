"""What an operator may look at on a node from afar: the agent's log, and its own diagnosis. Nothing here changes anything."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from callboard_core.callee import Callee, Request
from callboard_core.cards import ActionCard
from callboard_core.errors import Failed
from callboard_core.messages import read_args
from callboard_core.presence import Presence
from callboard_core.settings import Settings
from callboard_core.topics import Kind
from callboard_core.updates import Tailed

__all__ = ["LOG", "Desk", "Hands", "LogArgs", "RecentLog"]

#: Lines that are kept in memory, and characters of one.
_LINES, _LINE = 2000, 1000
#: Seconds that a diagnosis may take, and that asking for the log may wait for a new line.
_DIAGNOSIS = 60.0
_LONGEST_WAIT = 25.0
#: Those who may wait for lines at a time.
_LISTENERS = 8


class Desk(Protocol):
    """What is needed of the running node."""

    presence: Presence
    callee: Callee


class LogArgs(BaseModel):
    """Which lines."""

    model_config = ConfigDict(extra="forbid")

    lines: int = Field(default=100, ge=1, le=_LINES, description="at most so many, the newest")
    after: int = Field(
        default=-1, ge=-1, description="only those behind this one; what the last answer called next"
    )
    wait: float = Field(default=0, ge=0, le=_LONGEST_WAIT, description="seconds to wait if there are none")


class RecentLog(logging.Handler):
    """The last lines of this process's log, in memory: a card in a Pi is worn out by more writing than it needs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._kept: deque[str] = deque(maxlen=_LINES)
        self._count = 0
        self._more = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, as one line."""
        try:
            line = self.format(record).replace("\n", " | ")[:_LINE]
        except (TypeError, ValueError):
            self.handleError(record)
            return
        with self._more:
            self._kept.append(line)
            self._count += 1
            self._more.notify_all()

    def tail(self, lines: int, after: int = -1, wait: float = 0.0) -> Tailed:
        """Return the newest lines.

        Args:
            lines: at most so many.
            after: only those that came behind this one; -1 for any.
            wait: seconds to wait for one, if there is none.
        """
        end = time.monotonic() + wait
        with self._more:
            if after > self._count:
                after = -1  # the agent was started anew, and counts from the beginning
            while 0 <= self._count <= after and (left := end - time.monotonic()) > 0:
                self._more.wait(left)
            new = self._count if after < 0 else self._count - after
            found = list(self._kept)[-min(lines, new) :] if new > 0 else []
            return Tailed(lines=found, next=self._count)


#: Of this process; the agent has it listen.
LOG = RecentLog()


class Hands:
    """Offers the actions ``log`` and ``diagnose`` where ``node.allow`` allows them; a part of the running node."""

    def __init__(self, desk: Desk, settings: Settings) -> None:
        self._desk, self._settings = desk, settings

    def start(self) -> None:
        """Offer what is allowed."""
        allowed = set(self._settings.node.allow)
        if "log" in allowed:
            self._offer("log", "Last lines of the agent's log", LogArgs.model_json_schema())
            self._desk.callee.handle(
                Kind.ACTION, "log", self.log, timeout=_LONGEST_WAIT + 5, concurrency=_LISTENERS
            )
        if "diagnose" in allowed:
            self._offer("diagnose", "What `callboard doctor` says on this machine", None)
            self._desk.callee.handle(Kind.ACTION, "diagnose", self.diagnose, timeout=_DIAGNOSIS + 5)

    async def stop(self) -> None:
        """Nothing is left running."""

    def log(self, request: Request) -> JsonValue:
        """Answer with lines of the log."""
        wanted = read_args(LogArgs, request.args)
        return LOG.tail(wanted.lines, wanted.after, wanted.wait).model_dump(mode="json")

    def diagnose(self, _request: Request) -> JsonValue:
        """Answer with what the doctor says.

        Raises:
            Failed: it says nothing that can be read.
        """
        command = [sys.executable, "-m", "callboard_console.cli.main", "doctor", "--json"]
        command += ["--state", str(self._settings.state), "--site", self._settings.site]
        node = self._settings.node
        mine = {"CALLBOARD_NODE_ID": node.id, "CALLBOARD_NODE_STATE": str(node.state)}
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_DIAGNOSIS,
                check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **mine},
            )
            found: JsonValue = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise Failed(f"the diagnosis has not ended within {_DIAGNOSIS:g} s") from None
        except (OSError, ValueError) as error:
            raise Failed(f"there is no diagnosis: {error}") from None
        return found

    def _offer(self, name: str, description: str, parameters: dict[str, JsonValue] | None) -> None:
        card = ActionCard(
            name=name, epoch=0, description=description, tags=["system"], timeout=_DIAGNOSIS + 5
        )
        self._desk.presence.pin(card.model_copy(update={"parameters": parameters}) if parameters else card)
