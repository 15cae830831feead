"""What a running board tells other programs of this machine: ``STATE/runtime.json``, and the lock on the state folder.

The lock, not the file, says whether a board runs: it goes with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from callboard_core.errors import Conflict, Failed

__all__ = [
    "Console",
    "CredentialAt",
    "Http",
    "Lan",
    "Mqtt",
    "RoleState",
    "Runtime",
    "credential_file",
    "hold_state",
    "is_held",
    "read_runtime",
    "remove_runtime",
    "runtime_file",
    "write_private",
    "write_runtime",
]


_TRIES = 5
_BETWEEN_TRIES = 0.02


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Mqtt(_Part):
    """Where MQTT clients, or others, connect."""

    host: str
    port: int
    url: str


class Http(_Part):
    """Where the HTTP API answers."""

    url: str


class Console(_Part):
    """Where people log in."""

    url: str


class Lan(_Part):
    """Where other machines connect, encrypted.

    Attributes:
        mqtts: MQTT; missing, as ``wss``, when the broker is not the board's own.
        wss: MQTT over WebSocket.
        https: the HTTP API.
        console: the console's URL.
        ca: the certificate by which they know the board.
        bind: the address on which all of it listens.
    """

    mqtts: Mqtt | None = None
    wss: Mqtt | None = None
    https: Mqtt
    console: Mqtt | None = None
    ca: Path
    bind: str = "0.0.0.0"


class CredentialAt(_Part):
    """A user, and the file whose first line is the password."""

    username: str
    password_file: Path


class RoleState(_Part):
    """How one of the board's processes is."""

    state: str
    pid: int | None = None
    restarts: int = Field(default=0, ge=0)


class Runtime(_Part):
    """The content of ``runtime.json``. ``pid`` is the supervisor's, ``pids`` those of the roles."""

    site: str
    version: str
    pid: int
    started: float
    ready: bool
    engine: str
    mqtt: Mqtt
    http: Http
    console: Console | None = None
    lan: Lan | None = None
    pids: dict[str, int]
    roles: dict[str, RoleState]
    credentials: dict[str, CredentialAt]


def credential_file(state: Path, role: str) -> Path:
    """Return where the first user of a role (who has the role's name) finds the password."""
    return state / "credentials" / f"{role}.password"


def runtime_file(state: Path) -> Path:
    """Return where a state folder keeps it."""
    return state / "runtime.json"


def write_runtime(state: Path, runtime: Runtime) -> None:
    """Replace the file (0600)."""
    write_private(runtime_file(state), runtime.model_dump_json(indent=2, exclude_none=True) + "\n")


def remove_runtime(state: Path) -> None:
    """Remove the file, if it is there."""
    runtime_file(state).unlink(missing_ok=True)


def read_runtime(state: Path) -> Runtime | None:
    """Return what the board that runs on this state folder tells, or None when none is running (or not ready yet).

    Raises:
        Failed: the file is damaged.
    """
    if not is_held(state):
        return None
    try:
        return Runtime.model_validate_json(runtime_file(state).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Failed(
            f"{runtime_file(state)} is damaged ({error.error_count()} errors); restart the board"
        ) from None


@contextlib.contextmanager
def hold_state(state: Path) -> Iterator[None]:
    """Hold a state folder for this process.

    Raises:
        Conflict: another process holds it; the message names it.
    """
    with _lock_file(state).open("a+") as handle:
        if not _lock(handle.fileno()):
            handle.seek(0)
            pid = handle.read().strip() or "?"
            raise Conflict(
                f"a board (pid {pid}) already runs on {state}; stop it with `kill {pid}`, "
                "or give this one another folder with --state"
            )
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def _lock(descriptor: int) -> bool:
    # Somebody who only asks whether the folder is held (is_held) holds it for an instant, too.
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_BETWEEN_TRIES)
        else:
            return True
    return False


def is_held(state: Path) -> bool:
    """Tell whether a board runs on this state folder."""
    try:
        with _lock_file(state).open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all, and on the disk before this returns."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _lock_file(state: Path) -> Path:
    return state / "up.lock"
